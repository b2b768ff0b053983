"""The admin interface: Envoy's paths and shapes on a loopback address. Shows and asks; changes nothing by itself.

Loopback alone does not keep a browser's page out, so requests whose Host is no loopback name, or that carry an Origin
of another site, are refused. What changes something needs POST.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote, urlsplit

from aiohttp import web
from eastgate.xds.resources import Snapshot

from . import dumps, log, stats
from .compiler import Compiler
from .errors import EastgateError
from .listeners import Listeners
from .refusals import Refusals

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
TEXT = "text/plain"


@dataclass(frozen=True, slots=True)
class Sources:
    """What admin shows, and the two things that it can ask for. All callables are for the loop's thread."""

    snapshot: Callable[[], Snapshot]
    compiler: Compiler
    listeners: Listeners
    refusals: Refusals
    process: Callable[[], stats.ProcessStats]
    bootstrap: Callable[[], Mapping[str, Any]]
    server_info: Callable[[], Mapping[str, Any]]
    drain: Callable[[bool, bool, bool], None]
    """graceful, skip_exit, inbound_only"""
    quit: Callable[[], None]


def is_loopback_name(host: str) -> bool:
    """Whether a Host header names this machine by a loopback address."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


@web.middleware
async def same_machine_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what a page of another site could send through a browser (DNS rebinding, cross-site POST)."""
    origin = request.headers.get("Origin", "")
    if not is_loopback_name(request.host):
        return web.Response(status=403, text=f"admin answers to loopback names only, not to Host {request.host}\n")
    if origin and not is_loopback_name(urlsplit(origin).netloc):
        return web.Response(status=403, text=f"admin does not answer pages of {origin}\n")
    return await handler(request)


def query_of(request: web.Request) -> dict[str, str]:
    """Query parameters, undecoded but for %XX: pilot-agent sends regular expressions raw, and + is no blank there."""
    pairs = (part.partition("=") for part in request.rel_url.raw_query_string.split("&") if part)
    return {unquote(key): unquote(value) for key, _, value in pairs}


def as_json(value: object) -> web.Response:
    return web.Response(text=json.dumps(value, indent=1) + "\n", content_type="application/json")


def post_only(handler: Callable[[web.Request], web.Response]) -> Handler:
    """Answer 405 to anything but POST."""

    async def checked(request: web.Request) -> web.StreamResponse:
        if request.method != "POST":
            return web.Response(
                status=405, text=f"Method {request.method} not allowed, POST required.\n", headers={"Allow": "POST"}
            )
        return handler(request)

    return checked


def any_method(handler: Callable[[web.Request], web.Response]) -> Handler:
    async def answered(request: web.Request) -> web.StreamResponse:
        return handler(request)

    return answered


class Admin:
    """The admin server. ``start`` binds, ``close`` ends it."""

    def __init__(self, address: tuple[str, int], sources: Sources) -> None:
        self._address = address
        self._sources = sources
        self._healthcheck_failed = False
        self._runner: web.AppRunner | None = None

    def application(self) -> web.Application:
        """The aiohttp application, unbound."""
        app = web.Application(middlewares=[same_machine_only])
        for path, (handler, _, mutates) in self._paths().items():
            app.router.add_route("*", path, post_only(handler) if mutates else any_method(handler))
        app.router.add_route("*", "/{path:.*}", any_method(self._unknown))
        return app

    async def start(self) -> str:
        """Bind and serve; return the URL. Raises EastgateError when the address cannot be bound."""
        self._runner = web.AppRunner(self.application(), access_log=None, handle_signals=False)
        await self._runner.setup()
        host, port = self._address
        site = web.TCPSite(self._runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise EastgateError(
                f"--admin {host}:{port}: cannot listen: {error.strerror} (another proxy's admin? use port 0)"
            ) from None
        bound = self._runner.addresses[0][1]
        return f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _paths(self) -> dict[str, tuple[Callable[[web.Request], web.Response], str, bool]]:
        """path -> (handler, help, whether it changes something)"""
        return {
            "/": (self._help, "this page", False),
            "/help": (self._help, "this page", False),
            "/ready": (self._ready, "LIVE, or the state that is not", False),
            "/server_info": (self._server_info, "version, state, node", False),
            "/stats": (self._stats, "counters (filter=REGEX, usedonly, format=text|json|prometheus)", False),
            "/stats/prometheus": (self._prometheus, "counters for Prometheus", False),
            "/clusters": (self._clusters, "endpoints with health, priority, weight, share (format=json)", False),
            "/listeners": (self._listeners, "listening sockets (format=json)", False),
            "/config_dump": (
                self._config_dump,
                "accepted configuration (include_eds, mask, resource, name_regex)",
                False,
            ),
            "/refusals": (self._refusals, "latest refused connections and why", False),
            "/drain_listeners": (self._drain, "stop listening (graceful, skip_exit, inboundonly)", True),
            "/healthcheck/fail": (self._healthcheck_fail, "make /ready fail", True),
            "/healthcheck/ok": (self._healthcheck_ok, "undo /healthcheck/fail", True),
            "/logging": (self._logging, "show or set the log level (level=...)", True),
            "/quitquitquit": (self._quit, "end the process", True),
        }

    # Each handler runs on the loop and answers from what is in memory.

    def _help(self, request: web.Request) -> web.Response:
        lines = [
            f"  {path} ({'POST' if mutates else 'GET'}): {text}" for path, (_, text, mutates) in self._paths().items()
        ]
        return web.Response(text="eastgate admin commands:\n" + "\n".join(lines) + "\n", content_type=TEXT)

    def _unknown(self, request: web.Request) -> web.Response:
        page = self._help(request)
        return web.Response(status=404, text=f"invalid path. {page.text}", content_type=TEXT)

    def _ready(self, request: web.Request) -> web.Response:
        state = stats.DRAINING if self._healthcheck_failed else self._sources.process().state
        return web.Response(status=200 if state == stats.LIVE else 503, text=stats.STATE_NAMES[state] + "\n")

    def _server_info(self, request: web.Request) -> web.Response:
        return as_json(self._sources.server_info())

    def _stats(self, request: web.Request) -> web.Response:
        query = query_of(request)
        form = query.get("format", "text")
        if form == "prometheus":
            return self._prometheus(request)
        if form not in ("text", "json"):
            return web.Response(status=400, text=f"format {form!r} is none of text, json, prometheus\n")
        process = self._sources.process()
        pattern = query.get("filter", "")
        try:
            chosen = stats.select(stats.stats_of(process), pattern=pattern, used_only="usedonly" in query)
        except re.error as error:
            return web.Response(status=400, text=f"Invalid re2 regex: {error}\n")
        if form == "json":
            return as_json(stats.as_json(chosen))
        versions = {f"{stream.prefix}.version_text": stream.version for stream in process.streams}
        shown = {name: text for name, text in versions.items() if re.search(pattern, name)}
        return web.Response(text=stats.as_text(chosen, shown), content_type=TEXT)

    def _prometheus(self, request: web.Request) -> web.Response:
        query = query_of(request)
        process = self._sources.process()

        def chosen() -> list[stats.Stat]:
            return stats.select(stats.stats_of(process), pattern=query.get("filter", ""), used_only="usedonly" in query)

        try:
            body = stats.as_prometheus(chosen)
        except re.error as error:
            return web.Response(status=400, text=f"Invalid re2 regex: {error}\n")
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    def _clusters(self, request: web.Request) -> web.Response:
        clusters = self._sources.compiler.clusters
        if query_of(request).get("format") == "json":
            return as_json(dumps.clusters_json(clusters))
        return web.Response(text=dumps.clusters_text(clusters), content_type=TEXT)

    def _listeners(self, request: web.Request) -> web.Response:
        listeners = self._sources.listeners.open
        if query_of(request).get("format") == "json":
            return as_json(dumps.listeners_json(listeners))
        return web.Response(text=dumps.listeners_text(listeners), content_type=TEXT)

    def _config_dump(self, request: web.Request) -> web.Response:
        query = query_of(request)
        sections = dumps.config_dump(
            self._sources.snapshot(), self._sources.bootstrap(), include_eds="include_eds" in query
        )
        if "resource" in query:
            items = dumps.resources_of(sections, query["resource"])
            if items is None:
                return web.Response(status=404, text=f"{query['resource']} not found in config dump\n")
            sections = items
        elif "mask" in query:
            sections = dumps.masked(sections, query["mask"])
        return as_json({"configs": sections})

    def _refusals(self, request: web.Request) -> web.Response:
        listeners = self._sources.listeners

        def nearest(number: int, server_name: str) -> str:
            entry = listeners.open.get(listeners.name_of(number))
            return entry.routes.nearest_server_name(server_name) if entry and server_name else ""

        return as_json({"refusals": self._sources.refusals.as_json(listener_name=listeners.name_of, nearest=nearest)})

    def _drain(self, request: web.Request) -> web.Response:
        query = query_of(request)
        if "skip_exit" in query and "graceful" not in query:
            return web.Response(status=400, text="skip_exit needs graceful\n")
        self._sources.drain("graceful" in query, "skip_exit" in query, "inboundonly" in query)
        return web.Response(text="OK\n")

    def _healthcheck_fail(self, request: web.Request) -> web.Response:
        self._healthcheck_failed = True
        return web.Response(text="OK\n")

    def _healthcheck_ok(self, request: web.Request) -> web.Response:
        self._healthcheck_failed = False
        return web.Response(text="OK\n")

    def _logging(self, request: web.Request) -> web.Response:
        level = query_of(request).get("level")
        if level is not None:
            try:
                log.set_level(level)
            except ValueError as error:
                return web.Response(status=400, text=f"{error}\n")
        return web.Response(text=f"active loggers:\n  eastgate: {log.current_level()}\n")

    def _quit(self, request: web.Request) -> web.Response:
        self._sources.quit()
        return web.Response(text="OK\n")
