"""What a proxy had at earlier moments, so that two of them can be compared. Holds changes; knows not of what.

A moment is a state that lasted: changes that follow each other within a second belong together. Of each moment only
what changed after it is kept, so a mesh of which nothing changes costs nothing. When there are too many, the one goes
whose neighbours are closest, for its age: the last minutes are kept finely, the last day coarsely.

    10:00 a=1 b=1    10:05 a=2    10:09 b=2, now
    kept: 10:00 {a: 1}, 10:05 {b: 1}, now {a: 2, b: 2}
    b at 10:00: not in {a: 1}; in {b: 1}, so 1
"""

import time
from collections.abc import Callable
from dataclasses import field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from eastgate.xds.record import record

State = TypeVar("State")

CAPACITY = 24
QUIET_S = 1.0
# What `weigh` of all states that are kept may come to.
MOST_WEIGHT = 50_000


@record(frozen=False)
class _Moment(Generic[State]):
    """``undo``: by name, what the names that changed until the next moment were; None: there was none of that name."""

    id: int
    at: datetime
    ended: float
    undo: dict[str, State | None] = field(default_factory=dict)
    weight: int = 0


class Moments(Generic[State]):
    """``weigh``: how much memory a state takes, in any unit. One thread only."""

    def __init__(
        self,
        *,
        weigh: Callable[[State], int] = lambda _: 1,
        capacity: int = CAPACITY,
        most_weight: int = MOST_WEIGHT,
        clock: Callable[[], float] = time.monotonic,
        date: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._weigh, self._capacity, self._most_weight = weigh, capacity, most_weight
        self._clock, self._date = clock, date
        self._now: dict[str, State] = {}
        self._past: list[_Moment[State]] = []
        self._changed: tuple[float, datetime] | None = None
        self._last = 0

    def change(self, name: str, state: State | None) -> None:
        """Something has another state; None: it is gone."""
        now = self._clock()
        if self._changed is not None and now - self._changed[0] >= QUIET_S:
            self._last += 1
            self._past.append(_Moment(self._last, self._changed[1], now))
        if self._past and name not in self._past[-1].undo:
            self._remember(self._past[-1], name, self._now.get(name))
        if state is None:
            self._now.pop(name, None)
        else:
            self._now[name] = state
        self._changed = (now, self._date())
        self._thin(now)

    def listed(self) -> list[dict[str, Any]]:
        """Earlier moments, oldest first: id, since when, and how many names changed after it."""
        return [
            {"id": one.id, "at": one.at.isoformat(timespec="milliseconds"), "changed": len(one.undo)}
            for one in self._past
        ]

    def between(self, before: int, after: int | None = None) -> dict[str, tuple[State | None, State | None]]:
        """By name, both states of what changed from one moment to a later one; None: to now. Raises KeyError."""
        places = {one.id: place for place, one in enumerate(self._past)}
        first, last = places[before], len(self._past) if after is None else places[after]
        names = dict.fromkeys(name for one in self._past[first:last] for name in one.undo)
        return {name: (self._state(first, name), self._state(last, name)) for name in names}

    def _state(self, place: int, name: str) -> State | None:
        for one in self._past[place:]:
            if name in one.undo:
                return one.undo[name]
        return self._now.get(name)

    def _remember(self, moment: _Moment[State], name: str, state: State | None) -> None:
        moment.undo[name] = state
        moment.weight += 1 + (self._weigh(state) if state is not None else 0)

    def _thin(self, now: float) -> None:
        if len(self._past) > self._capacity:
            # The first and the latest stay.
            self._drop(min(range(1, len(self._past) - 1), key=lambda place: self._worth(place, now)))
        while len(self._past) > 1 and sum(one.weight for one in self._past) > self._most_weight:
            del self._past[0]

    def _worth(self, place: int, now: float) -> float:
        gap = self._past[place + 1].ended - self._past[place - 1].ended
        return gap / (now - self._past[place].ended + QUIET_S)

    def _drop(self, place: int) -> None:
        """Who asks for the moment before it goes by what that one kept, and then by what this one did."""
        before = self._past[place - 1]
        for name, state in self._past[place].undo.items():
            if name not in before.undo:
                self._remember(before, name, state)
        del self._past[place]
