"""Where endpoints look for places; tables and picks: tests/differential/test_hashed_table_vs_oracle.py."""

import pytest
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.fastpath.tables.maglev_table import offset_and_skip
from eastgate.xds.resources import Hashing
from hypothesis import given
from hypothesis import strategies as st

from ...columns import columns
from ...oracle import hash_tables
from ...oracle.shares import Endpoint


@given(st.text(max_size=40), st.sampled_from([2, 7, 251, 65537, 5000011]))
def test_places_are_those_of_the_oracle(key: str, size: int) -> None:
    assert offset_and_skip(key.encode(), size) == hash_tables.offset_and_skip(key, size)


@pytest.mark.parametrize("size", [0, 1, 1 << 32])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="outside 2"):
        offset_and_skip(b"key", size)


@pytest.mark.parametrize("count", [2, 250, 256, 257, 400])
def test_tables_are_full_whatever_the_width_of_a_place(count: int) -> None:
    rows = [Endpoint(f"10.0.{number >> 8}.{number & 255}:80", weight=1 + number % 3) for number in range(count)]
    table = ClusterTable.compile(columns(rows), policy="MAGLEV", hashing=Hashing(table_size=1021))
    oracle = hash_tables.Maglev(hash_tables.normalised([(one.address, one.weight) for one in rows]), 1021)
    (places,) = table.hash_entries()
    assert [rows[row].address for row in places] == oracle.table  # type: ignore[index]
    assert [table.pick_hash(value) for value in range(1021)] == places


def test_a_table_with_more_endpoints_than_places_serves_some() -> None:
    rows = [Endpoint(f"10.0.0.{number}:80") for number in range(10)]
    table = ClusterTable.compile(columns(rows), policy="MAGLEV", hashing=Hashing(table_size=7))
    shares = list(table.shares())
    assert sorted(shares) == pytest.approx([0.0] * 3 + [1 / 7] * 7)


def test_a_table_of_five_places_is_tied_to_the_choice_of_the_priority() -> None:
    # Hashes below 30 of 100 are P0's; hash % 5 is the place: each has 6 of 30 of them.
    first = [Endpoint(f"10.0.0.{number}:80", eds_health=1 if number < 3 else 2) for number in range(14)]
    rows = [*first, *(Endpoint(f"10.1.0.{number}:80", priority=1) for number in range(2))]
    table = ClusterTable.compile(columns(rows), policy="MAGLEV", hashing=Hashing(table_size=5), panic_threshold=0)
    assert table.priorities()[0][4] == 30
    (p0, _) = table.hash_entries()
    expected = [0.06 * p0.count(row) for row in range(14)]  # type: ignore[arg-type]
    assert list(table.shares())[:14] == pytest.approx(expected)
