"""The page for people at / of admin: its files, and the JSON that it asks for beside the other pages. Decides no share.

Shares, reasons, what-if and findings are those of `eastgate explain` and `eastgate doctor`, made by the same functions
out of the same dumps. What takes longer than a slice is done on another thread, one at a time.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from eastgate.insight.dump_fields import flat_address
from eastgate.proxy.compile.compiled import CompiledCluster
from eastgate.proxy.compile.compiler import Compiler
from eastgate.proxy.control_errors import ControlErrors, Part
from eastgate.proxy.open_listener import OpenListener
from eastgate.proxy.slices import Errand, encoded
from eastgate.xds.ads import AdsClient
from eastgate.xds.record import record
from eastgate.xds.resources import Snapshot

from . import dumps
from .http_server import JSON, Request, Response
from .page_moments import PageMoments
from .spill import Spill

if TYPE_CHECKING:
    from eastgate.insight.cluster_model import ProxyModel

FOLDER = Path(__file__).with_name("ui")
FILES = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
# Names come from strangers. The page makes text nodes alone; were it otherwise, nothing that is not ours would run.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
# How long a dump is kept for who asks again: it is as large as the cluster.
KEPT_S = 30.0
# Who may wait while one answer is computed.
MAX_WAITING = 8
SOURCE = "this proxy"
NO_ANSWER = "others ask for as much as can be computed; ask again\n"


class Opened(Protocol):
    """The listeners, as the page needs them."""

    @property
    def open(self) -> Mapping[str, OpenListener]: ...


class Shown(Protocol):
    """What the page is made of, as admin has it. All callables are for the loop's thread."""

    @property
    def snapshot(self) -> Callable[[], Snapshot]: ...
    @property
    def bootstrap(self) -> Callable[[], Mapping[str, Any]]: ...
    @property
    def ads(self) -> AdsClient: ...
    @property
    def compiler(self) -> Compiler: ...
    @property
    def listeners(self) -> Opened: ...
    @property
    def detector(self) -> dumps.DetectorOf: ...
    @property
    def spill(self) -> Spill: ...
    @property
    def errors(self) -> ControlErrors: ...


@cache
def text_of(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def file_response(name: str) -> Response:
    """One of FILES."""
    return Response(text_of(name), content_type=FILES[name], headers=HEADERS)


def wants_html(request: Request) -> bool:
    """Whether a browser asks; curl and Prometheus get text."""
    return "text/html" in request.headers.get("accept", "")


def state_of(compiled: CompiledCluster, *, warming: bool) -> str:
    """How a cluster is, in one word. The first that holds of what an operator wants to know first."""
    if compiled.closed:
        return "refusing"
    if compiled.table is None:
        return "warming" if warming else "empty"
    if compiled.assignment is None:
        return "direct"
    if not compiled.table.finds_endpoints():
        return "refusing" if len(compiled.table) else "empty"
    return state_of_rows(compiled.table.priorities())


def state_of_rows(rows: Sequence[tuple[int, ...]]) -> str:
    """The same of a cluster that serves, by what its table says of each priority."""
    if any(panic and load + degraded for *_, load, degraded, _, panic in rows):
        return "panic"
    first = next((row for row in rows if row[0]), None)
    if first is not None and first[4] + first[5] < 100:
        return "spilled"
    return "well" if sum(row[1] for row in rows) == sum(row[0] for row in rows) else "reduced"


def overview(name: str, compiled: CompiledCluster, *, warming: bool) -> dict[str, Any]:
    """One line of the list: state, endpoints, open connections, percent by priority."""
    table = compiled.table if compiled.assignment is not None else None
    rows = table.priorities() if table is not None else ()
    return {
        "name": name,
        "type": compiled.cluster.type,
        "state": state_of(compiled, warming=warming),
        "endpoints": sum(row[0] for row in rows),
        "healthy": sum(row[1] for row in rows),
        "loads": [row[4] + row[5] for row in rows],
        "active": sum(table.state(row)[0] for row in range(len(table))) if table is not None else 0,
    }


def pieces(clusters: Mapping[str, CompiledCluster], warming: frozenset[str]) -> Iterator[str]:
    """The JSON text of all clusters, a piece for each."""
    yield '{"clusters": ['
    separator = "\n"
    for name, compiled in clusters.items():
        yield separator + json.dumps(overview(name, compiled, warming=name in warming))
        separator = ",\n"
    yield "\n]}\n"


def only(snapshot: Snapshot, names: frozenset[str]) -> Snapshot:
    """The snapshot with nothing but these clusters and their assignments."""
    clusters = {name: snapshot.clusters[name] for name in names if name in snapshot.clusters}
    assigned = {one.assignment_name or one.name for one in clusters.values()}
    return replace(
        snapshot,
        clusters=clusters,
        waiting={},
        assignments={name: one for name, one in snapshot.assignments.items() if name in assigned},
        listeners={},
        routes={},
        rejections=(),
    )


def modelled(configuration: bytes, statuses: Mapping[str, Any]) -> "ProxyModel":
    """What the dumps of a proxy say, read as `eastgate explain` reads them."""
    from eastgate.insight.read_dump import join, read_document

    return join(read_document(json.loads(configuration), SOURCE), read_document(statuses, SOURCE))


def connections_of(status: Mapping[str, Any]) -> dict[str, tuple[int, int, int]]:
    """(open, so far, failed to connect) by address."""
    found = {}
    for host in status.get("host_statuses", ()):
        values = {one["name"]: int(one["value"]) for one in host["stats"]}
        found[flat_address(host["address"])] = (
            values["cx_active"],
            values["cx_total"],
            values["cx_connect_fail"],
        )
    return found


def rows_of(query: Mapping[str, str]) -> int | None:
    """How many endpoints are asked for; None: all. Raises ValueError."""
    text = query.get("rows", "")
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError(f"rows={text} is no number")
    return int(text) if text else None


def groups_of(endpoints: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Shares by priority and locality."""
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for one in endpoints:
        place = one["priority"], one["locality"]
        group = found.setdefault(place, {"priority": place[0], "locality": place[1], "share": 0.0, "endpoints": 0})
        group["share"] += one["share"]
        group["endpoints"] += 1
    return list(found.values())


def cut(shown: dict[str, Any], connections: Mapping[str, Any], rows: int | None) -> dict[str, Any]:
    """The explanation, with connections. Of endpoints the first ``rows`` are listed, all are counted: a browser would
    read megabytes of thousands, to show two hundred.
    """
    for said in (shown, shown.get("what_if")):
        if said is not None:
            every = said["endpoints"]
            said |= {"endpoints": every[:rows], "endpoint_count": len(every), "groups": groups_of(every)}
    listed = {one["address"] for one in shown["endpoints"]}
    return {**shown, "connections": {address: one for address, one in connections.items() if address in listed}}


def answered(
    name: str, what_if: str, rows: int | None, configuration: bytes, statuses: Mapping[str, Any]
) -> dict[str, Any]:
    """What `eastgate explain` says of the cluster. Raises InsightError."""
    from eastgate.insight.answer import answer, answer_json, find_cluster

    proxy, model = find_cluster([modelled(configuration, statuses)], name)
    shown = answer_json(answer(proxy, model, what_if=[what_if] if what_if else [], duplicates="first"))
    own = next(one for one in statuses["cluster_statuses"] if one["name"] == name)
    return cut(shown, connections_of(own), rows)


def examined(configuration: bytes, statuses: Mapping[str, Any], pages: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What `eastgate doctor` finds; ``pages``: /listeners and the ledger."""
    from dataclasses import asdict

    from eastgate.insight.doctor import examine
    from eastgate.insight.read_dump import join, read_document

    proxy = modelled(configuration, statuses)
    for one in pages:
        proxy = join(proxy, read_document(one, SOURCE))
    return {"findings": [asdict(one) for one in examine([proxy])]}


@record
class _Configuration:
    """A dump, and what it is of: who looks at a cluster, and clicks, asks for the same one again and again."""

    snapshot: Snapshot
    notices: Mapping[Any, Any]
    names: frozenset[str] | None
    text: bytes

    def made_of(self, snapshot: Snapshot, notices: Mapping[Any, Any], names: frozenset[str] | None) -> bool:
        return self.snapshot is snapshot and self.notices == notices and self.names == names


class PeoplesPage:
    """Answers of one proxy."""

    def __init__(self, sources: Shown) -> None:
        self._sources = sources
        self._busy = asyncio.Lock()
        self._waiting = 0
        self._moments = PageMoments()
        self._configuration: _Configuration | None = None
        sources.compiler.observers.append(sources.errors.guarded(Part.ADMIN, self._moments.published))

    def about(self) -> Response:
        """Which views there are, and of whom, where that is not who serves the page."""
        return Response('{"views": null, "source": ""}\n', content_type=JSON)

    def clusters(self) -> Response:
        """All clusters, in short."""
        clusters = dict(self._sources.compiler.clusters)
        return Response(chunks=encoded(pieces(clusters, self._sources.snapshot().warming)), content_type=JSON)

    async def cluster(self, query: Mapping[str, str]) -> Response:
        """``name``: which cluster; ``what_if``: what is down, as `eastgate explain --what-if` takes it; ``rows``: how
        many endpoints are listed.
        """
        name = query.get("name", "")
        if name not in self._sources.compiler.clusters:
            return Response(f"no cluster {name!r}\n", status=404)
        try:
            rows = rows_of(query)
        except ValueError as error:
            return Response(f"{error}\n", status=400)
        local = (self._sources.bootstrap().get("cluster_manager") or {}).get("local_cluster_name", "")
        wanted = frozenset({name, str(local)})
        closed = self._sources.compiler.clusters[name].closed
        # Shares hold of what would be picked, did it not refuse for another reason.
        more = {"spill": self._sources.spill.as_json(name), **({"refused_because": closed} if closed else {})}
        return await self._computed(partial(answered, name, query.get("what_if", ""), rows), wanted, more)

    async def findings(self) -> Response:
        """Everything that doctor finds in this proxy."""

        async def asked() -> Callable[[], dict[str, Any]]:
            configuration, statuses = await self._dumps(None)
            notices = self._sources.compiler.notices.by_resource
            pages = dumps.listeners_json(self._sources.listeners.open, notices), await self._rejections()
            return partial(examined, configuration, statuses, pages)

        return await self._aside(asked)

    def moments(self) -> Response:
        """Earlier moments that can be compared."""
        return Response(json.dumps(self._moments.as_json()) + "\n", content_type=JSON)

    async def compare(self, query: Mapping[str, str]) -> Response:
        """``before``, ``after``: ids of moments, the latter `now` unless given."""
        try:
            question = self._moments.question(query)
        except ValueError as error:
            return Response(f"{error}\n", status=400)
        except KeyError:
            return Response("no such moment: it is forgotten, or has not been\n", status=404)

        async def asked() -> Callable[[], dict[str, Any]]:
            return question

        return await self._aside(asked)

    async def _computed(
        self,
        work: Callable[[bytes, Mapping[str, Any]], dict[str, Any]],
        names: frozenset[str] | None,
        more: Mapping[str, Any],
    ) -> Response:
        async def asked() -> Callable[[], dict[str, Any]]:
            configuration, statuses = await self._dumps(names)
            return lambda: {**work(configuration, statuses), **more}

        return await self._aside(asked)

    async def _aside(self, asked: Callable[[], Awaitable[Callable[[], dict[str, Any]]]]) -> Response:
        """What is computed, on another thread, when it is its turn; ``asked`` gathers what it is computed from."""
        from eastgate.insight.errors import InsightError

        if self._waiting >= MAX_WAITING:
            return Response(NO_ANSWER, status=503, headers={"Retry-After": "1"})
        self._waiting += 1
        try:
            async with self._busy:
                work = await asked()
                errand = Errand(lambda: json.dumps(work()))
                await errand.run_aside()
                return Response(errand.result() + "\n", content_type=JSON, headers={"Cache-Control": "no-store"})
        except InsightError as error:
            return Response(f"{error}\n", status=400)
        finally:
            self._waiting -= 1

    def _forget(self, configuration: _Configuration) -> None:
        if self._configuration is configuration:
            self._configuration = None

    async def _rejections(self) -> Mapping[str, Any]:
        """/debug/xds?state=nacked: the stream, and what is rejected now."""
        from . import ledger_page

        ads, moment = self._sources.ads, ledger_page.now(asyncio.get_running_loop().time())
        lines = ledger_page.wanted(ads.ledger.lines(ads.store.snapshot, ads.store.wanted), {"state": "NACKED"})
        shown = ledger_page.json_pieces(ledger_page.stream_json(ads, moment), [], lines, moment, {})
        found: Mapping[str, Any] = json.loads(b"".join([chunk async for chunk in encoded(shown)]))
        return found

    async def _dumps(self, names: frozenset[str] | None) -> tuple[bytes, Mapping[str, Any]]:
        """/config_dump?include_eds and /clusters?format=json, of these clusters or of all."""
        # Late, as insight is: most gateways are never asked.
        from . import config_dump

        sources, snapshot = self._sources, self._sources.snapshot()
        clusters = {key: one for key, one in sources.compiler.clusters.items() if names is None or key in names}
        notices = sources.compiler.notices.by_resource
        known = self._configuration
        if known is None or not known.made_of(snapshot, notices, names):
            shown = config_dump.chunks(
                snapshot if names is None else only(snapshot, names),
                sources.bootstrap(),
                config_dump.Query(include_eds=True),
                notices=notices,
            )
            known = _Configuration(snapshot, notices, names, b"".join([chunk async for chunk in shown]))
            if names is not None:
                self._configuration = known
                asyncio.get_running_loop().call_later(KEPT_S, self._forget, known)
        text = b"".join([chunk async for chunk in encoded(dumps.clusters_json(clusters, sources.detector))])
        return known.text, json.loads(text)
