"""Failover runway: how many more endpoints of a priority may fail until traffic leaves it. Compiles, never estimates.

Worked example, 10 equal endpoints at P0, some at P1: 8 healthy give 140 * 8 / 10 = 112, so 100 %; 7 give 98 %. So two
more failures keep all traffic at P0, and the third sends 2 % away.

The k-th step is the cluster compiled with k healthy endpoints of the priority unhealthy, in message order (heaviest
first where availability counts weights); all priorities before it are down. Failing means that they stay in the
assignment: endpoints that istiod removes make the remaining ones look complete.
"""

from collections.abc import Iterable

from eastgate.xds.record import record

from .cluster_model import CompiledModel, describe_localities
from .explain import row_classes

# More steps than this are thinned out; the step where traffic leaves is always among them.
STEPS_SHOWN = 12


@record
class RunwayStep:
    """``failures`` more endpoints down: percent of picks by priority, all 0 when connections are refused."""

    failures: int
    healthy: int
    loads: tuple[int, ...]
    panic: bool
    refused: bool


@record
class Runway:
    """How long one priority holds. ``spare`` more failures leave its load as it is now; None: it has no load to lose.

    ``sentence`` says it in words; ``steps`` go down to nothing healthy.
    """

    priority: int
    localities: str
    healthy: int
    total: int
    spare: int | None
    sentence: str
    steps: tuple[RunwayStep, ...]


class Fleet:
    """One priority losing its endpoints one by one, all priorities before it down already."""

    def __init__(self, compiled: CompiledModel, priority: int) -> None:
        classes = row_classes(compiled)
        endpoints = compiled.model.endpoints
        kept = [row for row, first in enumerate(compiled.first_of) if first == row]
        self.priority = priority
        self.members = [row for row in kept if endpoints[row].priority == priority]
        self._compiled = compiled
        self._gone = [row for row in kept if endpoints[row].priority < priority]
        self.healthy = [row for row in self.members if classes[row] == "healthy"]
        if compiled.model.weighted_priority_health:
            self.healthy.sort(key=lambda row: -endpoints[row].weight)
        self._known: dict[int, RunwayStep] = {}

    def step(self, failures: int) -> RunwayStep:
        """The cluster after so many failures."""
        if failures not in self._known:
            after = self._compiled.with_down([*self._gone, *self.healthy[:failures]])
            loads = after.loads()
            self._known[failures] = RunwayStep(
                failures,
                len(self.healthy) - failures,
                loads,
                panic=any(row[7] for row in after.table.priorities()),
                refused=not any(loads),
            )
        return self._known[failures]

    def holds(self, failures: int) -> bool:
        """Whether the priority still has what it has now, all of it on healthy endpoints."""
        now, then = self.step(0), self.step(failures)
        return then.loads[self.priority] == now.loads[self.priority] and not then.refused and not then.panic

    def spare(self) -> int:
        """Most failures that change nothing. Its load never grows while it loses endpoints, so halving finds it."""
        low, high = 0, len(self.healthy)
        while low < high:
            middle = (low + high + 1) // 2
            if self.holds(middle):
                low = middle
            else:
                high = middle - 1
        return low


def runways(compiled: CompiledModel) -> tuple[Runway, ...]:
    """One for each priority that has healthy endpoints."""
    found = []
    explained = {endpoint.priority for endpoint in compiled.model.endpoints}
    for priority in sorted(explained):
        fleet = Fleet(compiled, priority)
        if fleet.healthy:
            found.append(runway(compiled, fleet))
    return tuple(found)


def runway(compiled: CompiledModel, fleet: Fleet) -> Runway:
    """One priority's."""
    count = len(fleet.healthy)
    load = fleet.step(0).loads[fleet.priority]
    spare = fleet.spare() if load > 0 else None
    wanted = {0, count} | ({spare, spare + 1} if spare is not None and spare < count else set())
    wanted |= set(range(count + 1)) if count < STEPS_SHOWN else {count * n // STEPS_SHOWN for n in range(STEPS_SHOWN)}
    return Runway(
        priority=fleet.priority,
        localities=describe_localities([compiled.model.endpoints[row].locality for row in fleet.members]),
        healthy=count,
        total=len(fleet.members),
        spare=spare,
        sentence=sentence(fleet, spare, load),
        steps=tuple(fleet.step(failures) for failures in sorted(wanted)),
    )


def ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def sentence(fleet: Fleet, spare: int | None, load: int) -> str:
    """As `2 more keep 100 % at P0; the 3rd sends 2 % away to P1`."""
    name = f"P{fleet.priority}"
    if spare is None:
        return f"{name} has no load even with the priorities before it down"
    keep = f"{spare} more keep {load} % at {name}" if spare else f"none can fail without moving traffic off {name}"
    if spare == len(fleet.healthy):
        return f"all {spare} may fail without changing who gets traffic"
    broken = fleet.step(spare + 1)
    away = load - broken.loads[fleet.priority]
    last = ordinal(spare + 1) if spare else "1st"
    if broken.refused:
        return f"{keep}; with the {last} connections are refused"
    if broken.panic and away == 0:
        return f"{keep}; with the {last} the cluster panics and unhealthy endpoints get traffic"
    targets = moved_to(fleet.step(0).loads, broken.loads, fleet.priority)
    return f"{keep}; the {last} sends {away} % away{' to ' + ', '.join(targets) if targets else ''}"


def moved_to(before: Iterable[int], after: Iterable[int], priority: int) -> list[str]:
    return [
        f"P{number}"
        for number, (old, new) in enumerate(zip(before, after, strict=True))
        if number != priority and new > old
    ]
