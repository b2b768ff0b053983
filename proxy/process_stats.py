"""Everything that is counted in a running process, gathered from its parts at one moment."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime

from eastgate.fastpath.loop.listener_states import ListenerCounters
from eastgate.fastpath.reason import Reason
from eastgate.xds.decode import CDS, EDS, LDS, RDS, SDS, SHORT_NAMES
from eastgate.xds.record import record
from eastgate.xds.sds import SdsStatistics
from eastgate.xds.secret_store import SecretSnapshot

from .about import About
from .admin import stats
from .admin.certs import days_until_first_expires, seconds_until_own_expires
from .admin.cluster_stats import ClusterStats
from .admin.process_pages import memory_bytes
from .admin.stat import Stat
from .configuration import Configuration
from .control_errors import ControlErrors
from .disk.access_log import AccessLog
from .disk.configured_logs import ConfiguredLogs
from .listeners import summed
from .observing import Observing
from .readiness import Readiness
from .serving import Serving
from .shedding import Shedding
from .watchdog import Watchdog

STREAM_PREFIXES = {
    CDS: "cluster_manager.cds",
    EDS: "eastgate.eds",
    LDS: "listener_manager.lds",
    RDS: "eastgate.rds",
    SDS: "eastgate.sds",
}


@record
class Counting:
    """Parts of a process that count."""

    static: Callable[[], Mapping[str, tuple[int, int]]]
    """(all so far, open now) of each static listener"""
    about: About
    serving: Serving
    configuration: Configuration
    observing: Observing
    readiness: Readiness
    watchdog: Watchdog
    shedding: Shedding
    errors: ControlErrors

    def collect(self) -> stats.ProcessStats:
        """Everything that is counted, now."""
        # Before the question whether it has begun: that is where it is found out.
        state = self.readiness.state()
        ads, last_good, recorder = self.configuration.ads, self.configuration.last_good, self.configuration.recorder
        engine, compiler = self.serving.engine, self.serving.compiler
        secrets, now = self.configuration.store.secrets.snapshot, datetime.now(UTC)
        warming = frozenset(self.readiness.warming()) & compiler.clusters.keys()
        return stats.ProcessStats(
            state=state,
            uptime_s=self.about.uptime_s,
            workers_started=self.readiness.initialized,
            connected=ads.connected,
            connects=ads.connects,
            listeners=self._listeners(),
            clusters=Clusters(self.serving, self.configuration, self.observing, warming),
            stat_names={name: one.cluster.alt_stat_name for name, one in compiler.clusters.items()},
            warming=warming,
            streams=self._streams(now),
            events_dropped=engine.events_dropped(),
            pipes_refused=engine.pipes_refused(),
            busy_polls=engine.busy_polls(),
            memory_pressure=self.shedding.pressure,
            shedding=self.shedding.active,
            stale=last_good.stale,
            days_until_first_cert_expiring=days_until_first_expires(secrets, now),
            state_save_failed=last_good.save_failed,
            access_log_failed=sum(one.failed for one in self._logs()),
            access_log_dropped=sum(one.dropped for one in self._logs()),
            journal=recorder.counters() if recorder is not None else (0, 0, 0),
            control_errors={part.value: count for part, count in self.errors.counts.items()},
            terminating=[
                self.serving.listeners.address_of(name) for name, one in compiler.listeners.items() if any(one.tls)
            ],
            chains=compiler.chain_counters(),
            inspected=engine.inspected(),
            proxied=self.serving.listeners.proxied(),
            workers=len(self.watchdog.misses),
            memory=memory_bytes(),
            further=self._further(secrets, now),
            watchdog=tuple((one.miss, one.mega_miss) for one in self.watchdog.misses),
        )

    def _further(self, secrets: SecretSnapshot, now: datetime) -> Iterator[Stat]:
        yield from self.observing.istio.stats()
        yield from self.observing.spill.stats()
        left_s = seconds_until_own_expires(secrets, now)
        if left_s is not None:
            name = "eastgate.certificate_seconds_left"
            yield Stat(name, left_s, name.replace(".", "_"), gauge=True)

    def _logs(self) -> list[AccessLog | ConfiguredLogs]:
        access_log = self.observing.access_log
        return [self.serving.configured_logs, *([access_log] if access_log is not None else [])]

    def _listeners(self) -> dict[str, ListenerCounters]:
        """By address, as Envoy's names have it; the static ones by their names, which are addresses."""
        found: dict[str, list[ListenerCounters]] = {}
        for name, counters in self.serving.listeners.counters().items():
            found.setdefault(self.serving.listeners.address_of(name), []).append(counters)
        for name, (total, active) in self.static().items():
            found.setdefault(name, []).append(ListenerCounters(total, active, 0, 0, 0, (0,) * len(Reason)))
        return {name: summed(parts) for name, parts in found.items()}

    def _streams(self, now: datetime) -> tuple[stats.StreamStats, ...]:
        ads, store = self.configuration.ads, self.configuration.store
        resources = ads.ledger.counts(store.snapshot, store.wanted)
        # Of the loop's clock, which the stream counts in.
        began_s = now.timestamp() - asyncio.get_running_loop().time()
        streams = tuple(
            stats.StreamStats(
                prefix=prefix,
                update_attempt=one.update_attempt,
                update_success=one.update_success,
                update_rejected=one.update_rejected,
                update_failure=one.update_failure,
                version=one.version,
                updated_ms=round((began_s + one.updated_s) * 1000) if one.updated_s else 0,
                durations_ms=one.durations_ms,
                kind=SHORT_NAMES[type_url],
                rejections=ads.ledger.rejections[type_url],
                resources=resources[type_url],
            )
            for type_url, prefix in STREAM_PREFIXES.items()
            for one in (ads.statistics[type_url],)
        )
        # Several may answer for one source: the workload's keys, and files that names of secrets say.
        sources: dict[str, list[SdsStatistics]] = {}
        for one in self.configuration.secret_sources:
            sources.setdefault(one.source, []).append(one.statistics)
        return streams + tuple(
            stats.StreamStats(
                prefix=f"sds.{source.removeprefix('cluster:')}",
                update_attempt=sum(one.update_attempt for one in found),
                update_success=sum(one.update_success for one in found),
                update_rejected=sum(one.update_rejected for one in found),
                update_failure=sum(one.update_failure for one in found),
                version="",
            )
            for source, found in sources.items()
        )


class Clusters(Mapping[str, ClusterStats]):
    """The counters of each cluster that there is now, counted when they are asked for. Raises KeyError for one that has
    left meanwhile.
    """

    def __init__(
        self, serving: Serving, configuration: Configuration, observing: Observing, warming: Collection[str]
    ) -> None:
        self._names = tuple(serving.compiler.clusters)
        self._serving = serving
        self._ledger = configuration.ads.ledger
        self._observing = observing
        self._warming = warming

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __getitem__(self, name: str) -> ClusterStats:
        serving, observing = self._serving, self._observing
        compiled = serving.compiler.clusters[name]
        # The table of an ORIGINAL_DST cluster has no endpoint that is one.
        known = compiled.table is not None and compiled.assignment is not None
        members = compiled.table.priorities() if compiled.table is not None and known else ()
        assigned = compiled.cluster.assignment_name
        accepted, rejected = self._ledger.assignments_accepted, self._ledger.assignments_rejected
        return ClusterStats(
            counters=serving.compiler.counters(name),
            total=sum(priority[0] for priority in members),
            healthy=sum(priority[1] for priority in members),
            degraded=sum(priority[2] for priority in members),
            excluded=sum(priority[3] for priority in members),
            changes=observing.memberships.changes(name),
            warming=name in self._warming,
            dns=serving.dns.counters(name),
            health=serving.health.counters(name),
            outlier=serving.ejections.counters.get(name),
            circuit_breakers=compiled.cluster.circuit_breakers,
            assignments=(accepted[assigned], rejected[assigned]) if assigned else None,
            panic_picks=observing.panics.picks(name),
            secured=compiled.spec.secured,
        )
