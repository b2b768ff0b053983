"""Everything that is counted in a running process, gathered from its parts at one moment."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from eastgate.fastpath.loop.engine import Engine
from eastgate.fastpath.loop.listener_states import ListenerCounters
from eastgate.fastpath.reason import Reason
from eastgate.xds.ads import AdsClient
from eastgate.xds.decode import CDS, EDS, LDS, RDS, SDS, SHORT_NAMES
from eastgate.xds.store import Store

from .about import About
from .admin import stats
from .admin.certs import days_until_first_expires
from .admin.istio_traffic import IstioTraffic
from .admin.memberships import Memberships
from .admin.panics import Panics
from .admin.process_pages import memory_bytes
from .compile.compiler import Compiler
from .control_errors import ControlErrors
from .disk.access_log import AccessLog
from .disk.configured_logs import ConfiguredLogs
from .disk.last_good import LastGood
from .limits import Overload
from .listeners import Listeners, summed
from .membership.dns_clusters import DnsClusters
from .membership.ejections import Ejections
from .membership.health_checks import HealthChecks
from .secret_sources import SecretSource
from .watchdog import Watchdog

if TYPE_CHECKING:
    from .disk.recorder import Recorder

STREAM_PREFIXES = {
    CDS: "cluster_manager.cds",
    EDS: "eastgate.eds",
    LDS: "listener_manager.lds",
    RDS: "eastgate.rds",
    SDS: "eastgate.sds",
}


@dataclass(frozen=True, slots=True)
class Counting:
    """Parts of a process that count. None where a part is not wanted."""

    static: Callable[[], Mapping[str, tuple[int, int]]]
    """(all so far, open now) of each static listener"""
    about: About
    engine: Engine
    store: Store
    ads: AdsClient
    sds: tuple[SecretSource, ...]
    compiler: Compiler
    listeners: Listeners
    memberships: Memberships
    panics: Panics
    istio: IstioTraffic
    watchdog: Watchdog
    dns: DnsClusters
    health: HealthChecks
    ejections: Ejections
    overload: Overload
    last_good: LastGood
    access_log: AccessLog | None
    configured_logs: ConfiguredLogs
    recorder: "Recorder | None"
    errors: ControlErrors

    def collect(self, state: int, *, started: bool, warming: Collection[str]) -> stats.ProcessStats:
        """Everything that is counted, now. ``state``, ``started`` and ``warming``: how far the process is."""
        return stats.ProcessStats(
            state=state,
            uptime_s=self.about.uptime_s,
            workers_started=started,
            connected=self.ads.connected,
            connects=self.ads.connects,
            listeners=self._listeners(),
            clusters=self._clusters(warming),
            streams=self._streams(),
            events_dropped=self.engine.events_dropped(),
            pipes_refused=self.engine.pipes_refused(),
            busy_polls=self.engine.busy_polls(),
            memory_pressure=self.overload.pressure if self.overload.memory.limit_bytes is not None else None,
            shedding=self.overload.active,
            stale=self.last_good.stale,
            days_until_first_cert_expiring=days_until_first_expires(self.store.secrets.snapshot, datetime.now(UTC)),
            state_save_failed=self.last_good.save_failed,
            access_log_failed=sum(one.failed for one in self._logs()),
            access_log_dropped=sum(one.dropped for one in self._logs()),
            journal=self.recorder.counters() if self.recorder is not None else (0, 0, 0),
            control_errors={part.value: count for part, count in self.errors.counts.items()},
            terminating=[
                self.listeners.address_of(name) for name, one in self.compiler.listeners.items() if any(one.tls)
            ],
            chains=self.compiler.chain_counters(),
            inspected=self.engine.inspected(),
            workers=len(self.watchdog.misses),
            memory=memory_bytes(),
            istio=self.istio.stats(),
            watchdog=tuple((one.miss, one.mega_miss) for one in self.watchdog.misses),
        )

    def _logs(self) -> list[AccessLog | ConfiguredLogs]:
        return [self.configured_logs, *([self.access_log] if self.access_log is not None else [])]

    def _listeners(self) -> dict[str, ListenerCounters]:
        """By address, as Envoy's names have it; the static ones by their names, which are addresses."""
        found: dict[str, list[ListenerCounters]] = {}
        for name, counters in self.listeners.counters().items():
            found.setdefault(self.listeners.address_of(name), []).append(counters)
        for name, (total, active) in self.static().items():
            found.setdefault(name, []).append(ListenerCounters(total, active, 0, 0, 0, (0,) * len(Reason)))
        return {name: summed(parts) for name, parts in found.items()}

    def _streams(self) -> tuple[stats.StreamStats, ...]:
        resources = self.ads.ledger.counts(self.store.snapshot, self.store.wanted)
        streams = tuple(
            stats.StreamStats(
                prefix=prefix,
                update_attempt=one.update_attempt,
                update_success=one.update_success,
                update_rejected=one.update_rejected,
                update_failure=one.update_failure,
                version=one.version,
                kind=SHORT_NAMES[type_url],
                rejections=self.ads.ledger.rejections[type_url],
                resources=resources[type_url],
            )
            for type_url, prefix in STREAM_PREFIXES.items()
            for one in (self.ads.statistics[type_url],)
        )
        return streams + tuple(
            stats.StreamStats(
                prefix=f"sds.{one.source.removeprefix('cluster:')}",
                update_attempt=one.statistics.update_attempt,
                update_success=one.statistics.update_success,
                update_rejected=one.statistics.update_rejected,
                update_failure=one.statistics.update_failure,
                version="",
            )
            for one in self.sds
        )

    def _clusters(self, warming: Collection[str]) -> dict[str, stats.ClusterStats]:
        clusters, ledger = {}, self.ads.ledger
        for name, compiled in self.compiler.clusters.items():
            # The table of an ORIGINAL_DST cluster has no endpoint that is one.
            known = compiled.table is not None and compiled.assignment is not None
            members = compiled.table.priorities() if compiled.table is not None and known else ()
            clusters[name] = stats.ClusterStats(
                counters=self.compiler.counters(name),
                total=sum(priority[0] for priority in members),
                healthy=sum(priority[1] for priority in members),
                degraded=sum(priority[2] for priority in members),
                excluded=sum(priority[3] for priority in members),
                changes=self.memberships.changes(name),
                warming=name in warming,
                stat_name=compiled.cluster.alt_stat_name,
                dns=self.dns.counters(name),
                health=self.health.counters(name),
                outlier=self.ejections.counters.get(name),
                circuit_breakers=compiled.cluster.circuit_breakers,
                assignments=(
                    (ledger.assignments_accepted[assigned], ledger.assignments_rejected[assigned])
                    if (assigned := compiled.cluster.assignment_name)
                    else None
                ),
                panic_picks=self.panics.picks(name),
                secured=compiled.spec.secured,
            )
        return clusters
