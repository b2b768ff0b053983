"""/config_dump: the sections of envoy.admin.v3.ConfigDump, as text that is made while it is sent.

A dump of a large mesh takes seconds; it must neither hold up the loop nor stand in memory as a whole.
"""

import asyncio
import copy
import json
import os
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from eastgate.proxy.bootstrap_dump import static_clusters, static_listeners, static_routes
from eastgate.proxy.compile.notices import Notices
from eastgate.proxy.errors import EastgateError
from eastgate.proxy.patterns import Pattern, PatternError
from eastgate.proxy.slices import SLICE_S
from eastgate.xds.decode import CDS, EDS, LDS, RDS, SDS
from eastgate.xds.message import encode
from eastgate.xds.resources import Snapshot
from eastgate.xds.secret import SECRET
from eastgate.xds.secret_store import SecretSnapshot
from eastgate.xds.tls_records import SecretRef

from .dumps import timestamp
from .rendering import Render, Resource, plain

ADMIN = "type.googleapis.com/envoy.admin.v3."
# Fields that ?resource= may ask for, with the message of their items.
ITEMS = {
    "static_clusters": "ClustersConfigDump.StaticCluster",
    "dynamic_active_clusters": "ClustersConfigDump.DynamicCluster",
    "dynamic_warming_clusters": "ClustersConfigDump.DynamicCluster",
    "static_endpoint_configs": "EndpointsConfigDump.StaticEndpointConfig",
    "dynamic_endpoint_configs": "EndpointsConfigDump.DynamicEndpointConfig",
    "static_listeners": "ListenersConfigDump.StaticListener",
    "dynamic_listeners": "ListenersConfigDump.DynamicListener",
    "static_route_configs": "RoutesConfigDump.StaticRouteConfig",
    "dynamic_route_configs": "RoutesConfigDump.DynamicRouteConfig",
    "static_secrets": "SecretsConfigDump.StaticSecret",
    "dynamic_active_secrets": "SecretsConfigDump.DynamicSecret",
    "dynamic_warming_secrets": "SecretsConfigDump.DynamicSecret",
}
SINGLE = ("bootstrap", "version_info", "last_updated")
CHUNK_BYTES = 65536
NO_SECRETS = SecretSnapshot()


Piece = str | Resource
"""Text of a dump, or a resource whose text belongs here"""


class NotFoundError(EastgateError):
    """No section has the field that was asked for."""


class BadQueryError(EastgateError):
    """A query parameter that means nothing."""


NO_NOTICES: Mapping[tuple[str, str], Notices] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Query:
    """What of the configuration is wanted. Empty: everything but endpoints."""

    include_eds: bool = False
    resource: str = ""
    mask: tuple[str, ...] = ()
    name: Pattern | None = None

    @classmethod
    def parse(cls, parameters: Mapping[str, str]) -> "Query":
        """Raises NotFoundError and BadQueryError for what cannot be answered."""
        resource, pattern = parameters.get("resource", ""), parameters.get("name_regex", "")
        if resource in SINGLE:
            raise BadQueryError(f"{resource} is not a repeated field. Use ?mask={resource} to get only this field")
        if resource and resource not in ITEMS:
            raise NotFoundError(f"{resource} not found in config dump")
        try:
            name = Pattern(pattern) if pattern else None
        except PatternError as error:
            raise BadQueryError(f"Invalid re2 regex in name_regex: {error}") from None
        mask = tuple(part.strip().partition(".")[0] for part in parameters.get("mask", "").split(",") if part.strip())
        return cls(
            include_eds="include_eds" in parameters or resource.endswith("_endpoint_configs"),
            resource=resource,
            mask=mask,
            name=name,
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One item of a repeated field. ``path``: where in `fields` the text of `resource` belongs, if it has one."""

    name: str
    fields: dict[str, Any]
    path: tuple[str, ...] = ()
    resource: Resource | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """One section: plain fields, and repeated ones whose items are made when they are asked for."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    items: dict[str, Iterable[Entry]] = field(default_factory=dict)


def sections(
    snapshot: Snapshot,
    bootstrap: Mapping[str, Any],
    query: Query,
    secrets: SecretSnapshot = NO_SECRETS,
    notices: Mapping[tuple[str, str], Notices] = NO_NOTICES,
) -> list[Section]:
    """The sections that a gateway has, before any query but include_eds."""
    versions = snapshot.versions

    def noticed(kind: str, name: str) -> dict[str, Any]:
        found = notices.get((kind, name), ())
        return {"eastgate_notices": [one.as_json() for one in found]} if found else {}

    rejected = {
        (one.type_url, one.name): {"error_state": {"details": one.reason, "version_info": one.version}}
        for one in snapshot.rejections
    }

    def never_accepted(type_url: str, held: Mapping[str, object]) -> Iterator[Entry]:
        """What was rejected and has no earlier version, as Envoy shows it: with what failed."""
        for (kind, name), state in rejected.items():
            if kind == type_url and name not in held:
                raw = next(one.raw for one in snapshot.rejections if (one.type_url, one.name) == (kind, name))
                fields = {"name": name, **state} if kind == LDS else dict(state)
                yield Entry(name, fields, ("error_state", "failed_configuration"), (kind, raw))

    def clusters(*, warming: bool) -> Iterator[Entry]:
        found = [one for one in snapshot.clusters.values() if (one.name in snapshot.warming) is warming]
        for cluster in (*found, *(snapshot.waiting.values() if warming else ())):
            fields = {"version_info": versions.get(CDS, ""), **rejected.get((CDS, cluster.name), {})}
            fields |= noticed("CDS", cluster.name)
            yield Entry(cluster.name, fields, ("cluster",), (CDS, cluster.raw))
        if warming:
            yield from never_accepted(CDS, {**snapshot.clusters, **snapshot.waiting})

    def endpoints() -> Iterator[Entry]:
        for assignment in snapshot.assignments.values():
            fields = dict(rejected.get((EDS, assignment.cluster_name), {}))
            yield Entry(assignment.cluster_name, fields, ("endpoint_config",), (EDS, assignment.raw))
        yield from never_accepted(EDS, snapshot.assignments)

    def listeners() -> Iterator[Entry]:
        for one in snapshot.listeners.values():
            state = {"version_info": versions.get(LDS, "")}
            fields = {"name": one.name, "active_state": state, **rejected.get((LDS, one.name), {})}
            fields |= noticed("LDS", one.name)
            yield Entry(one.name, fields, ("active_state", "listener"), (LDS, one.raw))
        yield from never_accepted(LDS, snapshot.listeners)

    def static(field: str, found: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[Entry]:
        for name, resource in found:
            yield Entry(name, {field: resource})

    def inline_routes() -> Iterator[Entry]:
        yield from static("route_config", static_routes(bootstrap))
        for listener in snapshot.listeners.values():
            for chain in (*listener.filter_chains, listener.default_filter_chain):
                if chain is not None and chain.route_config is not None:
                    routes = chain.route_config
                    yield Entry(routes.name, {}, ("route_config",), (RDS, routes.raw))

    def routes() -> Iterator[Entry]:
        for one in snapshot.routes.values():
            fields = {"version_info": versions.get(RDS, ""), **rejected.get((RDS, one.name), {})}
            fields |= noticed("RDS", one.name)
            yield Entry(one.name, fields, ("route_config",), (RDS, one.raw))
        yield from never_accepted(RDS, snapshot.routes)

    def active_secrets() -> Iterator[Entry]:
        for ref, secret in secrets.secrets.items():
            fields = {
                "name": secret.name,
                "version_info": secret.version,
                "last_updated": timestamp(secret.updated.timestamp()),
            }
            yield Entry(secret.name, {**fields, **failed_secret(ref)}, ("secret",), (SDS, secret.public))

    def warming_secrets() -> Iterator[Entry]:
        for ref in sorted(secrets.missing):
            fields = {"name": ref.name, "version_info": "uninitialized", **failed_secret(ref)}
            yield Entry(ref.name, fields, ("secret",), (SDS, encode(SECRET, {"name": ref.name})))

    def failed_secret(ref: SecretRef) -> dict[str, Any]:
        one = secrets.rejections.get(ref)
        return {} if one is None else {"error_state": {"details": one.reason, "version_info": one.version}}

    return [
        Section("BootstrapConfigDump", {"bootstrap": dict(bootstrap)}),
        Section(
            "ClustersConfigDump",
            {"version_info": versions.get(CDS, "")},
            {
                "static_clusters": static("cluster", static_clusters(bootstrap)),
                "dynamic_active_clusters": clusters(warming=False),
                "dynamic_warming_clusters": clusters(warming=True),
            },
        ),
        *([Section("EndpointsConfigDump", {}, {"dynamic_endpoint_configs": endpoints()})] if query.include_eds else []),
        Section(
            "ListenersConfigDump",
            {"version_info": versions.get(LDS, "")},
            {"static_listeners": static("listener", static_listeners(bootstrap)), "dynamic_listeners": listeners()},
        ),
        Section("ScopedRoutesConfigDump"),
        Section("RoutesConfigDump", {}, {"static_route_configs": inline_routes(), "dynamic_route_configs": routes()}),
        Section(
            "SecretsConfigDump",
            {},
            {"dynamic_active_secrets": active_secrets(), "dynamic_warming_secrets": warming_secrets()},
        ),
    ]


class _Writer:
    """JSON with holes: entries are written at once, the texts of their resources when they come."""

    def __init__(self, query: Query) -> None:
        self._accepts = query.name.matches if query.name is not None else None
        # No name that istiod sends can hold it.
        self._hole = os.urandom(16).hex()

    def dump(self, found: list[Section], query: Query) -> Iterator[Piece]:
        """Pieces of text, and resources whose text belongs in between."""
        yield '{\n "configs": ['
        separator = "\n"
        if query.resource:
            kind = {"@type": ADMIN + ITEMS[query.resource]}
            for section in found:
                for entry in section.items.get(query.resource, ()):
                    if self._wanted(entry):
                        yield separator
                        yield from self._entry(entry, depth=2, fields={**kind, **entry.fields}, mask=query.mask)
                        separator = ",\n"
        else:
            for section in found:
                fields = {key: value for key, value in section.fields.items() if not query.mask or key in query.mask}
                items = {key: value for key, value in section.items.items() if not query.mask or key in query.mask}
                if query.mask and not fields and not items:
                    continue
                yield separator
                yield from self._section(section.name, fields, items)
                separator = ",\n"
        yield "\n ]\n}\n"

    def _section(self, name: str, fields: dict[str, Any], items: dict[str, Iterable[Entry]]) -> Iterator[Piece]:
        head = indented(json.dumps({"@type": f"{ADMIN}{name}", **fields}, indent=1), 2)
        yield head.removesuffix("\n  }")
        for key, entries in items.items():
            separator = f',\n   "{key}": [\n'
            for entry in entries:
                if self._wanted(entry):
                    yield separator
                    yield from self._entry(entry, depth=4, fields=entry.fields)
                    separator = ",\n"
            if not separator.startswith(",\n   "):
                yield "\n   ]"
        yield "\n  }"

    def _wanted(self, entry: Entry) -> bool:
        return self._accepts is None or self._accepts(entry.name)

    def _entry(
        self, entry: Entry, *, depth: int, fields: dict[str, Any], mask: tuple[str, ...] = ()
    ) -> Iterator[Piece]:
        shown = copy.deepcopy(fields)
        if entry.resource is not None:
            *outer, last = entry.path
            holder = shown
            for key in outer:
                holder = holder[key]
            holder[last] = self._hole
        if mask:
            shown = {key: value for key, value in shown.items() if key in mask or key == "@type"}
        before, hole, after = indented(json.dumps(shown, indent=1), depth).partition(f'"{self._hole}"')
        yield " " * depth + before.lstrip(" ")
        if hole and entry.resource is not None:
            yield entry.resource
            yield after


def indented(text: str, depth: int) -> str:
    return (" " * depth + text).replace("\n", "\n" + " " * depth)


async def chunks(
    snapshot: Snapshot,
    bootstrap: Mapping[str, Any],
    query: Query,
    secrets: SecretSnapshot = NO_SECRETS,
    texts: Render = plain,
    notices: Mapping[tuple[str, str], Notices] = NO_NOTICES,
) -> AsyncGenerator[bytes, None]:
    """The dump in pieces of some 64 KiB, made in slices on the loop."""
    pieces = _Writer(query).dump(sections(snapshot, bootstrap, query, secrets, notices), query)
    # Pieces that were made to find resources which are rendered ahead, and resources that were found without that.
    ahead: deque[Piece] = deque()
    met: deque[Resource] = deque()

    def resources() -> Iterator[Resource]:
        while True:
            if met:
                yield met.popleft()
                continue
            piece = next(pieces, None)
            if piece is None:
                return
            ahead.append(piece)
            if not isinstance(piece, str):
                yield piece

    clock = asyncio.get_running_loop().time
    slice_end = clock() + SLICE_S
    waiting: list[bytes] = []
    size = 0
    async with aclosing(texts(resources())) as found:
        while True:
            if ahead:
                piece: Piece | None = ahead.popleft()
            elif not isinstance(piece := next(pieces, None), str | None):
                met.append(piece)
            if piece is None:
                break
            text = piece.encode() if isinstance(piece, str) else await anext(found)
            waiting.append(text)
            size += len(text)
            if size >= CHUNK_BYTES:
                yield b"".join(waiting)
                waiting, size = [], 0
            if clock() >= slice_end:
                await asyncio.sleep(0)
                slice_end = clock() + SLICE_S
    yield b"".join(waiting)
