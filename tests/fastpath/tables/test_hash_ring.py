"""Sizes of rings; entries and picks: tests/differential/test_hashed_table_vs_oracle.py."""

import math

import pytest
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.fastpath.tables.hash_ring import ring_size
from eastgate.xds.resources import Hashing
from hypothesis import given
from hypothesis import strategies as st

from ...columns import columns
from ...oracle.hash_tables import Ring, normalised
from ...oracle.shares import Endpoint


def test_the_smallest_weight_gets_a_whole_number_of_entries() -> None:
    # ceil(0.25 * 6) / 0.25 = 8: six entries and two.
    assert ring_size([0.75, 0.25], 6, 8388608) == (8, 8)
    # Cut to the maximum.
    assert ring_size([0.75, 0.25], 6, 7) == (7, 7)


def test_weights_below_one_leave_a_part_of_the_ring_out() -> None:
    assert ring_size([0.25, 0.25], 1024, 8388608) == (1024, 512)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=30), st.integers(1, 300))
def test_sizes_are_those_of_the_oracle(weights: list[int], minimum: int) -> None:
    hosts = normalised([(f"10.0.0.{number}:80", weight) for number, weight in enumerate(weights)])
    size, entries = ring_size([weight for _, weight in hosts], minimum, 500)
    ring = Ring(hosts, minimum, 500)
    assert (size, entries) == (ring.size, len(ring.entries))


@pytest.mark.parametrize("weight", [0.0, -1.0, 1.5, math.nan])
def test_impossible_weights_are_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="is outside 0"):
        ring_size([weight], 1, 2)


def test_every_entry_and_every_gap_is_found_around_the_end() -> None:
    rows = [Endpoint(f"10.0.{number}.1:80") for number in range(50)]
    table = ClusterTable.compile(columns(rows), policy="RING_HASH", hashing=Hashing(minimum_ring_size=50))
    (ring,) = table.hash_entries()
    for place, (value, row) in enumerate(ring):  # type: ignore[misc]
        assert table.pick_hash(value) == row
        following = ring[(place + 1) % len(ring)][1]  # type: ignore[index]
        assert table.pick_hash(value + 1) == following
        assert table.pick_hash(value, 1) == following
    assert table.pick_hash(0) == table.pick_hash((1 << 64) - 1) == ring[0][1]  # type: ignore[index]


def test_endpoints_of_one_key_share_its_entries_in_the_order_of_the_message() -> None:
    rows = [Endpoint(f"10.0.0.{number}:80") for number in range(100)]
    keys = [b"all"] * 100
    table = ClusterTable.compile(columns(rows), policy="RING_HASH", hash_keys=keys)
    (ring,) = table.hash_entries()
    assert ring == sorted(ring)
    assert {row for _, row in ring[:100]} == set(range(100))  # type: ignore[misc]
    # Who comes first has every hash.
    assert {table.pick_hash(value << 54) for value in range(1 << 10)} == {0}
    assert list(table.shares()) == pytest.approx([1.0, *[0.0] * 99])
