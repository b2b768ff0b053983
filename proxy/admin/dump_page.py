"""The page for people, of a proxy that has none: stock Envoy, or files. Its dumps are read, and explained as ours are.

What such a proxy has no page for (refusals, events, the ledger) is no view; moments are those since the page was begun.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from eastgate.insight.answer import answer, answer_json, find_cluster
from eastgate.insight.cluster_model import ClusterModel, ProxyModel, compile_model
from eastgate.insight.comparison import comparison
from eastgate.insight.doctor import examine
from eastgate.insight.dump_source import Admin, proxies
from eastgate.insight.errors import InsightError
from eastgate.insight.moments import Moments
from eastgate.proxy.slices import Errand

from . import page
from .asking import foreign, query_of
from .http_server import JSON, HttpServer, Request, Response
from .page_moments import asked_moments

# Dumps of a large mesh take a second to make: whoever looks at the page asks every five.
FRESH_S = 4.0
# View -> the pages of the proxy that it is made of.
VIEWS = {"traffic": "", "compare": "", "refusals": "/refusals", "events": "/events", "resources": "/debug/xds"}
VIEWS |= {"certs": "/certs", "doctor": ""}
FILES = "files"


def state_of(model: ClusterModel) -> tuple[str, Sequence[tuple[int, ...]]]:
    """How a cluster is, in the words of the page, and what its table says of each priority."""
    if model.type == "ORIGINAL_DST":
        return "direct", []
    if not model.endpoints:
        return ("warming" if model.warming else "empty"), []
    try:
        table = compile_model(model).table
    except ValueError:
        # A policy without shares.
        return "direct", []
    rows = table.priorities()
    if not table.finds_endpoints():
        return "refusing", rows
    return page.state_of_rows(rows), rows


def overview(model: ClusterModel) -> dict[str, Any]:
    """One line of the list."""
    state, rows = state_of(model)
    return {
        "name": model.name,
        "type": model.type,
        "state": state,
        "endpoints": len(model.endpoints),
        "healthy": sum(row[1] for row in rows),
        "loads": [row[4] + row[5] for row in rows],
        "active": sum(one.active for one in model.endpoints),
    }


def uncounted(model: ClusterModel) -> ClusterModel:
    """Without what is counted, which is another at each look."""
    endpoints = tuple(one._replace(connects=0, connect_failures=0, active=0) for one in model.endpoints)
    return replace(model, endpoints=endpoints)


class DumpPage:
    """``admin``: of the proxy; ``dumps``: files instead. Owned by the loop that called ``start``."""

    def __init__(self, admin: Admin, dumps: Sequence[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._admin, self._dumps, self._clock = admin, dumps, clock
        self._read: tuple[float, tuple[ProxyModel, ...]] | None = None
        self._reading = asyncio.Lock()
        self._moments: Moments[ClusterModel] = Moments(weigh=lambda model: len(model.endpoints))
        self._known: dict[str, ClusterModel] = {}
        self._views: list[str] = []
        self._server = HttpServer(self._answer)
        self._pages: dict[str, Callable[[Mapping[str, str]], Awaitable[Any]]] = {
            "/ui/about": self._about,
            "/ui/clusters": self._clusters,
            "/ui/cluster": self._cluster,
            "/ui/findings": self._findings,
            "/ui/moments": self._listed,
            "/ui/compare": self._compare,
            "/server_info": self._server_info,
        }

    async def start(self, host: str, port: int) -> str:
        """Read the proxy once, then serve; return the URL. Raises InsightError, and OSError for the address."""
        await self._models()
        self._views = [name for name, path in VIEWS.items() if not path or await self._has(path)]
        bound = await self._server.start(host, port)
        return f"http://[{host}]:{bound[1]}/" if ":" in host else f"http://{host}:{bound[1]}/"

    async def close(self) -> None:
        await self._server.close()

    async def _answer(self, request: Request) -> Response:
        if refusal := foreign(request):
            return Response(refusal + "\n", status=403)
        if request.method not in ("GET", "HEAD"):
            return Response("GET only\n", status=405, headers={"Allow": "GET, HEAD"})
        if request.path == "/":
            return page.file_response("index.html")
        if (name := request.path.removeprefix("/ui/")) in page.FILES and request.path != f"/{name}":
            return page.file_response(name)
        try:
            if request.path in self._pages:
                found = await self._pages[request.path](query_of(request))
            elif request.path in [VIEWS[view] for view in self._views if VIEWS[view]]:
                found = await self._asked(request.path)
            else:
                return Response("not found\n", status=404)
        except (InsightError, ValueError) as error:
            return Response(f"{error}\n", status=400)
        except KeyError:
            return Response("no such moment: it is forgotten, or has not been\n", status=404)
        return Response(json.dumps(found) + "\n", content_type=JSON, headers={"Cache-Control": "no-store"})

    async def _asked(self, path: str) -> Any:
        errand = Errand(lambda: self._admin.read(path))
        await errand.run_aside()
        return errand.result()

    async def _has(self, path: str) -> bool:
        if self._dumps:
            return False
        try:
            await self._asked(path)
        except InsightError:
            return False
        return True

    async def _models(self) -> tuple[ProxyModel, ...]:
        """The proxy as it is, at most FRESH_S ago."""
        async with self._reading:
            if self._read is not None and self._clock() - self._read[0] < FRESH_S:
                return self._read[1]
            errand = Errand(lambda: proxies(self._admin, self._dumps, more=True))
            await errand.run_aside()
            found = errand.result()
            self._read = self._clock(), found
            self._remember(found)
            return found

    def _remember(self, found: Sequence[ProxyModel]) -> None:
        now = {name: uncounted(model) for proxy in reversed(found) for name, model in proxy.clusters.items()}
        for name in {**self._known, **now}:
            if self._known.get(name) != now.get(name):
                self._moments.change(name, now.get(name))
        self._known = now

    async def _about(self, _: Mapping[str, str]) -> dict[str, Any]:
        return {"views": self._views, "source": ", ".join(one.source for one in await self._models())}

    async def _computed(self, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        errand = Errand(work)
        await errand.run_aside()
        return errand.result()

    async def _clusters(self, _: Mapping[str, str]) -> dict[str, Any]:
        models = await self._models()
        named = {name: model for proxy in reversed(models) for name, model in proxy.clusters.items()}
        return await self._computed(lambda: {"clusters": [overview(one) for one in named.values()]})

    async def _cluster(self, query: Mapping[str, str]) -> dict[str, Any]:
        models = await self._models()
        what_if, rows = [query["what_if"]] if query.get("what_if") else [], page.rows_of(query)

        def explained() -> dict[str, Any]:
            proxy, model = find_cluster(models, query.get("name", ""))
            shown = answer_json(answer(proxy, model, what_if=what_if, duplicates="first"))
            counted = {one.address: (one.active, one.connects, one.connect_failures) for one in model.endpoints}
            return page.cut(shown, counted, rows)

        return await self._computed(explained)

    async def _findings(self, _: Mapping[str, str]) -> dict[str, Any]:
        models = await self._models()
        return await self._computed(lambda: {"findings": [asdict(one) for one in examine(models)]})

    async def _listed(self, _: Mapping[str, str]) -> dict[str, Any]:
        await self._models()
        return {"moments": self._moments.listed()}

    async def _compare(self, query: Mapping[str, str]) -> dict[str, Any]:
        between = self._moments.between(*asked_moments(query))
        return await self._computed(lambda: comparison(between))

    async def _server_info(self, _: Mapping[str, str]) -> dict[str, Any]:
        if self._dumps:
            return {"version": FILES, "state": "LIVE"}
        found: dict[str, Any] = await self._asked("/server_info")
        return found
