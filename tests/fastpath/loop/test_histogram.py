"""Which bucket a duration falls into."""

from itertools import pairwise

import pytest
from eastgate.fastpath.loop.histogram import BOUNDS, counted
from hypothesis import given
from hypothesis import strategies as some

MS = 1_000_000


@pytest.mark.parametrize(
    ("ns", "bound"),
    [(0, 0.5), (MS - 1, 0.5), (MS, 1), (MS + 1, 1), (2 * MS, 5), (5 * MS + 400_000, 5), (6 * MS, 10)],
)
def test_bound_is_included_and_milliseconds_are_rounded_down(ns: int, bound: float) -> None:
    assert counted([ns]).counts.index(1) == BOUNDS.index(bound)


def test_longest_have_no_bound() -> None:
    assert counted([3_600_000 * MS, 3_600_001 * MS, 2**64 - 1]).counts[-2:] == (1, 2)


@given(some.lists(some.integers(0, 2**60), max_size=50))
def test_nothing_is_lost(durations: list[int]) -> None:
    """Whatever the durations, buckets and sum are those of the definition."""
    whole = [ns // MS for ns in durations]
    edges = (-1.0, *BOUNDS, float("inf"))
    found = counted(durations)
    assert found.counts == tuple(sum(lower < ms <= upper for ms in whole) for lower, upper in pairwise(edges))
    assert found.sum_ms == sum(whole)
