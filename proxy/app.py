"""Composition of a running gateway: stream to istiod, compiler, engine, listeners, admin, signals. One event loop."""

import asyncio
import gc
import os
import random
import resource
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from eastgate.fastpath import core_file
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.fastpath.loop.engine import Engine
from eastgate.proxy.admin.admin import Admin, Sources
from eastgate.proxy.admin.certs import own_principal
from eastgate.proxy.admin.istio_traffic import IstioTraffic
from eastgate.proxy.admin.memberships import Memberships
from eastgate.proxy.admin.panics import Panics
from eastgate.proxy.admin.refusals import Refusals
from eastgate.proxy.admin.rendering import Renderer
from eastgate.proxy.admin.static_http import StaticHttp
from eastgate.proxy.admin.status import StatusServer
from eastgate.proxy.compile.compiled import CompiledCluster
from eastgate.proxy.compile.compiler import Compiler
from eastgate.proxy.compile.publisher import Publisher
from eastgate.proxy.compile.tls_contexts import TlsContexts
from eastgate.proxy.control_errors import ControlErrors, Part
from eastgate.proxy.disk.access_log import AccessLog
from eastgate.proxy.disk.configured_logs import ConfiguredLogs
from eastgate.proxy.disk.last_good import LastGood, identity
from eastgate.proxy.disk.state_file import StateFile
from eastgate.proxy.history.cluster_events import ClusterEvents
from eastgate.proxy.history.event_log import EventLog
from eastgate.proxy.history.resource_events import ResourceEvents
from eastgate.proxy.membership.dns_clusters import DnsClusters
from eastgate.proxy.membership.ejections import Ejections
from eastgate.proxy.membership.health_checks import HealthChecks
from eastgate.proxy.membership.health_probes import open_probe
from eastgate.proxy.membership.name_resolver import resolve
from eastgate.proxy.membership.slow_start import SlowStarts
from eastgate.xds import errors as xds_errors
from eastgate.xds.access_log import AccessLogSpec
from eastgate.xds.ads import AdsClient, Push
from eastgate.xds.errors import XdsError
from eastgate.xds.node import NodeIdentity
from eastgate.xds.resources import Cluster, Snapshot
from eastgate.xds.secret_store import SecretSnapshot
from eastgate.xds.store import Store
from eastgate.xds.wanted import routed_clusters

from . import last_words
from .about import About, node_identity
from .admin import stats
from .limits import Memory, Overload, limits_of
from .listeners import Listeners
from .log import Log
from .process_stats import Counting
from .secret_sources import secret_sources
from .settings import GatewaySettings
from .stats_config import StatsConfig
from .stopping import DataSide, Stopping
from .watchdog import Watchdog

if TYPE_CHECKING:
    from eastgate.proxy.disk.recorder import Recorder

# How often events are taken from the engine, and how exactly a drain keeps its times.
TICK_S = 0.1
# How often it is looked how long certificates last, and whether a worker is stuck.
CERTIFICATES_S = 1.0
# How often the memory that the cgroup grants is looked at.
OVERLOAD_S = 0.25
# Events kept between two ticks, and taken in one go: half a millisecond with the access log on.
EVENTS_KEPT = 4096
EVENTS_KEPT_FOR_LOG = 65536
EVENTS_AT_ONCE = 64
# How long after a worker's wake-up its events are taken: some at once are cheaper than one by one.
EVENTS_DELAY_S = 0.02


def open_access_log(
    settings: GatewaySettings, listener_name: Callable[[int], str], errors: ControlErrors
) -> AccessLog | None:
    """None unless it is wanted."""
    if not settings.given.access_log:
        return None
    return AccessLog(
        settings.given.access_log,
        line_format=settings.given.access_log_format,
        listener_name=listener_name,
        errors=errors,
    )


def open_recorder(settings: GatewaySettings, node: NodeIdentity, errors: ControlErrors) -> "Recorder | None":
    """None unless it is wanted; what writes it is loaded then."""
    if not settings.given.record:
        return None
    from eastgate.proxy.disk.recorder import Recorder

    return Recorder(
        settings.given.record,
        node.message,
        file_bytes=settings.record_file_bytes,
        keep=settings.given.record_files,
        errors=errors,
    )


class Proxy:
    """One east-west gateway. Make it and run it on the same loop."""

    def __init__(self, settings: GatewaySettings, node: NodeIdentity) -> None:
        loop = asyncio.get_running_loop()
        # First of all: what it starts holds copies of all that is open by then.
        self._renderer = Renderer()
        self._settings = settings
        self._node = node
        self._log = Log(settings.role.command)
        self._errors = errors = ControlErrors()
        self._initialized = False
        self._closed = False
        self._stopped = asyncio.Event()
        self._overload = Overload(Memory())
        self._overload_s = 0.0
        self._limits = limits_of(
            resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            self._overload.memory.limit_bytes,
            workers=settings.workers,
            asked=settings.given.max_connections,
        )
        slots = ClusterSlots()
        self._engine = Engine(
            slots,
            seed=settings.seed,
            workers=settings.workers,
            max_connections=self._limits.connections,
            max_silent=self._limits.silent,
            max_pipes=self._limits.pipes_of_worker,
            busy_poll_us=settings.given.busy_poll,
            event_capacity=EVENTS_KEPT_FOR_LOG if settings.given.access_log else EVENTS_KEPT,
        )
        self._dns = DnsClusters(resolve, changed=self._refresh, random=random.random, errors=errors)
        self._health = HealthChecks(
            open_probe, changed=self._refresh, has_traffic=self._has_traffic, random=random.random, errors=errors
        )
        self._configured_logs = ConfiguredLogs(self._logs_of_listener, errors)
        self._compiler = Compiler(
            slots,
            resolved=self._dns.assignment,
            judge=self._health.follow,
            own_locality=settings.locality if any(settings.locality) else None,
            clock=loop.time,
            local_cluster=settings.local_cluster,
            secrets=lambda: self._store.secrets.snapshot.secrets,
            guards_names=settings.role.guards_names,
            contexts=TlsContexts(
                resumes=settings.given.tls_resumption == "on", strict_end=settings.given.tls_strict_end
            ),
            errors=errors,
            log_number=self._configured_logs.number,
        )
        self._listeners = Listeners(
            self._engine,
            call_later=loop.call_later,
            defer_accept=settings.given.defer_accept,
            fast_open=settings.given.fast_open,
            silent_inbound_s=settings.given.silent_inbound_timeout,
            errors=errors,
        )
        self._publisher = Publisher(self._compiler, lambda: self._listeners.apply(self._compiler.listeners), errors)
        self._ejections = Ejections(
            self._compiler.health,
            slots,
            refresh=self._publisher.refresh,
            call_later=loop.call_later,
            clock=loop.time,
            random=partial(Random(settings.seed).getrandbits, 64),
            errors=errors,
        )
        self._memberships = Memberships()
        self._compiler.observers.append(errors.guarded(Part.ADMIN, self._memberships.published))
        self._panics = Panics()
        self._compiler.observers.append(errors.guarded(Part.ADMIN, self._panics.published))
        self._istio = IstioTraffic(slots, node.metadata, lambda: own_principal(self._store.secrets.snapshot))
        self._compiler.observers.append(errors.guarded(Part.ADMIN, self._istio.published))
        self._compiler.observers.append(errors.guarded(Part.OUTLIER, self._ejections.published))
        self._health.observers.append(errors.guarded(Part.OUTLIER, self._ejections.health_check_passed))
        self._slow_starts = SlowStarts(refresh=self._publisher.refresh, call_later=loop.call_later, clock=loop.time)
        self._compiler.observers.append(errors.guarded(Part.SLOW_START, self._slow_start))
        self._refusals = Refusals()
        self._events = EventLog()
        self._cluster_events, self._resource_events = ClusterEvents(self._events), ResourceEvents(self._events)
        self._compiler.observers.append(errors.guarded(Part.EVENTS, self._cluster_events.published))
        self._ejections.observers.append(errors.guarded(Part.EVENTS, self._cluster_events.judged))
        self._access_log = open_access_log(settings, self._listeners.name_of, errors)
        if self._access_log is not None:
            self._engine.record_events(True)
        self._recorder = open_recorder(settings, node, errors)
        self._store = Store(router=settings.role.routed_only, local_cluster=settings.local_cluster)
        self._ads = AdsClient(
            settings.discovery,
            node,
            self._store,
            on_snapshot=self._publish,
            on_push=errors.guarded(Part.DISK, self._pushed),
            protocol=settings.xds_protocol,
            open_channel=settings.credentials.open_channel,
            metadata=settings.credentials.metadata,
        )
        self._store.secrets.on_change(self._secrets_changed)
        self._sds = secret_sources(settings, node, self._store.secrets)
        self._last_good = LastGood(
            StateFile(settings.given.state_dir, identity(node), max_age_s=settings.given.state_max_age)
            if settings.given.state_dir
            else None,
            self._store,
            self._ads,
            publish=self._publish,
            errors=errors,
        )
        self._watchdog = Watchdog(self._engine.stuck, workers=settings.workers)
        self._stopping = Stopping(
            settings.given.drain_time,
            DataSide(
                self._stop_accepting, self._engine.active_connections, self._connections, self._engine.close_connections
            ),
            at_once=settings.envoy is not None,
            now=loop.time,
            finished=self._stopped.set,
            log=self._log,
        )
        self._about = About(settings, node, self._limits)
        self._counting = Counting(
            static=lambda: self._static.connections(),
            about=self._about,
            engine=self._engine,
            store=self._store,
            ads=self._ads,
            sds=self._sds,
            compiler=self._compiler,
            listeners=self._listeners,
            memberships=self._memberships,
            panics=self._panics,
            istio=self._istio,
            watchdog=self._watchdog,
            dns=self._dns,
            health=self._health,
            ejections=self._ejections,
            overload=self._overload,
            last_good=self._last_good,
            access_log=self._access_log,
            configured_logs=self._configured_logs,
            recorder=self._recorder,
            errors=errors,
        )
        self._admin = Admin(
            settings.admin,
            Sources(
                snapshot=lambda: self._store.snapshot,
                ads=self._ads,
                compiler=self._compiler,
                listeners=self._listeners,
                refusals=self._refusals,
                renderer=self._renderer,
                state=self._state,
                process=self.process_stats,
                bootstrap=self._about.bootstrap,
                server_info=lambda: self._about.server_info(self._state(), self._last_good.describe),
                drain=self._stopping.asked,
                quit=self._stopped.set,
                secrets=lambda: self._store.secrets.snapshot,
                stats=settings.envoy.stats if settings.envoy is not None else StatsConfig(),
                detector=self._ejections.detector,
                workers=self._watchdog.as_json,
                warming=self._warming,
                reopen_logs=self._reopen_logs,
                errors=errors,
                events=self._events,
            ),
            max_connections=self._limits.admin,
        )
        self._static = StaticHttp(
            settings.envoy.listeners if settings.envoy is not None else (),
            {settings.admin_target: self._admin.metrics_page},
            errors=errors,
            max_connections=self._limits.admin,
        )
        self._ports = tuple(
            StatusServer(address, pages, flag=flag, errors=errors, max_connections=self._limits.admin)
            for flag, address, pages in (
                ("--status", settings.status, self._admin.health_pages),
                ("--metrics", settings.metrics, self._admin.metrics_pages),
            )
            if address is not None
        )

    async def run(self) -> None:
        """Serve until a drain that ends the process is over, or a second signal came. Raises EastgateError at start."""
        loop = asyncio.get_running_loop()
        self._errors.watch(loop)
        xds_errors.fault_observers.append(self._errors.note_of_xds)
        url = await self._admin.start()
        # Not a log line: whoever gave port 0 reads the address from it, whatever the log level.
        sys.stderr.write(f"admin listening on {url}\n")
        sys.stderr.flush()
        if self._settings.envoy is not None:
            self._settings.envoy.write_admin_address(url)
            for reason in self._settings.envoy.stats.unread:
                self._log.warning("stats tag is not honoured", reason=reason)
        await self._static.start()
        for served in self._ports:
            host, port = await served.start()
            self._log.info("serving", flag=served.flag, address=host, port=port)
        self._tell_limits()
        if self._node.warning:
            self._log.warning("node", reason=self._node.warning)
        loop.add_reader(self._engine.fileno(), self._engine_ready)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.signalled, number)
        # As Envoy eats it: the end of a terminal, or a habit of log rotation, is no reason to cut connections.
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        loop.add_signal_handler(signal.SIGUSR1, self._reopen_logs)
        await self._last_good.restore()
        if self._recorder is not None:
            with self._errors.guard(Part.DISK):
                self._recorder.begin(self._store.snapshot)
        try:
            async with asyncio.TaskGroup() as group:
                keep = self._errors.keep
                group.create_task(keep(Part.STREAM, self._ads.run))
                resolving = group.create_task(keep(Part.DNS, self._dns.run))
                checking = group.create_task(keep(Part.HEALTH, self._health.run))
                compiling = group.create_task(keep(Part.COMPILE, self._publisher.run))
                for sds in self._sds:
                    group.create_task(keep(Part.STREAM, sds.run, sds.source))
                saving = group.create_task(keep(Part.DISK, self._last_good.run))
                ticking = group.create_task(keep(Part.EVENTS, self._tick))
                await self._stopped.wait()
                ticking.cancel()
                saving.cancel()
                resolving.cancel()
                checking.cancel()
                compiling.cancel()
                for sds in self._sds:
                    sds.close()
                await self._ads.close()
        finally:
            loop.remove_reader(self._engine.fileno())
            xds_errors.fault_observers.remove(self._errors.note_of_xds)
            self._ejections.close()
            self._slow_starts.close()
            await self._admin.close()
            await self._static.close()
            for served in self._ports:
                await served.close()
            self._renderer.close()
            self._engine.close_connections()
            while self._take_events():
                pass
            self._closed = True
            self._engine.close()
            if self._access_log is not None:
                self._access_log.close()
            self._configured_logs.close()
            if self._recorder is not None:
                self._recorder.close()
            self._log.info("stopped")

    async def _publish(self, snapshot: Snapshot) -> tuple[XdsError, ...]:
        # Before the compiler: names whose addresses are known already are compiled with the snapshot.
        with self._errors.guard(Part.DNS):
            self._dns.apply(routed_dns_clusters(snapshot, self._settings.local_cluster))
        errors = await self._publisher.publish(snapshot)
        with self._errors.guard(Part.HEALTH):
            self._health.retain([name for name, one in snapshot.clusters.items() if one.health_check is not None])
        return errors

    def _slow_start(self, name: str, compiled: CompiledCluster | None) -> None:
        self._slow_starts.published(name, compiled.ramp if compiled is not None else None)

    def _secrets_changed(self, snapshot: SecretSnapshot) -> None:
        """Compile with them what refers to them; connections keep what they began with."""
        if any(secret.tls_certificate is not None for secret in snapshot.secrets.values()):
            write_no_core()
        self._publisher.recompile()
        with self._errors.guard(Part.EVENTS):
            self._resource_events.secrets(snapshot)

    def _has_traffic(self, cluster: str) -> bool:
        return cluster in self._compiler.clusters and self._compiler.counters(cluster).cx_total > 0

    def _refresh(self, cluster: str) -> None:
        self._publisher.refresh((cluster,))

    def _pushed(self, push: Push) -> None:
        with self._errors.guard(Part.EVENTS):
            self._resource_events.accepted(self._store.snapshot)
        if self._recorder is not None:
            self._recorder.record(push, self._store.snapshot)

    def _engine_ready(self) -> None:
        with self._errors.guard(Part.EVENTS):
            self._engine.turn()
        with self._errors.guard(Part.OUTLIER):
            self._ejections.take()
        if self._settings.workers:
            # The workers wake us once; not again before the events are taken.
            asyncio.get_running_loop().call_later(EVENTS_DELAY_S, self._take_burst)

    def _take_burst(self) -> None:
        """Take events until there are none, and let others run in between."""
        if self._take_events():
            asyncio.get_running_loop().call_soon(self._take_burst)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        frozen, look_again_s = False, 0.0
        while True:
            # A burst of events is worked off at once, but others get their turn in between.
            more = self._take_events()
            with self._errors.guard(Part.OUTLIER):
                self._ejections.take()
            self._stopping.tick()
            if loop.time() >= look_again_s:
                look_again_s = loop.time() + CERTIFICATES_S
                with self._errors.guard(Part.EVENTS):
                    self._resource_events.look_at_certificates(self._store.secrets.snapshot, datetime.now(UTC))
                with self._errors.guard(Part.EVENTS):
                    self._watchdog.look()
            self._watch_memory(loop.time())
            if not frozen and self._state() == stats.LIVE:
                frozen = True
                # What has come with the first configuration stays: later garbage collections need not look at it.
                gc.freeze()
            await asyncio.sleep(0 if more else TICK_S)

    def _watch_memory(self, now_s: float) -> None:
        """Shed new connections before memory ends, and say so."""
        if self._overload.memory.limit_bytes is None or now_s < self._overload_s:
            return
        self._overload_s = now_s + OVERLOAD_S
        if self._overload.update():
            self._engine.set_overloaded(self._overload.active)
            event = "memory ends, new connections are shed" if self._overload.active else "connections are taken again"
            self._log.warning(event, used=f"{self._overload.pressure:.0%}", limit=self._overload.memory.limit_bytes)

    def _tell_limits(self) -> None:
        limits = self._limits
        self._log.info("limits", **limits.as_json())
        if limits.connections > limits.machine:
            self._log.warning(
                "max_connections is more than this machine allows",
                asked=limits.connections,
                allowed=limits.machine,
                descriptors=limits.descriptors,
                memory_limit_bytes=limits.memory_bytes,
            )

    def _take_events(self) -> bool:
        """Hand on some of what the engine has recorded; return whether there may be more."""
        if self._closed:
            return False
        events = self._engine.take_events(EVENTS_AT_ONCE)
        if events:
            with self._errors.guard(Part.EVENTS):
                self._refusals.add(events)
            if self._access_log is not None:
                with self._errors.guard(Part.DISK):
                    self._access_log.write(events)
            with self._errors.guard(Part.DISK):
                self._configured_logs.write(events)
        return len(events) == EVENTS_AT_ONCE

    def _reopen_logs(self) -> None:
        if self._access_log is not None:
            self._access_log.reopen()
        self._configured_logs.reopen()

    def _logs_of_listener(self, number: int) -> tuple[AccessLogSpec, ...]:
        """Of connections that found no chain."""
        compiled = self._compiler.listeners.get(self._listeners.name_of(number))
        return compiled.listener.access_logs if compiled is not None else ()

    def _stop_accepting(self, inbound_only: bool) -> None:
        self._listeners.stop_accepting(inbound_only=inbound_only)
        if not inbound_only:
            self._static.stop_listening()

    def _connections(self) -> int:
        """How many there have been, refused ones included."""
        counters = self._listeners.counters().values()
        return sum(one.cx_total + sum(one.refused) for one in counters)

    def _state(self) -> int:
        if self._stopping.draining:
            return stats.DRAINING
        if not self._initialized:
            if not (self._last_good.answered or self._last_good.stale):
                return stats.PRE_INITIALIZING
            if self._warming() or self._waits_for_secrets() or not self._listeners.started:
                return stats.INITIALIZING
            # From here on a new cluster that warms does not make the process unready again.
            self._initialized = True
        return stats.LIVE

    def _warming(self) -> frozenset[str]:
        return self._store.snapshot.warming | self._dns.warming | self._health.warming

    def _waits_for_secrets(self) -> bool:
        """Whether a secret that is asked for at a socket has never come. What needs it refuses until then."""
        missing = self._store.secrets.snapshot.missing
        return any(ref.source == sds.source for sds in self._sds for ref in missing)

    def process_stats(self) -> stats.ProcessStats:
        """Everything that is counted, now."""
        # Before the question whether it has begun: that is where it is found out.
        state = self._state()
        return self._counting.collect(state, started=self._initialized, warming=self._warming())


def routed_dns_clusters(snapshot: Snapshot, local_cluster: str = "") -> dict[str, Cluster]:
    """Clusters with names to resolve that a route leads to, or zones are told by; nobody asks for the others."""
    found = {name: cluster for name, cluster in snapshot.clusters.items() if cluster.dns is not None}
    if not found:
        return found
    routed = {*routed_clusters(snapshot.listeners.values(), snapshot.routes.values()), local_cluster}
    return {name: cluster for name, cluster in found.items() if name in routed}


def write_no_core() -> None:
    """From now on this process dies without a core file, and no debugger reads it: private keys are in it."""
    core_file.forbid()
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def raise_descriptor_limit() -> None:
    """Allow as many open files as the system lets this process: two a connection soon pass a soft limit of 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def run_gateway(settings: GatewaySettings) -> None:
    """Run until told to stop. Raises EastgateError for what cannot be started."""
    import uvloop

    last_words.prepare()
    node = node_identity(settings, os.environ)
    # Modules and their code live as long as the process: no garbage collection of a running proxy looks at them.
    gc.freeze()
    raise_descriptor_limit()

    async def serve() -> None:
        await Proxy(settings, node).run()

    uvloop.run(serve())
