"""The admin interface: Envoy's paths and shapes on a loopback address. Shows and asks; changes nothing by itself.

Another page is a line of `_shown` (of `_people_shown` for the page for people, of `_orders` where it changes something,
which needs POST), and a method that calls the module which makes it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import field
from datetime import UTC, datetime
from typing import Any, Protocol

from eastgate.proxy import log
from eastgate.proxy.compile.compiler import Compiler
from eastgate.proxy.control_errors import ControlErrors
from eastgate.proxy.errors import EastgateError
from eastgate.proxy.history.event_log import EventLog
from eastgate.proxy.open_listener import OpenListener
from eastgate.proxy.patterns import PatternError
from eastgate.proxy.slices import encoded, sliced
from eastgate.proxy.stats_config import StatsConfig
from eastgate.xds.ads import AdsClient
from eastgate.xds.record import record
from eastgate.xds.resources import Snapshot
from eastgate.xds.secret_store import SecretSnapshot

from . import certs, dumps, exposition, page, process_pages, stats, stats_text
from .asking import Wanted, foreign, query_of
from .events_page import STREAM, EventsPage, parsed
from .histograms import Buckets
from .http_server import JSON, MAX_CONNECTIONS, TEXT, HttpServer, Request, Response
from .refusals import Refusals
from .rendering import Renderer
from .shared_text import SharedTexts, Whole
from .spill import Spill
from .stat import TYPES, Group, Stat, one_by_one
from .stat_tags import StatTags

LOGGER = "eastgate"
# Envoy's names of levels that we call otherwise; of off, the nearest that there is.
LEVEL_NAMES = {"trace": "debug", "warn": "warning", "off": "critical"}

Page = Callable[[Request], Response | Awaitable[Response]]


class ListenersShown(Protocol):
    """The listeners, as pages need them."""

    @property
    def open(self) -> Mapping[str, OpenListener]: ...
    def name_of(self, number: int, /) -> str: ...


class Drains(Protocol):
    """What /drain_listeners asks for."""

    def __call__(self, *, graceful: bool, skip_exit: bool, inbound_only: bool) -> None: ...


@record
class Sources:
    """What admin shows, and the two things that it can ask for. All callables are for the loop's thread."""

    snapshot: Callable[[], Snapshot]
    ads: AdsClient
    compiler: Compiler
    listeners: ListenersShown
    refusals: Refusals
    renderer: Renderer
    state: Callable[[], int]
    process: Callable[[], stats.ProcessStats]
    bootstrap: Callable[[], Mapping[str, Any]]
    server_info: Callable[[], Mapping[str, Any]]
    drain: Drains
    quit: Callable[[], None]
    secrets: Callable[[], SecretSnapshot] = SecretSnapshot
    stats: StatsConfig = field(default_factory=StatsConfig)
    detector: dumps.DetectorOf = dumps.no_detector
    workers: Callable[[], Mapping[str, Any]] = dict
    warming: Callable[[], Collection[str]] = tuple
    reopen_logs: Callable[[], None] = lambda: None
    errors: ControlErrors = field(default_factory=ControlErrors)
    events: EventLog = field(default_factory=EventLog)
    spill: Spill = field(default_factory=Spill)


def as_json(value: object) -> Response:
    return Response(json.dumps(value, indent=1) + "\n", content_type=JSON)


class Admin:
    """The admin server. ``start`` binds, ``close`` ends it."""

    def __init__(self, address: tuple[str, int], sources: Sources, *, max_connections: int = MAX_CONNECTIONS) -> None:
        self._address = address
        self._sources = sources
        self._healthcheck_failed = False
        tags = sources.stats.tags
        self._tags = None if tags is None else StatTags(tags, defaults=sources.stats.default_tags)
        self._texts = SharedTexts(asyncio.get_running_loop().time)
        self._events = EventsPage(sources.events)
        self._people = page.PeoplesPage(sources)
        self._pages = self._paths()
        self._server = HttpServer(self._answer, sources.errors, max_connections=max_connections)

    async def start(self) -> str:
        """Bind and serve; return the URL. Raises EastgateError when the address cannot be bound."""
        host, port = self._address
        try:
            bound = await self._server.start(host, port)
        except OSError as error:
            raise EastgateError(
                f"--admin {host}:{port}: cannot listen: {error.strerror} (another proxy's admin? use port 0)"
            ) from None
        return f"http://[{host}]:{bound[1]}" if ":" in host else f"http://{host}:{bound[1]}"

    @property
    def health_pages(self) -> Mapping[str, Page]:
        """Pages for probes, which may be shown to the world; the second path is that of pilot-agent."""
        return {"/ready": self._ready, "/healthz/ready": self._ready}

    @property
    def metrics_pages(self) -> Mapping[str, Page]:
        """Pages for Prometheus, which tell the names of clusters: not for the world."""
        return {"/stats/prometheus": self._prometheus}

    async def metrics_page(self, request: Request) -> Response:
        """The same with its query, as who asks through a static listener of the bootstrap has it."""
        page = self.metrics_pages.get(request.path)
        response = Response("", status=404) if page is None else page(request)
        return await response if isinstance(response, Awaitable) else response

    async def close(self) -> None:
        await self._server.close()

    async def _answer(self, request: Request) -> Response:
        if refusal := foreign(request):
            return Response(refusal + "\n", status=403)
        page, _, mutates = self._pages.get(request.path, (self._unknown, "", False))
        if mutates and request.method != "POST":
            refusal = f"Method {request.method} not allowed, POST required.\n"
            return Response(refusal, status=405, headers={"Allow": "POST"})
        response = page(request)
        return await response if isinstance(response, Awaitable) else response

    def _paths(self) -> dict[str, tuple[Page, str, bool]]:
        """path -> (page, help, whether it changes something)"""
        shown = {**self._people_shown(), **self._shown()}
        return {
            **{path: (page, text, False) for path, (page, text) in shown.items()},
            **{path: (page, text, True) for path, (page, text) in self._orders().items()},
        }

    def _people_shown(self) -> dict[str, tuple[Page, str]]:
        """The page for people, and what it asks for."""
        people = self._people
        return {
            "/": (self._front, "this page; for browsers, the page for people"),
            **{f"/ui/{name}": (self._file, "part of the page for people") for name in page.FILES},
            "/ui/about": (lambda _: people.about(), "what that page has views of"),
            "/ui/clusters": (lambda _: people.clusters(), "clusters in short, for that page"),
            "/ui/cluster": (self._explained, "a cluster explained (name=, what_if=KIND=VALUE,..., rows=)"),
            "/ui/findings": (lambda _: people.findings(), "what doctor finds here"),
            "/ui/moments": (lambda _: people.moments(), "earlier moments that can be compared"),
            "/ui/compare": (
                lambda request: people.compare(query_of(request)),
                "what moved between two of them (before=ID, after=ID|now)",
            ),
        }

    def _shown(self) -> dict[str, tuple[Page, str]]:
        return {
            "/help": (self._help, "this page"),
            "/ready": (self._ready, "LIVE, or the state that is not"),
            "/server_info": (self._server_info, "version, state, node"),
            "/stats": (
                self._stats,
                "counters (filter=REGEX, usedonly, type=, format=text|json|prometheus, histogram_buckets=)",
            ),
            "/stats/prometheus": (self._prometheus, "counters for Prometheus"),
            "/clusters": (self._clusters, "endpoints with health, priority, weight, share (format=json)"),
            "/certs": (self._certs, "certificates that came by SDS"),
            "/listeners": (self._listeners, "listening sockets (format=json)"),
            "/config_dump": (self._config_dump, "accepted configuration (include_eds, mask, resource, name_regex)"),
            "/debug/xds": (self._ledger, "ACK and NACK of each resource (format=text, type, state, name)"),
            "/debug/workers": (self._workers, "workers whose turn did not end in time"),
            "/refusals": (self._refusals, "latest refused connections and why"),
            "/events": (
                self._events_page,
                "what has happened to traffic, and why (since=ID, kind=...; Accept: text/event-stream follows)",
            ),
            "/memory": (self._memory, "memory of the process"),
            "/runtime": (self._runtime, "Envoy's runtime, of which there is none"),
            "/hot_restart_version": (self._hot_restart_version, "disabled"),
            "/init_dump": (self._init_dump, "clusters and secrets that are waited for"),
            **dict.fromkeys(process_pages.ABSENT, (self._absent, "not there, and why")),
        }

    def _orders(self) -> dict[str, tuple[Page, str]]:
        return {
            "/drain_listeners": (self._drain, "stop listening (graceful, skip_exit, inboundonly)"),
            "/healthcheck/fail": (self._healthcheck_fail, "make /ready fail"),
            "/healthcheck/ok": (self._healthcheck_ok, "undo /healthcheck/fail"),
            "/logging": (self._logging, "show or set the log level (level=...)"),
            "/reopen_logs": (self._reopen_logs, "open access logs anew, as SIGUSR1 does"),
            "/quitquitquit": (self._quit, "end the process"),
        }

    # Each page is made on the loop and answers from what is in memory.

    def _help(self, request: Request) -> Response:
        lines = [
            f"  {path} ({'POST' if mutates else 'GET'}): {text}" for path, (_, text, mutates) in self._pages.items()
        ]
        return Response("eastgate admin commands:\n" + "\n".join(lines) + "\n")

    def _front(self, request: Request) -> Response:
        return page.file_response("index.html") if page.wants_html(request) else self._help(request)

    def _file(self, request: Request) -> Response:
        return page.file_response(request.path.removeprefix("/ui/"))

    async def _explained(self, request: Request) -> Response:
        return await self._people.cluster(query_of(request))

    def _unknown(self, request: Request) -> Response:
        page = self._help(request)
        return Response(f"invalid path. {page.text}", status=404)

    def _ready(self, request: Request) -> Response:
        state = stats.DRAINING if self._healthcheck_failed else self._sources.state()
        return Response(stats.STATE_NAMES[state] + "\n", status=200 if state == stats.LIVE else 503)

    def _server_info(self, request: Request) -> Response:
        return as_json(self._sources.server_info())

    async def _stats(self, request: Request) -> Response:
        query = query_of(request)
        form = query.get("format", "text")
        if form == "prometheus":
            return await self._prometheus(request)
        if form not in ("text", "json"):
            return Response(f"format {form!r} is none of text, json, prometheus\n", status=400)
        try:
            wanted = Wanted.parse(query)
        except PatternError as error:
            return Response(f"Invalid re2 regex: {error}\n", status=400)
        if wanted.type not in TYPES:
            return self._no_type(wanted.type)
        buckets = query.get("histogram_buckets", Buckets.NONE)
        if buckets not in list(Buckets):
            return Response(f"histogram_buckets {buckets!r} is none of {', '.join(Buckets)}\n", status=400)

        async def make() -> Whole:
            process = self._sources.process()
            groups = [one async for one in self._chosen(process, wanted)]
            chosen = sorted(one_by_one(groups), key=lambda stat: stat.name)
            if form == "json":
                pieces = stats_text.as_json(chosen, Buckets(buckets))
            else:
                versions = {f"{stream.prefix}.version_text": stream.version for stream in process.streams}
                texts = wanted.type in ("All", "TextReadouts")
                shows = self._sources.stats.matcher.shows
                shown = {name: one for name, one in versions.items() if texts and shows(name) and wanted.named(name)}
                pieces = stats_text.as_text(chosen, shown, Buckets(buckets))
            return Whole([chunk async for chunk in encoded(pieces)])

        text = await self._texts.read((form, buckets, wanted), make)
        return Response(chunks=text, content_type=JSON if form == "json" else TEXT, shared=True)

    def _no_type(self, name: str) -> Response:
        return Response(f"type {name!r} is none of {', '.join(TYPES)}\n", status=400)

    async def _chosen(self, process: stats.ProcessStats, wanted: "Wanted") -> AsyncIterator[Stat | Group]:
        """The stats that were asked for, as they come."""
        choice = wanted.choice(self._sources.stats.matcher)
        async for one in sliced(choice.of(stats.counted(process, choice))):
            if one is not None:
                yield one

    async def _prometheus(self, request: Request) -> Response:
        try:
            wanted = Wanted.parse(query_of(request))
        except PatternError as error:
            return Response(f"Invalid re2 regex: {error}\n", status=400)
        if wanted.type not in TYPES:
            return self._no_type(wanted.type)

        async def make() -> exposition.Exposition:
            text = exposition.Exposition()
            async for one in self._chosen(self._sources.process(), wanted):
                if self._tags is None:
                    text.add(one)
                else:
                    for stat in one_by_one((one,)):
                        text.add(self._tags.tagged(stat))
            return text

        text = await self._texts.read(("prometheus", wanted), make)
        return Response(chunks=text, content_type=exposition.CONTENT_TYPE, shared=True)

    def _clusters(self, request: Request) -> Response:
        clusters = dict(self._sources.compiler.clusters)
        if query_of(request).get("format") == "json":
            return Response(chunks=encoded(dumps.clusters_json(clusters, self._sources.detector)), content_type=JSON)
        return Response(chunks=encoded(dumps.clusters_text(clusters, self._sources.detector)))

    def _listeners(self, request: Request) -> Response:
        listeners, notices = self._sources.listeners.open, self._sources.compiler.notices.by_resource
        if query_of(request).get("format") == "json":
            return as_json(dumps.listeners_json(listeners, notices))
        return Response(dumps.listeners_text(listeners, notices))

    def _certs(self, request: Request) -> Response:
        return as_json(certs.certs_json(self._sources.snapshot(), self._sources.secrets(), datetime.now(UTC)))

    def _config_dump(self, request: Request) -> Response:
        # Late, as the ledger is: most gateways are never asked for either.
        from . import config_dump

        try:
            query = config_dump.Query.parse(query_of(request))
        except config_dump.NotFoundError as error:
            return Response(f"{error}\n", status=404)
        except config_dump.BadQueryError as error:
            return Response(f"{error}\n", status=400)
        sources = self._sources
        chunks = config_dump.chunks(
            sources.snapshot(),
            sources.bootstrap(),
            query,
            sources.secrets(),
            sources.renderer.texts,
            sources.compiler.notices.by_resource,
        )
        return Response(chunks=chunks, content_type=JSON)

    async def _ledger(self, request: Request) -> Response:
        from . import ledger_page

        query = query_of(request)
        if error := ledger_page.query_error(query):
            return Response(f"{error}\n", status=400)
        ads, moment = self._sources.ads, ledger_page.now(asyncio.get_running_loop().time())
        stream = ledger_page.stream_json(ads, moment)
        faults = ledger_page.faults_json(self._sources.errors.latest)
        lines = ads.ledger.lines(ads.store.snapshot, ads.store.wanted)
        notices = self._sources.compiler.notices.by_resource
        chosen = ledger_page.wanted(lines, query)
        if query.get("format") != "text":
            return Response(
                chunks=encoded(ledger_page.json_pieces(stream, faults, chosen, moment, notices)), content_type=JSON
            )
        rows = [ledger_page.line_json(line, moment, notices) async for line in sliced(chosen)]
        return Response(chunks=encoded(ledger_page.text_pieces(stream, faults, rows)))

    def _workers(self, request: Request) -> Response:
        return as_json(self._sources.workers())

    def _refusals(self, request: Request) -> Response:
        listeners = self._sources.listeners

        def nearest(number: int, server_name: str) -> str:
            entry = listeners.open.get(listeners.name_of(number))
            return entry.routes.nearest_server_name(server_name) if entry and server_name else ""

        return as_json({"refusals": self._sources.refusals.as_json(listener_name=listeners.name_of, nearest=nearest)})

    def _events_page(self, request: Request) -> Response:
        query = query_of(request)
        follows = "text/event-stream" in request.headers.get("accept", "")
        try:
            # As the standard has it: who comes again says what it saw last.
            if follows and (seen := request.headers.get("last-event-id", "")):
                query["since"] = seen
            since, kind = parsed(query)
        except ValueError as error:
            return Response(f"{error}\n", status=400)
        if not follows:
            return as_json(self._events.as_json(query))
        if self._events.is_full:
            return Response("enough others follow; ask without text/event-stream\n", status=503)
        headers = {"Cache-Control": "no-store"}
        return Response(chunks=self._events.stream(since, kind), content_type=STREAM, headers=headers, shared=True)

    def _drain(self, request: Request) -> Response:
        query = query_of(request)
        if "skip_exit" in query and "graceful" not in query:
            return Response("skip_exit needs graceful\n", status=400)
        self._sources.drain(
            graceful="graceful" in query, skip_exit="skip_exit" in query, inbound_only="inboundonly" in query
        )
        return Response("OK\n")

    def _healthcheck_fail(self, request: Request) -> Response:
        self._healthcheck_failed = True
        return Response("OK\n")

    def _healthcheck_ok(self, request: Request) -> Response:
        self._healthcheck_failed = False
        return Response("OK\n")

    def _logging(self, request: Request) -> Response:
        asked = query_of(request)
        if unknown := sorted(asked.keys() - {"level", LOGGER}):
            # Envoy has some sixty loggers, and sets one by its name or a path of its sources.
            return Response(f"no logger {unknown[0]!r}: there is {LOGGER} alone, level= sets it\n", status=400)
        for level in asked.values():
            try:
                log.set_level(LEVEL_NAMES.get(level, level))
            except ValueError as error:
                return Response(f"{error}\n", status=400)
        return Response(f"active loggers:\n  {LOGGER}: {log.current_level()}\n")

    def _memory(self, request: Request) -> Response:
        return as_json(process_pages.memory_json(process_pages.memory_bytes()))

    def _runtime(self, request: Request) -> Response:
        return as_json(process_pages.runtime_json())

    def _hot_restart_version(self, request: Request) -> Response:
        return Response("disabled\n")

    def _init_dump(self, request: Request) -> Response:
        secrets = {ref.name for ref in self._sources.secrets().missing}
        return as_json(process_pages.init_dump_json(self._sources.warming(), secrets))

    def _reopen_logs(self, request: Request) -> Response:
        self._sources.reopen_logs()
        return Response("OK\n")

    def _absent(self, request: Request) -> Response:
        return Response(process_pages.ABSENT[request.path], status=501)

    def _quit(self, request: Request) -> Response:
        self._sources.quit()
        return Response("OK\n")
