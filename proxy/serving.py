"""From a snapshot to what serves it: engine, compiler, listeners, and who of the endpoints is in or out.

Does not know where snapshots come from, and shows nothing.
"""

import asyncio
import random
from collections.abc import Set
from functools import partial
from random import Random
from typing import Protocol, TypeVar

from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.fastpath.loop.engine import Engine
from eastgate.proxy.compile.chain_numbers import ChainNumbers
from eastgate.proxy.compile.compiled import CompiledCluster
from eastgate.proxy.compile.compiler import Compiler
from eastgate.proxy.compile.publisher import Publisher
from eastgate.proxy.compile.tls_contexts import TlsContexts
from eastgate.proxy.disk.configured_logs import ConfiguredLogs, may_tell_probes
from eastgate.proxy.membership.dns_clusters import DnsClusters
from eastgate.proxy.membership.ejections import Ejections
from eastgate.proxy.membership.health_checks import HealthChecks
from eastgate.proxy.membership.health_probes import open_probe
from eastgate.proxy.membership.name_resolver import resolve
from eastgate.proxy.membership.slow_start import SlowStarts
from eastgate.xds.access_log import AccessLogSpec
from eastgate.xds.bind_config import NO_BIND
from eastgate.xds.errors import XdsError
from eastgate.xds.resources import Cluster, Snapshot
from eastgate.xds.secret_store import SecretStore
from eastgate.xds.wanted import routed_clusters

from .control_errors import ControlErrors, Part
from .limits import Limits
from .listeners import Listeners, listening
from .settings import GatewaySettings

# Events kept between two ticks.
EVENTS_KEPT = 4096
EVENTS_KEPT_FOR_LOG = 65536


class ClusterObserver(Protocol):
    """Told of each cluster that is published, and with None of each that left."""

    def published(self, name: str, compiled: CompiledCluster | None, /) -> None: ...


Observer = TypeVar("Observer", bound=ClusterObserver)


class Serving:
    """The parts that a snapshot goes through. Made on the loop that they run on."""

    def __init__(self, settings: GatewaySettings, limits: Limits, secrets: SecretStore, errors: ControlErrors) -> None:
        loop = asyncio.get_running_loop()
        self._errors = errors
        self._local_cluster = settings.local_cluster
        self.slots = ClusterSlots()
        self.engine = _engine(settings, limits, self.slots)
        self.dns = DnsClusters(resolve, changed=self._refresh, random=random.random, errors=errors)
        bind = settings.upstream_bind if settings.upstream_bind is not None else NO_BIND
        self.health = HealthChecks(
            open_probe,
            changed=self._refresh,
            has_traffic=self._has_traffic,
            random=random.random,
            errors=errors,
            bind=bind,
        )
        self.configured_logs = ConfiguredLogs(self._logs_of_listener, errors)
        self.compiler = Compiler(
            self.slots,
            resolved=self.dns.assignment,
            judge=self.health.follow,
            own_locality=settings.locality if any(settings.locality) else None,
            clock=loop.time,
            local_cluster=settings.local_cluster,
            secrets=lambda: secrets.snapshot.secrets,
            guards_names=settings.role.guards_names,
            contexts=TlsContexts(
                resumes=settings.given.tls_resumption == "on", strict_end=settings.given.tls_strict_end
            ),
            errors=errors,
            log_number=self.configured_logs.number,
            chain_numbers=ChainNumbers(as_envoy=settings.given.drain_changed == "envoy"),
            bind=bind,
        )
        self.listeners = Listeners(self.engine, call_later=loop.call_later, errors=errors, **listening(settings.given))
        self.publisher = Publisher(self.compiler, self._publish_listeners, errors)
        self.ejections = self.observed(
            Part.OUTLIER,
            Ejections(
                self.compiler.health,
                self.slots,
                refresh=self.publisher.refresh,
                call_later=loop.call_later,
                clock=loop.time,
                random=partial(Random(settings.seed).getrandbits, 64),
                errors=errors,
            ),
        )
        self.health.observers.append(errors.guarded(Part.OUTLIER, self.ejections.health_check_passed))
        self._slow_starts = SlowStarts(refresh=self.publisher.refresh, call_later=loop.call_later, clock=loop.time)
        self.compiler.observers.append(errors.guarded(Part.SLOW_START, self._slow_start))

    def observed(self, part: Part, observer: Observer) -> Observer:
        """The observer, which is told of clusters from now on. Its faults are those of `part`."""
        self.compiler.observers.append(self._errors.guarded(part, observer.published))
        return observer

    async def publish(self, snapshot: Snapshot) -> tuple[XdsError, ...]:
        """Return when it, or a newer one, serves; with what of it could not be compiled."""
        # Before the compiler: names whose addresses are known already are compiled with the snapshot.
        with self._errors.guard(Part.DNS):
            self.dns.apply(routed_dns_clusters(snapshot, self._local_cluster))
        errors = await self.publisher.publish(snapshot)
        with self._errors.guard(Part.HEALTH):
            self.health.retain([name for name, one in snapshot.clusters.items() if one.health_check is not None])
        return errors

    def turn(self) -> None:
        """Let the engine work, where it has no workers of its own, and look at the ends of connections."""
        with self._errors.guard(Part.EVENTS):
            self.engine.turn()
        self.judge()

    def judge(self) -> None:
        """Eject endpoints by what workers have counted since."""
        with self._errors.guard(Part.OUTLIER):
            self.ejections.take()

    def connections(self) -> int:
        """How many there have been, refused ones included."""
        counters = self.listeners.counters().values()
        return sum(one.cx_total + sum(one.refused) for one in counters)

    def close(self) -> None:
        """Change nothing by itself any more. The engine goes on until it is closed."""
        self.ejections.close()
        self._slow_starts.close()

    def _publish_listeners(self) -> Set[str]:
        compiled = self.compiler.listeners
        self.engine.record_probes(any(may_tell_probes(one.listener.access_logs) for one in compiled.values()))
        return self.listeners.apply(compiled)

    def _slow_start(self, name: str, compiled: CompiledCluster | None) -> None:
        self._slow_starts.published(name, compiled.ramp if compiled is not None else None)

    def _has_traffic(self, cluster: str) -> bool:
        return cluster in self.compiler.clusters and self.compiler.counters(cluster).cx_total > 0

    def _refresh(self, cluster: str) -> None:
        self.publisher.refresh((cluster,))

    def _logs_of_listener(self, number: int) -> tuple[AccessLogSpec, ...]:
        """Of connections that found no chain."""
        compiled = self.compiler.listeners.get(self.listeners.name_of(number))
        return compiled.listener.access_logs if compiled is not None else ()


def _engine(settings: GatewaySettings, limits: Limits, slots: ClusterSlots) -> Engine:
    return Engine(
        slots,
        seed=settings.seed,
        workers=settings.workers,
        max_connections=limits.connections,
        max_silent=limits.silent,
        max_pipes=limits.pipes_of_worker,
        busy_poll_us=settings.given.busy_poll,
        event_capacity=EVENTS_KEPT_FOR_LOG if settings.given.access_log else EVENTS_KEPT,
    )


def routed_dns_clusters(snapshot: Snapshot, local_cluster: str = "") -> dict[str, Cluster]:
    """Clusters with names to resolve that a route leads to, or zones are told by; nobody asks for the others."""
    found = {name: cluster for name, cluster in snapshot.clusters.items() if cluster.dns is not None}
    if not found:
        return found
    routed = {*routed_clusters(snapshot.listeners.values(), snapshot.routes.values()), local_cluster}
    return {name: cluster for name, cluster in found.items() if name in routed}
