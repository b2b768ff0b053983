"""One counter in Envoy's name, as all pages that show counters take it. Counts nothing."""

from collections.abc import Callable, Collection, Iterable, Iterator
from enum import StrEnum

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


def select(
    stats: Iterable[Stat],
    *,
    matches: Callable[[str], bool] | None = None,
    used_only: bool = False,
    kinds: Collection[Kind] = frozenset(Kind),
) -> Iterator[Stat | None]:
    """Stats of these kinds with a name that matches, None for others; `used_only` leaves out what never counted.

    Gauges always count as used: a server.state of 0 means LIVE.
    """
    for stat in stats:
        wanted = stat.kind in kinds and (stat.gauge or stat.value or not used_only)
        yield stat if wanted and (matches is None or matches(stat.name)) else None
