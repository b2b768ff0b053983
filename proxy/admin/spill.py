"""Connections, failures and bytes by cluster, priority and locality; the load of each priority. Counts nothing.

Workers count by endpoint. Here that is added up when somebody asks, over the endpoints that there are now; what left a
table, or has another priority in the next one, stays where it was counted. So no series falls while its cluster lives:

    P0 has a (9 connections) and b (5)          P0 14
    b is sent with priority 1, a leaves         P0 14, P1 0     kept: P0 +9 (a) +5 (b), P1 -5 (b's counters go on there)
    two more to b                               P0 14, P1 2
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import field
from typing import Any, NamedTuple

from eastgate.fastpath.tables import spill
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.fastpath.tables.spill import Tally
from eastgate.proxy.compile.compiled import CompiledCluster
from eastgate.xds.record import record

from .stat import Stat, stat_part

# Series of each family. What comes after that is counted in one whose labels say so.
SERIES_LIMIT = 2000
TOO_MANY = "too_many_series"
# How long what left is looked at: its last connects may be under way.
SETTLE_S = 60.0
# Field of Tally -> (name, help).
FAMILIES = {
    "connections": ("connections", "Connections to endpoints that were established"),
    "failures": ("failures", "Connects to endpoints that failed"),
    "received": ("received_bytes", "Bytes from endpoints"),
    "sent": ("sent_bytes", "Bytes to endpoints"),
}
NONE = Tally(0, 0, 0, 0, 0)


class Place(NamedTuple):
    """Where endpoints stand. ``locality``: region/zone/sub_zone, empty where unset."""

    priority: int
    locality: str


def plus(left: Tally, right: Tally) -> Tally:
    return Tally(*(a + b for a, b in zip(left, right, strict=True)))


def minus(left: Tally, right: Tally) -> Tally:
    return Tally(*(a - b for a, b in zip(left, right, strict=True)))


def places_of(table: ClusterTable) -> tuple[Place, ...]:
    """By index of the columns' localities."""
    return tuple(Place(one.priority, "/".join(one.locality).rstrip("/")) for one in table.columns.localities)


@record(frozen=False)
class _Departed:
    """An endpoint that is in no table any more. ``table`` keeps its counters alive; ``counted`` of them is kept."""

    table: ClusterTable
    row: int
    place: Place
    counted: Tally
    since: float


@record(frozen=False)
class _Cluster:
    table: ClusterTable | None
    stat_name: str
    kept: dict[Place, Tally] = field(default_factory=dict)
    departed: list[_Departed] = field(default_factory=list)

    def keep(self, place: Place, tally: Tally) -> None:
        self.kept[place] = plus(self.kept.get(place, NONE), tally._replace(active=0))

    def replaced_by(self, table: ClusterTable | None, now: float) -> None:
        """Another table is published: what was counted stays where it was counted."""
        old, self.table = self.table, table
        if old is None or table is old:
            return
        before, after = places_of(old), places_of(table) if table is not None else ()
        for row, was, becomes, tally in spill.moves(old, table):
            if becomes >= 0 and after[becomes] == before[was]:
                continue
            self.keep(before[was], tally)
            if becomes >= 0:
                self.keep(after[becomes], minus(NONE, tally))
            else:
                self.departed.append(_Departed(old, row, before[was], tally, now))

    def totals(self, now: float) -> dict[Place, Tally]:
        found = dict(self.kept)
        if self.table is not None:
            places = places_of(self.table)
            for index, tally in spill.by_locality(self.table).items():
                found[places[index]] = plus(found.get(places[index], NONE), tally)
        left = []
        for one in self.departed:
            tally = spill.of_row(one.table, one.row)
            more = minus(tally, one.counted)._replace(active=tally.active)
            found[one.place] = plus(found.get(one.place, NONE), more)
            if tally.active or now - one.since < SETTLE_S:
                left.append(one)
            else:
                self.keep(one.place, more)
        self.departed = left
        return found


class Spill:
    """``published`` is an observer of the compiler. Control thread only."""

    def __init__(self, *, limit: int = SERIES_LIMIT, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._clusters: dict[str, _Cluster] = {}

    def published(self, name: str, compiled: CompiledCluster | None) -> None:
        """A cluster has a new table; None: it is gone, and its counters with it, as Envoy's are."""
        if compiled is None:
            self._clusters.pop(name, None)
            return
        # The table of an ORIGINAL_DST cluster has no endpoint that is one.
        table = compiled.table if compiled.assignment is not None else None
        known = self._clusters.get(name)
        if known is None:
            known = self._clusters[name] = _Cluster(None, compiled.cluster.alt_stat_name or name)
        known.replaced_by(table, self._clock())

    def of_cluster(self, name: str) -> dict[Place, Tally]:
        """By place, in order, what was tried so far; endpoints that left are in it."""
        known = self._clusters.get(name)
        return dict(sorted(known.totals(self._clock()).items())) if known is not None else {}

    def as_json(self, name: str) -> list[dict[str, Any]]:
        """For the page."""
        return [{**place._asdict(), **tally._asdict()} for place, tally in self.of_cluster(name).items()]

    def stats(self) -> Iterator[Stat]:
        """All series: of places that were tried, and loads of clusters with more than one priority."""
        series = 0
        beyond = NONE
        for name, known in self._clusters.items():
            shown = stat_part(known.stat_name)
            labels = ("cluster_name", shown.removesuffix(";"))
            if known.table is not None:
                yield from _loads(shown, labels, known.table)
            for place, tally in self.of_cluster(name).items():
                if series >= self._limit:
                    beyond = plus(beyond, tally)
                    continue
                series += 1
                where = (labels, ("priority", str(place.priority)), ("locality", place.locality))
                yield from _series(f"cluster.{shown}.priority.{place.priority}.{place.locality or '-'}", where, tally)
        if beyond != NONE:
            where = (("cluster_name", TOO_MANY), ("priority", TOO_MANY), ("locality", TOO_MANY))
            yield from _series(f"cluster.{TOO_MANY}", where, beyond)


def _series(prefix: str, labels: tuple[tuple[str, str], ...], tally: Tally) -> Iterator[Stat]:
    for counted, (short, said) in FAMILIES.items():
        value = getattr(tally, counted)
        yield Stat(f"{prefix}.eastgate.{short}", value, f"eastgate_cluster_{short}_total", labels, help=said)


def _loads(shown: str, labels: tuple[str, str], table: ClusterTable) -> Iterator[Stat]:
    rows = table.priorities()
    if len(rows) < 2:
        return
    for priority, (_, _, _, _, healthy, degraded, *_) in enumerate(rows):
        yield Stat(
            f"cluster.{shown}.priority.{priority}.eastgate.load",
            healthy + degraded,
            "eastgate_cluster_priority_load",
            (labels, ("priority", str(priority))),
            gauge=True,
            help="Percent of new connections that go to the priority",
        )
