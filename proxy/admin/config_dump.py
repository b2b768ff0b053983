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
from typing import Any

from eastgate.proxy.compile.notices import Notices
from eastgate.proxy.errors import EastgateError
from eastgate.proxy.patterns import Pattern, PatternError
from eastgate.proxy.slices import SLICE_S
from eastgate.xds.record import record
from eastgate.xds.resources import Snapshot
from eastgate.xds.secret_store import SecretSnapshot

from .dump_sections import NO_NOTICES, NO_SECRETS, Entry, Section, sections
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

Piece = str | Resource
"""Text of a dump, or a resource whose text belongs here"""


class NotFoundError(EastgateError):
    """No section has the field that was asked for."""


class BadQueryError(EastgateError):
    """A query parameter that means nothing."""


@record
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
    pieces = _Writer(query).dump(sections(snapshot, bootstrap, secrets, notices, endpoints=query.include_eds), query)
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
