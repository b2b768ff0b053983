"""A running proxy: its parts, what runs of them and in which order they begin and end. One event loop."""

import asyncio
import gc
import os
import resource
import signal

from eastgate.fastpath import core_file
from eastgate.proxy.admin import stats
from eastgate.proxy.admin.rendering import Renderer
from eastgate.xds import errors as xds_errors
from eastgate.xds.node import NodeIdentity
from eastgate.xds.secret_store import SecretSnapshot
from eastgate.xds.store import Store

from . import last_words
from .about import About, node_identity
from .configuration import Configuration
from .control_errors import ControlErrors, Part
from .limits import Memory, limits_of
from .log import Log
from .observing import Observing
from .overdue import END_S, end_within
from .readiness import Readiness
from .serving import Serving
from .settings import GatewaySettings
from .shedding import Shedding
from .showing import Parts, Showing
from .stopping import DataSide, Stopping
from .watchdog import Watchdog

# How often events are taken from the engine, and how exactly a drain keeps its times.
TICK_S = 0.1
# How often it is looked how long certificates last, and whether a worker is stuck.
LOOK_S = 1.0
# How long after a worker's wake-up its events are taken: some at once are cheaper than one by one.
EVENTS_DELAY_S = 0.02


class Proxy:
    """One gateway or sidecar. Make it and run it on the same loop."""

    def __init__(self, settings: GatewaySettings, node: NodeIdentity) -> None:
        # First of all: what it starts holds copies of all that is open by then.
        self._renderer = Renderer()
        self._settings = settings
        self._node = node
        self._log = Log(settings.role.command)
        self._errors = errors = ControlErrors()
        self._stopped = asyncio.Event()
        self._overdue: asyncio.TimerHandle | None = None
        memory = Memory()
        self._limits = limits_of(
            resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            memory.limit_bytes,
            workers=settings.workers,
            asked=settings.given.max_connections,
        )
        store = Store(router=settings.role.routed_only, local_cluster=settings.local_cluster)
        self._serving = Serving(settings, self._limits, store.secrets, errors)
        self._observing = Observing(settings, node, self._serving, store.secrets, errors)
        self._configuration = Configuration(
            settings, node, store, publish=self._serving.publish, pushed=self._observing.pushed, errors=errors
        )
        store.secrets.on_change(self._secrets_changed)
        engine = self._serving.engine
        self._shedding = Shedding(memory, engine.set_overloaded, self._log)
        self._watchdog = Watchdog(engine.stuck, workers=settings.workers)
        self._stopping = Stopping(
            settings.given.drain_time,
            DataSide(
                self._stop_accepting, engine.active_connections, self._serving.connections, engine.close_connections
            ),
            at_once=settings.envoy is not None,
            now=asyncio.get_running_loop().time,
            finished=self._stopped.set,
            log=self._log,
        )
        self._readiness = Readiness(self._serving, self._configuration, draining=lambda: self._stopping.draining)
        self._showing = Showing(
            Parts(
                settings=settings,
                limits=self._limits,
                about=About(settings, node, self._limits),
                renderer=self._renderer,
                serving=self._serving,
                configuration=self._configuration,
                observing=self._observing,
                readiness=self._readiness,
                watchdog=self._watchdog,
                shedding=self._shedding,
                stopping=self._stopping,
                quit=self._stopped.set,
                errors=errors,
            ),
            self._log,
        )

    async def run(self) -> None:
        """Serve until a drain that ends the process is over, or a second signal came. Raises EastgateError at start."""
        loop = asyncio.get_running_loop()
        self._errors.watch(loop)
        xds_errors.fault_observers.append(self._errors.note_of_xds)
        await self._showing.start()
        self._tell_limits()
        if self._node.warning:
            self._log.warning("node", reason=self._node.warning)
        for reason in self._settings.unread:
            self._log.warning("bootstrap not honoured", reason=reason)
        loop.add_reader(self._serving.engine.fileno(), self._engine_ready)
        self._handle_signals(loop)
        await self._configuration.restore()
        try:
            await self._run_parts()
        finally:
            loop.remove_reader(self._serving.engine.fileno())
            xds_errors.fault_observers.remove(self._errors.note_of_xds)
            await self._close()
            if self._overdue is not None:
                self._overdue.cancel()

    def _handle_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.signalled, number)
        # As Envoy eats it: the end of a terminal, or a habit of log rotation, is no reason to cut connections.
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        loop.add_signal_handler(signal.SIGUSR1, self._observing.reopen_logs)

    async def _run_parts(self) -> None:
        """Until the process is to stop."""
        keep, serving = self._errors.keep, self._serving
        async with asyncio.TaskGroup() as group:
            saving = self._configuration.start(group)
            others = [
                group.create_task(keep(part, run))
                for part, run in (
                    (Part.DNS, serving.dns.run),
                    (Part.HEALTH, serving.health.run),
                    (Part.COMPILE, serving.publisher.run),
                    (Part.EVENTS, self._tick),
                )
            ]
            await self._stopped.wait()
            self._overdue = end_within(END_S, self._log)
            for task in (saving, *others):
                task.cancel()
            await self._configuration.close()

    async def _close(self) -> None:
        self._serving.close()
        await self._showing.close()
        self._renderer.close()
        self._serving.engine.close_connections()
        self._observing.take_last()
        self._serving.engine.close()
        self._observing.close_logs()
        if self._configuration.recorder is not None:
            self._configuration.recorder.close()
        self._log.info("stopped")

    def _secrets_changed(self, snapshot: SecretSnapshot) -> None:
        """Compile with them what refers to them; connections keep what they began with."""
        if any(secret.tls_certificate is not None for secret in snapshot.secrets.values()):
            write_no_core()
        self._serving.publisher.recompile()
        self._observing.secrets_changed(snapshot)

    def _engine_ready(self) -> None:
        self._serving.turn()
        if self._settings.workers:
            # The workers wake us once; not again before the events are taken.
            asyncio.get_running_loop().call_later(EVENTS_DELAY_S, self._observing.take_burst)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        frozen, look_again_s = False, 0.0
        while True:
            # A burst of events is worked off at once, but others get their turn in between.
            more = self._observing.take()
            self._serving.judge()
            self._stopping.tick()
            if loop.time() >= look_again_s:
                look_again_s = loop.time() + LOOK_S
                self._observing.look_at_certificates()
                with self._errors.guard(Part.EVENTS):
                    self._watchdog.look()
            self._shedding.look(loop.time())
            if not frozen and self._readiness.state() == stats.LIVE:
                frozen = True
                # What has come with the first configuration stays: later garbage collections need not look at it.
                gc.freeze()
            await asyncio.sleep(0 if more else TICK_S)

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

    def _stop_accepting(self, inbound_only: bool) -> None:
        self._serving.listeners.stop_accepting(inbound_only=inbound_only)
        if not inbound_only:
            self._showing.stop_listening()


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
