"""Slow start: how much of its weight an endpoint has while it is new, and when a cluster is compiled again for that.

Rules, as in Envoy (load_balancer_impl.cc), of ROUND_ROBIN and LEAST_REQUEST with a slow_start_window:
- an endpoint's time begins when it is first seen healthy; with active health checks, each time that it passes after it
  had failed. It goes on whatever EDS or outlier detection say later, and ends when the endpoint leaves or moves;
- a healthy endpoint has, inside the window, the part max(t ^ (1 / aggression), min_weight_percent) of its weight, t
  being the part of the window that is over. Degraded and failed endpoints have their full weight;
- a cluster that CDS changed begins anew with all its endpoints;
- while the newest time of a cluster is inside the window, LEAST_REQUEST goes by weight instead of comparing endpoints,
  and goes on so until endpoints change.

Picks know nothing of all this: the parts are weights of a table, and the table is compiled anew while they grow, a
hundred times in a window. Worked example: window 60 s, two endpoints, one new. After 6 s it has 10 % of its weight, and
of the picks 0.1 / 1.1 = 9.1 %; after 30 s 0.5 / 1.5 = 33 %.

Where it differs from Envoy: there a part is seen when the endpoint is next picked; here in steps of a hundredth of the
window, at least 50 ms, more where a table is large.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from functools import partial
from typing import NamedTuple, Protocol

from eastgate.xds.record import record
from eastgate.xds.resources import Columns, SlowStart

from .endpoint_flags import FAILED, FAILED_ACTIVE_CHECK, HEALTHY_STATUSES, judged

STEPS = 100
# As long as all endpoints are new together their parts change no share.
STEPS_TOGETHER = 10
LEAST_STEP_MS = 50
# Compiling takes less than a microsecond an endpoint: a few percent of the control thread at most.
ENDPOINTS_PER_MS = 200
NEVER = -1


class Timer(Protocol):
    """What call_later gives."""

    def cancel(self) -> None: ...


class Weights(NamedTuple):
    """What a table is compiled with: see ClusterTable.compile."""

    factors: bytes = b""
    by_weight: bool = False

    def of_rows(self, rows: Iterable[int]) -> "Weights":
        """Those of some of the endpoints."""
        if not self.factors:
            return self
        mine = memoryview(self.factors).cast("d")
        return self._replace(factors=array("d", [mine[row] for row in rows]).tobytes())

    def factor(self, row: int) -> float:
        return memoryview(self.factors).cast("d")[row] if self.factors else 1.0


FULL_WEIGHTS = Weights()


@record
class Ramp:
    """The endpoints of one cluster at one moment.

    ``since`` is by row the time that its slow start began at, or NEVER; ``latest`` the newest of the cluster.
    ``due``: when the weights are to be computed anew; NEVER: they stay. Times in milliseconds.
    """

    columns: Columns
    flags: bytes
    weights: Weights
    latest: int
    due: int
    since: Sequence[int] = field(repr=False)

    def is_due(self, now: int) -> bool:
        # Timers are exact to some milliseconds.
        return self.due != NEVER and now >= self.due - LEAST_STEP_MS // 2


def weight_factor(settings: SlowStart, elapsed: int) -> float:
    """Part of its weight that a healthy endpoint has so many milliseconds after its slow start began."""
    if elapsed >= settings.window_ms:
        return 1.0
    part = max(1, elapsed) / settings.window_ms
    grown = part if settings.aggression == 1.0 or part == 1.0 else part ** (1.0 / settings.aggression)
    return max(grown, settings.min_weight_percent / 100.0)


def begun(columns: Columns, flags: bytes, healthy: Sequence[bool], now: int, before: Ramp | None) -> "array[int]":
    """When the slow start of each endpoint began."""
    since = array("q", [NEVER]) * columns.count
    if before is not None:
        if before.columns.has_identities_of(columns):
            places: Iterable[int | None] = range(columns.count)
        else:
            known: dict[object, int] = {}
            for row, identity in enumerate(before.columns.identities()):
                known.setdefault(identity, row)
            places = [known.get(identity) for identity in columns.identities()]
        for row, place in enumerate(places):
            if place is not None:
                since[row] = before.since[place]
                was_failed = before.flags and before.flags[place] & FAILED_ACTIVE_CHECK
                if was_failed and not (flags and flags[row] & FAILED_ACTIVE_CHECK):
                    since[row] = now
    for row, is_healthy in enumerate(healthy):
        if is_healthy and since[row] == NEVER:
            since[row] = now
    return since


def follow(settings: SlowStart, columns: Columns, flags: bytes, now: int, before: Ramp | None) -> Ramp:
    """The ramp of a cluster now; `before` is None for one that CDS changed. `flags` by row, see endpoint_flags."""
    seen = judged(columns, flags)[0].health
    healthy = [health in HEALTHY_STATUSES and not (flags and flags[row] & FAILED) for row, health in enumerate(seen)]
    if before is not None and before.columns is columns and before.flags == flags:
        since, latest, by_weight = before.since, before.latest, before.weights.by_weight
    else:
        since = begun(columns, flags, healthy, now, before)
        news = (start for row, start in enumerate(since) if healthy[row] and now - start <= settings.window_ms)
        latest = max(now if before is None else before.latest, max(news, default=NEVER))
        by_weight = now - latest <= settings.window_ms
    factors = array("d", [1.0]) * columns.count
    for row, start in enumerate(since):
        if healthy[row] and now - start < settings.window_ms:
            factors[row] = weight_factor(settings, now - start)
    growing = any(healthy[row] and now - start < settings.window_ms for row, start in enumerate(since))
    due = NEVER
    if growing:
        together = all(healthy) and min(since) == max(since)
        step = settings.window_ms // (STEPS_TOGETHER if together else STEPS)
        due = now + max(step, LEAST_STEP_MS, columns.count // ENDPOINTS_PER_MS)
    return Ramp(columns, flags, Weights(factors.tobytes() if growing else b"", by_weight), latest, due, since)


class SlowStarts:
    """Has clusters compiled again while weights in them grow. Control thread only."""

    def __init__(
        self,
        *,
        refresh: Callable[[tuple[str, ...]], None],
        call_later: Callable[[float, Callable[[], None]], Timer],
        clock: Callable[[], float],
    ) -> None:
        self._refresh = refresh
        self._call_later = call_later
        self._clock = clock
        self._timers: dict[str, Timer] = {}

    def published(self, name: str, ramp: Ramp | None) -> None:
        """A cluster was published, or left."""
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        if ramp is not None and ramp.due != NEVER:
            wait_s = max(0.0, ramp.due / 1000 - self._clock())
            self._timers[name] = self._call_later(wait_s, partial(self._due, name))

    def close(self) -> None:
        while self._timers:
            self._timers.popitem()[1].cancel()

    def _due(self, name: str) -> None:
        del self._timers[name]
        self._refresh((name,))
