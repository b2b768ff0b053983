"""Who stands in for an endpoint that holds too much, against the oracle. In tables: tests/differential."""

import pytest
from eastgate.fastpath.tables.bounded_load import choose_by_overload, probing_order, slots
from hypothesis import given
from hypothesis import strategies as st

from ...oracle import hash_tables


@given(st.integers(0, (1 << 64) - 1), st.integers(0, 700))
def test_orders_are_those_of_the_oracle(value: int, count: int) -> None:
    # More than 624 draws need the generator's second block.
    assert probing_order(value, count) == hash_tables.probing_order(value & 0xFFFFFFFF, count)


@given(st.integers(0, (1 << 32) - 2), st.integers(1, 1000), st.floats(0.0001, 1.0))
def test_slots_are_those_of_the_oracle(active: int, factor: int, weight: float) -> None:
    assert slots(active, factor, weight) == hash_tables.slots(active, factor, weight)


@given(
    st.integers(0, (1 << 32) - 1), st.lists(st.sampled_from([0.0, 0.9, 1.0, 1.1, 1.5, 3.0]), min_size=1, max_size=20)
)
def test_choices_are_those_of_the_oracle(value: int, overloads: list[float]) -> None:
    candidate = value % len(overloads)
    expected = hash_tables.bounded(value, candidate, dict(enumerate(overloads)), len(overloads))
    assert choose_by_overload(value, candidate, overloads) == expected


def test_a_candidate_that_is_not_there_is_refused() -> None:
    with pytest.raises(IndexError, match="endpoint 2 of 2"):
        choose_by_overload(1, 2, [0.0, 0.0])
