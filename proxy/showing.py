"""The ports that show a running process and take its orders: admin, probes, metrics, listeners of the bootstrap.

Another page of admin with a source of its own is registered in `sources`.
"""

import sys
from collections.abc import Callable

from eastgate.proxy.admin.admin import Admin, Sources
from eastgate.proxy.admin.rendering import Renderer
from eastgate.proxy.admin.static_http import StaticHttp
from eastgate.proxy.admin.status import StatusServer
from eastgate.xds.record import record

from .about import About
from .configuration import Configuration
from .control_errors import ControlErrors
from .limits import Limits
from .log import Log
from .observing import Observing
from .process_stats import Counting
from .readiness import Readiness
from .serving import Serving
from .settings import GatewaySettings
from .shedding import Shedding
from .stats_config import StatsConfig
from .stopping import Stopping
from .watchdog import Watchdog


@record
class Parts:
    """A running process, as it is shown."""

    settings: GatewaySettings
    limits: Limits
    about: About
    renderer: Renderer
    serving: Serving
    configuration: Configuration
    observing: Observing
    readiness: Readiness
    watchdog: Watchdog
    shedding: Shedding
    stopping: Stopping
    quit: Callable[[], None]
    errors: ControlErrors


def sources(parts: Parts, counting: Counting) -> Sources:
    """What admin's pages are made of."""
    store, envoy = parts.configuration.store, parts.settings.envoy
    return Sources(
        snapshot=lambda: store.snapshot,
        ads=parts.configuration.ads,
        compiler=parts.serving.compiler,
        listeners=parts.serving.listeners,
        refusals=parts.observing.refusals,
        renderer=parts.renderer,
        state=parts.readiness.state,
        process=counting.collect,
        bootstrap=parts.about.bootstrap,
        server_info=lambda: parts.about.server_info(parts.readiness.state(), parts.configuration.last_good.describe),
        drain=parts.stopping.asked,
        quit=parts.quit,
        secrets=lambda: store.secrets.snapshot,
        stats=envoy.stats if envoy is not None else StatsConfig(),
        detector=parts.serving.ejections.detector,
        workers=parts.watchdog.as_json,
        warming=parts.readiness.warming,
        reopen_logs=parts.observing.reopen_logs,
        errors=parts.errors,
        events=parts.observing.events,
        spill=parts.observing.spill,
    )


class Showing:
    """All ports that do not belong to the engine. ``start`` binds, ``close`` ends them."""

    def __init__(self, parts: Parts, log: Log) -> None:
        settings, most = parts.settings, parts.limits.admin
        self._envoy = settings.envoy
        self._log = log
        counting = Counting(
            static=lambda: self._static.connections(),
            about=parts.about,
            serving=parts.serving,
            configuration=parts.configuration,
            observing=parts.observing,
            readiness=parts.readiness,
            watchdog=parts.watchdog,
            shedding=parts.shedding,
            errors=parts.errors,
        )
        self._admin = Admin(settings.admin, sources(parts, counting), max_connections=most)
        self._static = StaticHttp(
            settings.envoy.listeners if settings.envoy is not None else (),
            {settings.admin_target: self._admin.metrics_page},
            errors=parts.errors,
            max_connections=most,
        )
        self._ports = tuple(
            StatusServer(address, pages, flag=flag, errors=parts.errors, max_connections=most)
            for flag, address, pages in (
                ("--status", settings.status, self._admin.health_pages),
                ("--metrics", settings.metrics, self._admin.metrics_pages),
            )
            if address is not None
        )

    async def start(self) -> None:
        """Bind all, and say where. Raises EastgateError for what cannot be bound."""
        url = await self._admin.start()
        # Not a log line: whoever gave port 0 reads the address from it, whatever the log level.
        sys.stderr.write(f"admin listening on {url}\n")
        sys.stderr.flush()
        if self._envoy is not None:
            self._envoy.write_admin_address(url)
            for reason in self._envoy.stats.unread:
                self._log.warning("stats tag is not honoured", reason=reason)
        await self._static.start()
        for served in self._ports:
            host, port = await served.start()
            self._log.info("serving", flag=served.flag, address=host, port=port)

    def stop_listening(self) -> None:
        """Take no further connection at the listeners of the bootstrap; those that are open go on, and admin too."""
        self._static.stop_listening()

    async def close(self) -> None:
        await self._admin.close()
        await self._static.close()
        for served in self._ports:
            await served.close()
