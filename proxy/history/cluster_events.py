"""Events of clusters: how loads of priorities changed with each publication, who was ejected or returned, and why.

Looks at what the compiler publishes, beside what it published before; both stand in the tables already. Worked example,
three endpoints at P0 and two at P1, one of the three ejected: P0 2 of 3 healthy, 140 % x 2 / 3 = 93 %.
    loads: before [100, 0], after [93, 7], cause "10.0.0.1:80 ejected (consecutive_5xx)"
A third of P0's connections went to that endpoint: 33 points leave it, and that is what moved.
"""

from collections.abc import Iterable, Mapping
from itertools import zip_longest

from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.proxy.compile.compiled import CompiledCluster
from eastgate.proxy.membership.endpoint_flags import FAILED
from eastgate.proxy.membership.endpoint_health import Cause, EndpointKey, address_text, key_of, rows_of
from eastgate.proxy.membership.outlier import EjectionType, Verdict
from eastgate.xds.record import record

from .event_log import Event, EventLog, Kind

# Comparing shares by endpoint takes a microsecond each, and this runs on the loop.
MOST_COMPARED = 2000
# Of a cluster, so many endpoints of one publication have an event of their own; the sum of the rest is in the cause.
MOST_TOLD = 20


@record
class _Seen:
    """A cluster as it was published."""

    compiled: CompiledCluster
    table: ClusterTable
    failed: Mapping[EndpointKey, int]


class ClusterEvents:
    """An observer of the compiler and of outlier detection. Control thread only."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._seen: dict[str, _Seen] = {}
        # Why an endpoint will be found ejected, by the time its cluster is published.
        self._verdicts: dict[tuple[str, EndpointKey], EjectionType | None] = {}

    def judged(self, name: str, verdict: Verdict[EndpointKey]) -> None:
        """Outlier detection is about to eject this endpoint, or to take it back."""
        if verdict.enforced and verdict.ejected:
            self._verdicts[name, verdict.host] = verdict.type

    def published(self, name: str, compiled: CompiledCluster | None) -> None:
        """A cluster was published, or left: an observer of the compiler."""
        before = self._seen.get(name)
        if compiled is None or compiled.table is None:
            self._seen.pop(name, None)
            # Of endpoints that left with it nothing is to be said any more.
            self._verdicts = {key: kind for key, kind in self._verdicts.items() if key[0] != name}
            if before is not None and compiled is not None:
                self._log.add(Event(Kind.LOADS, name, "it has no endpoints", loads(before.table), [], 1.0))
            return
        after = self._seen[name] = _Seen(compiled, compiled.table, failed_of(compiled))
        if before is not None and before.table is not after.table:
            self._compare(name, before, after)

    def _compare(self, name: str, before: _Seen, after: _Seen) -> None:
        changes = [
            self._change(name, key, before.failed.get(key, 0), after.failed.get(key, 0))
            for key in before.failed.keys() | after.failed.keys()
            if before.failed.get(key, 0) != after.failed.get(key, 0) and is_present(after, key)
        ]
        was, now = loads(before.table), loads(after.table)
        if was == now and not changes:
            return
        moved = moved_share(before, after)
        for kind, key, cause in changes[:MOST_TOLD]:
            self._log.add(Event(kind, name, cause, was, now, moved, address_text(key)))
        if was != now:
            cause = cause_of(before, after, [text for _, _, text in changes])
            self._log.add(Event(Kind.LOADS, name, cause, was, now, moved))

    def _change(self, name: str, key: EndpointKey, was: int, now: int) -> tuple[Kind, EndpointKey, str]:
        """What became of one endpoint, and in words."""
        address, gone, come = address_text(key), was & ~now, now & ~was
        if come & Cause.FAILED_OUTLIER_CHECK:
            kind = self._verdicts.pop((name, key), None)
            return Kind.EJECTED, key, f"{address} ejected" + (f" ({kind.value})" if kind is not None else "")
        if come & Cause.FAILED_ACTIVE_HC:
            return Kind.EJECTED, key, f"{address} failed its health check"
        still = " and is still out for its health check" if now & Cause.FAILED_ACTIVE_HC else ""
        still = still or (" and is still ejected" if now & Cause.FAILED_OUTLIER_CHECK else "")
        back = "is back" if gone & Cause.FAILED_OUTLIER_CHECK else "passes its health check again"
        return Kind.RETURNED, key, f"{address} {back}{still}"


def loads(table: ClusterTable) -> list[int]:
    """Percent of picks by priority, those for degraded endpoints included; all 0 where no pick finds an endpoint."""
    rows = table.priorities()
    return [row[4] + row[5] for row in rows] if table.finds_endpoints() else [0] * len(rows)


def failed_of(compiled: CompiledCluster) -> dict[EndpointKey, int]:
    """Causes by identity, of endpoints that are out for another reason than discovery."""
    if compiled.assignment is None or not any(compiled.flags):
        return {}
    columns = compiled.assignment.columns
    return {key_of(columns, row): bits & FAILED for row, bits in enumerate(compiled.flags) if bits & FAILED}


def is_present(seen: _Seen, key: EndpointKey) -> bool:
    """Whether the cluster still has this endpoint: one that left has not returned."""
    assignment = seen.compiled.assignment
    return assignment is not None and bool(rows_of(assignment.columns, [key]))


def moved_share(before: _Seen, after: _Seen) -> float:
    """What endpoints lose of all picks, or gain where that is more: by endpoint, or in large clusters whose endpoints
    are others by priority alone.
    """
    one, other = before.compiled.assignment, after.compiled.assignment
    if one is not None and other is not None and one.columns is other.columns:
        return moved_of(now - was for was, now in zip(before.table.shares(), after.table.shares(), strict=True))
    if one is None or other is None or max(one.columns.count, other.columns.count) > MOST_COMPARED:
        pairs = zip_longest(loads(before.table), loads(after.table), fillvalue=0)
        return moved_of((now - was) / 100 for was, now in pairs)
    sums: dict[tuple[bytes, int], float] = {}
    for sign, columns, table in ((-1, one.columns, before.table), (1, other.columns, after.table)):
        for row, share in enumerate(table.shares()):
            key = columns.packed(row), columns.ports[row]
            sums[key] = sums.get(key, 0.0) + sign * share
    return moved_of(sums.values())


def moved_of(differences: Iterable[float]) -> float:
    """The sum of what is gained or of what is lost, whichever is more: a part is refused before or afterwards."""
    gained = lost = 0.0
    for one in differences:
        if one > 0:
            gained += one
        else:
            lost -= one
    return max(gained, lost)


def cause_of(before: _Seen, after: _Seen, changes: list[str]) -> str:
    """Why loads changed, in words."""
    causes = changes[:3] + ([f"{len(changes) - 3} more"] if len(changes) > 3 else [])
    if before.compiled.cluster is not after.compiled.cluster:
        causes.append("CDS changed the cluster")
    one, other = before.compiled.spec.discovered, after.compiled.spec.discovered
    if one is not other:
        causes.append(f"its endpoints changed: {counted(before.table)}, now {counted(after.table)}")
    return "; ".join(causes) or "weights of slow start, or another cluster's zones"


def counted(table: ClusterTable) -> str:
    """Endpoints by priority, as healthy of all."""
    return ", ".join(f"P{number} {row[1]} of {row[0]} healthy" for number, row in enumerate(table.priorities()))
