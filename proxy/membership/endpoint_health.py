"""Which endpoints have failed for another reason than EDS health, and why: several causes, combined. Compiles nothing.

Whoever finds an endpoint dead or alive (outlier detection, active health checks) marks it here for its own cause, and
has the cluster recompiled by Publisher.refresh. An endpoint is failed while any cause holds. Marks belong to identities
(address, port and locality), so they stay with an endpoint wherever an update of its cluster puts it.
"""

from collections.abc import Iterable, Iterator
from enum import IntFlag
from typing import NamedTuple

from eastgate.fastpath.tables.row_search import find_rows
from eastgate.xds.columns import Columns, Family, host_text
from eastgate.xds.resources import Assignment


class Cause(IntFlag):
    """Why an endpoint is failed; each bit is its owner's alone."""

    FAILED_OUTLIER_CHECK = 1
    FAILED_ACTIVE_HC = 2


class EndpointKey(NamedTuple):
    """Identity of an endpoint within its cluster; the same in every table that has it. ``address``: as in Columns, or
    the path of a Unix socket."""

    address: bytes
    port: int
    family: int
    locality: tuple[str, str, str]


def address_text(key: EndpointKey) -> str:
    """host:port, [host]:port, or unix:path."""
    if key.family == Family.UNIX:
        return "unix:" + key.address.decode("utf-8", "backslashreplace")
    host = host_text(key.address, key.family)
    return f"{host}:{key.port}" if key.family == Family.IPV4 else f"[{host}]:{key.port}"


def key_of(columns: Columns, row: int) -> EndpointKey:
    """Identity of the endpoint at `row`."""
    region, zone, sub_zone = columns.entry(row).locality
    return EndpointKey(columns.packed(row), columns.ports[row], columns.family[row], (region, zone, sub_zone))


def rows_of(columns: Columns, keys: Iterable[EndpointKey]) -> dict[EndpointKey, int]:
    """First row of each identity that is there. Of duplicates of an address only the first row counts, as in Envoy."""
    wanted = tuple(keys)
    places = dict(zip(wanted, columns.stored((key.address, key.port, key.family) for key in wanted), strict=True))
    rows = find_rows(columns, places.values())
    found = ((key, rows.get(place)) for key, place in places.items())
    return {key: row for key, row in found if row is not None and key_of(columns, row) == key}


class EndpointHealth:
    """Marks by cluster name and identity. Control thread only."""

    def __init__(self) -> None:
        self._marks: dict[str, dict[EndpointKey, Cause]] = {}

    def mark(self, cluster: str, key: EndpointKey, cause: Cause, on: bool) -> bool:
        """Set or take back a cause; return whether that changes whether the endpoint is failed."""
        marks = self._marks.setdefault(cluster, {})
        before = marks.get(key, Cause(0))
        after = before | cause if on else before & ~cause
        if after:
            marks[key] = after
        else:
            marks.pop(key, None)
        if not marks:
            del self._marks[cluster]
        return bool(before) != bool(after)

    def causes(self, cluster: str, key: EndpointKey) -> Cause:
        return self._marks.get(cluster, {}).get(key, Cause(0))

    def marked(self, cluster: str, cause: Cause) -> Iterator[EndpointKey]:
        """Endpoints that have failed for `cause`."""
        return (key for key, causes in self._marks.get(cluster, {}).items() if cause in causes)

    def failed(self, cluster: str, assignment: Assignment) -> bytes:
        """Causes by row, a byte each: what ClusterTable.compile takes as `failed`. Empty when there are none."""
        marks = self._marks.get(cluster)
        if not marks:
            return b""
        failed = bytearray(assignment.columns.count)
        for key, row in rows_of(assignment.columns, marks).items():
            failed[row] = marks[key]
        return bytes(failed)

    def retain(self, cluster: str, assignment: Assignment | None) -> None:
        """Forget the marks of endpoints that the cluster no longer has; None: of all. One that comes back is new."""
        if cluster in self._marks:
            present = rows_of(assignment.columns, self._marks[cluster]) if assignment is not None else {}
            self._marks[cluster] = {key: causes for key, causes in self._marks[cluster].items() if key in present}
            if not self._marks[cluster]:
                del self._marks[cluster]

    def clear(self, cluster: str, cause: Cause) -> bool:
        """Take back a cause from all endpoints of a cluster; return whether any endpoint is no longer failed."""
        return sum(self.mark(cluster, key, cause, False) for key in tuple(self.marked(cluster, cause))) > 0
