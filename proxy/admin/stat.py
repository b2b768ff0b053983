"""Counters in Envoy's names, as all pages that show counters take them. Counts nothing.

A mesh has thousands of clusters, whose counters have the same names: those come in groups, and are taken apart only
where one of them is asked for.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from functools import lru_cache

from eastgate.fastpath.loop.histogram import Durations
from eastgate.xds.record import record

Labels = tuple[tuple[str, str], ...]


class Kind(StrEnum):
    """What a stat is, in Prometheus' words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@record
class Stat:
    """One value: Envoy's flat name, its Prometheus family and labels, and whether it can fall."""

    name: str
    value: int
    family: str
    labels: Labels = ()
    gauge: bool = False
    help: str = ""
    durations: Durations | None = None
    """Of a histogram, whose value is how many there are"""

    @property
    def kind(self) -> Kind:
        if self.durations is not None:
            return Kind.HISTOGRAM
        return Kind.GAUGE if self.gauge else Kind.COUNTER


@record
class Names:
    """What the counters of all things of one sort are called, by place. ``gauges``: whether they can fall."""

    shorts: tuple[str, ...]
    families: tuple[str, ...]
    gauges: tuple[bool, ...]


# Short name -> whether it is a gauge.
Shorts = tuple[tuple[str, bool], ...]


def shorts(*counters: str, gauges: Iterable[str] = ()) -> Shorts:
    return (*((short, False) for short in counters), *((short, True) for short in gauges))


@lru_cache(maxsize=256)
def names_of(family: str, parts: tuple[Shorts, ...]) -> Names:
    """The same object for the same parts. ``family``: how the names of the families begin."""
    each = [one for part in parts for one in part]
    return Names(
        tuple(short for short, _ in each),
        tuple(f"{family}_{short.replace('.', '_')}" for short, _ in each),
        tuple(gauge for _, gauge in each),
    )


# So many ways to choose of names are remembered: clusters mostly count the same.
@lru_cache(maxsize=1024)
def part_of(names: Names, places: tuple[int, ...]) -> Names:
    """Those at these places; the same object for the same ones."""
    return Names(
        tuple([names.shorts[place] for place in places]),
        tuple([names.families[place] for place in places]),
        tuple([names.gauges[place] for place in places]),
    )


@record
class Group:
    """The counters of one thing. ``prefix``: how their names begin; ``values``: by place of the names."""

    prefix: str
    labels: Labels
    names: Names
    values: Sequence[int]

    def stats(self) -> Iterator[Stat]:
        """One by one."""
        names = self.names
        for short, family, gauge, value in zip(names.shorts, names.families, names.gauges, self.values, strict=True):
            yield Stat(self.prefix + short, value, family, self.labels, gauge)


def one_by_one(counted: Iterable[Stat | Group | None]) -> Iterator[Stat]:
    for one in counted:
        if isinstance(one, Stat):
            yield one
        elif one is not None:
            yield from one.stats()


def stat_part(name: str) -> str:
    """A name as a part of a counter's: colons become underscores, as Envoy has it for listeners and clusters."""
    return name.replace(":", "_")


def histogram(prefix: str, family: str, short: str, labels: Labels, durations: Durations) -> Stat:
    """The durations of one listener or cluster."""
    return Stat(f"{prefix}.{short}", sum(durations.counts), f"{family}_{short}", labels, durations=durations)


# ?type= of /stats, as Envoy spells them -> which stats.
TYPES: dict[str, frozenset[Kind]] = {
    "All": frozenset(Kind),
    "Counters": frozenset((Kind.COUNTER,)),
    "Gauges": frozenset((Kind.GAUGE,)),
    "Histograms": frozenset((Kind.HISTOGRAM,)),
    "TextReadouts": frozenset(),
}


PLAIN = frozenset((Kind.COUNTER, Kind.GAUGE))


@record
class Choice:
    """Which stats are shown. ``matches``, by name, None: all; ``may_match``: whether one of the names that begin so,
    with one of these ends, might match; ``used_only`` leaves out what never counted. Gauges always count as used: a
    server.state of 0 means LIVE.
    """

    matches: Callable[[str], bool] | None = None
    may_match: Callable[[str, Sequence[str]], bool] | None = None
    used_only: bool = False
    kinds: frozenset[Kind] = frozenset(Kind)

    def may_have(self, prefix: str, names: Names) -> bool:
        """Whether a stat with such a name may be among the chosen ones."""
        return self.may_match is None or self.may_match(prefix, names.shorts)

    def of(self, counted: Iterable[Stat | Group | None]) -> Iterator[Stat | Group | None]:
        """What is chosen, None for others. A group of which all is chosen stays one."""
        whole = self.matches is None and not self.used_only and self.kinds >= PLAIN
        for one in counted:
            if one is None or (whole and isinstance(one, Group)):
                yield one
            elif isinstance(one, Stat):
                yield one if self._takes(one.name, one.value, one.kind) else None
            elif self.may_have(one.prefix, one.names):
                yield self._part(one)
            else:
                yield None

    def _takes(self, name: str, value: int, kind: Kind) -> bool:
        used = value or kind is Kind.GAUGE or not self.used_only
        return bool(used) and kind in self.kinds and (self.matches is None or self.matches(name))

    def _part(self, group: Group) -> Group | None:
        names, prefix, values = group.names, group.prefix, group.values
        places: Iterable[int] = range(len(values))
        if self.used_only:
            places = [place for place in places if values[place] or names.gauges[place]]
        if not self.kinds >= PLAIN:
            places = [place for place in places if (Kind.GAUGE if names.gauges[place] else Kind.COUNTER) in self.kinds]
        if self.matches is not None:
            places = [place for place in places if self.matches(prefix + names.shorts[place])]
        chosen = tuple(places)
        if not chosen:
            return None
        return Group(prefix, group.labels, part_of(names, chosen), tuple([values[place] for place in chosen]))
