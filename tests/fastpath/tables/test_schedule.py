"""Cycles and alias tables by themselves."""

import random

import pytest
from eastgate.fastpath.tables.schedule import alias_cells, spread
from hypothesis import given
from hypothesis import strategies as st

GOLDEN = 0x9E3779B97F4A7C15


def middle_phases(shares: list[float]) -> list[float]:
    """Where the middle of each share lies, as for one list."""
    return [sum(shares[:i]) + shares[i] / 2 for i in range(len(shares))]


def alias_shares(cells: list[tuple[int, int]]) -> list[float]:
    """Sum of the parts of each entry."""
    found = [0.0] * len(cells)
    for own, (threshold, other) in enumerate(cells):
        found[own] += threshold / 2**32 / len(cells)
        found[other] += (1 - threshold / 2**32) / len(cells)
    return found


def test_two_equal_entries_alternate() -> None:
    assert spread([0.5, 0.5], [0.25, 0.75]) == [0, 1]


def test_seventy_to_thirty_is_seven_to_three_in_ten() -> None:
    # See the worked example of the module.
    assert spread([0.7, 0.3], [0.35, 0.85]) == [0, 0, 1, 0, 0, 1, 0, 0, 0, 1]


def test_equal_entries_rotate_in_order() -> None:
    shares = [1 / 300] * 300
    assert spread(shares, middle_phases(shares), limit=300) == list(range(300))


def test_lists_interleave() -> None:
    # Two lists of 0.5 with 2 and 3 entries: 1/4 and 1/6, so 12 turns, and the lists alternate.
    cycle = spread([1 / 4] * 2 + [1 / 6] * 3, [1 / 4, 3 / 4, 1 / 6, 1 / 2, 5 / 6])
    assert [cycle.count(i) for i in range(5)] == [3, 3, 2, 2, 2]
    # No more than two picks of a list in a row, also around the end.
    sides = [entry < 2 for entry in cycle]
    assert all(len({sides[i - 2], sides[i - 1], sides[i]}) == 2 for i in range(len(sides)))


def test_no_cycle_for_shares_that_need_more_turns() -> None:
    assert spread([0.501, 0.499], [0.25, 0.75], limit=999) == []
    assert len(spread([0.501, 0.499], [0.25, 0.75], limit=1000)) == 1000


def test_entries_stand_as_evenly_as_places_allow() -> None:
    shares = [5 / 16, 1 / 16, 7 / 16, 3 / 16]
    cycle = spread(shares, middle_phases(shares))
    for entry, share in enumerate(shares):
        places = [i for i, e in enumerate(cycle) if e == entry]
        gaps = [(places[(i + 1) % len(places)] - p) % 16 or 16 for i, p in enumerate(places)]
        # Never twice as far apart as the ideal 1 / share, rounded up.
        assert max(gaps) <= 2 * (1 / share + 1)


@given(st.lists(st.integers(0, 2**20), min_size=1, max_size=60).filter(any))
def test_alias_parts_sum_to_the_shares(weights: list[int]) -> None:
    total = sum(weights)
    found = alias_shares(alias_cells([w / total for w in weights]))
    assert found == pytest.approx([w / total for w in weights], abs=2**-31)
    assert all(share == 0 for share, weight in zip(found, weights, strict=True) if weight == 0)
    assert all(share > 0 for share, weight in zip(found, weights, strict=True) if weight > 0)


def test_least_share_keeps_a_part_of_its_cell() -> None:
    # 1 of 2^40: less than a step of the threshold, still more than nothing.
    assert alias_cells([1 - 2**-40, 2**-40])[1] == (1, 0)


def test_weyl_sequence_meets_every_interval_in_time() -> None:
    rng = random.Random(7)
    for length in (0.3, 0.01, 0.0007):
        low = int(rng.random() * (1 - length) * 2**64)
        high = low + int(length * 2**64)
        position, since, longest = rng.getrandbits(64), 0, 0
        for _ in range(200_000):
            position = (position + GOLDEN) & 2**64 - 1
            since = 0 if low <= position < high else since + 1
            longest = max(longest, since)
        assert longest <= 2.62 / length + 1
