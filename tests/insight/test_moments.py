"""Earlier states, and what changed between two of them."""

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from eastgate.insight.moments import Moments

BEGIN = datetime(2026, 3, 4, 10, tzinfo=UTC)


class Watched:
    """Moments with a clock of their own, and a copy of each state that lasted."""

    def __init__(self, **settings: int) -> None:
        self.now_s = 0.0
        self.moments: Moments[int] = Moments(
            clock=lambda: self.now_s, date=lambda: BEGIN + timedelta(seconds=self.now_s), **settings
        )
        self.state: dict[str, int] = {}

    def change(self, after_s: float, **states: int | None) -> None:
        self.now_s += after_s
        for name, state in states.items():
            self.moments.change(name, state)
            self.state = {**self.state, name: state} if state is not None else {**self.state}
            if state is None:
                self.state.pop(name, None)

    @property
    def ids(self) -> list[int]:
        return [one["id"] for one in self.moments.listed()]


def test_first_state_is_now_and_no_earlier_moment() -> None:
    watched = Watched()
    watched.change(0, a=1, b=1)
    assert watched.moments.listed() == []


def test_worked_example() -> None:
    watched = Watched()
    watched.change(0, a=1, b=1)
    watched.change(300, a=2)
    watched.change(240, b=2)
    first, second = watched.moments.listed()
    assert (first["at"], first["changed"]) == ("2026-03-04T10:00:00.000+00:00", 1)
    assert second["at"] == "2026-03-04T10:05:00.000+00:00"
    assert watched.moments.between(first["id"]) == {"a": (1, 2), "b": (1, 2)}
    assert watched.moments.between(first["id"], second["id"]) == {"a": (1, 2)}
    assert watched.moments.between(second["id"]) == {"b": (1, 2)}
    with pytest.raises(KeyError):
        watched.moments.between(99)


def test_changes_that_follow_each_other_are_one() -> None:
    watched = Watched()
    watched.change(0, a=1)
    watched.change(10, a=2)
    watched.change(0.5, a=3)
    watched.change(0.5, a=None)
    (only,) = watched.ids
    assert watched.moments.between(only) == {"a": (1, None)}


def test_each_moment_that_is_kept_is_what_it_was() -> None:
    """Whatever was thinned out between them. The seed is printed by the assertion."""
    for seed in range(20):
        chance, watched = random.Random(seed), Watched(capacity=6)
        lasted: dict[int, dict[str, int]] = {}
        for _ in range(200):
            before = watched.state
            known = set(watched.ids)
            name = chance.choice("abcdefgh")
            watched.change(chance.choice((0.2, 2, 60, 3600)), **{name: chance.choice((None, 1, 2, 3))})
            for new in set(watched.ids) - known:
                lasted[new] = before
            assert len(watched.ids) <= 6
        for one in watched.ids:
            then = {**watched.state}
            for changed, (was, _) in watched.moments.between(one).items():
                then.pop(changed, None)
                if was is not None:
                    then[changed] = was
            assert then == lasted[one], f"seed {seed}, moment {one}"


def test_late_moments_are_kept_finely_and_early_ones_coarsely() -> None:
    watched = Watched(capacity=12)
    for number in range(1000):
        watched.change(60, a=number)
    times = [datetime.fromisoformat(one["at"]) for one in watched.moments.listed()]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    assert gaps[-1] == 60
    assert max(gaps) > 3600
    assert times[0] == BEGIN + timedelta(seconds=60)


def test_what_is_kept_weighs_no_more_than_it_may() -> None:
    watched = Watched(most_weight=10)
    for number in range(50):
        watched.change(60, a=number, b=number)
    # Two names a moment, each of weight 1 and 1 for its name.
    assert sum(2 * one["changed"] for one in watched.moments.listed()) <= 10
    assert len(watched.ids) == 2
