"""What `eastgate bench selection` measures; not how fast it is."""

import pytest
from eastgate.insight.selection_bench import POLICIES, PYTHON, Measured, endpoints_of, measure, per_pick_ns, table_lines


def test_every_policy_is_measured_at_every_size() -> None:
    found = measure(POLICIES, (3, 40), round_s=0.0001)
    assert [(one.endpoints, one.picker) for one in found] == [
        (size, picker) for size in (3, 40) for picker in (*POLICIES, PYTHON)
    ]
    assert all(one.ns_per_pick > 0 and one.build_ms > 0 for one in found)
    assert all(one.bytes_per_endpoint > 0 for one in found if one.picker != PYTHON)


def test_endpoints_are_the_same_for_the_same_seed() -> None:
    assert endpoints_of(20, equal=False, seed=7) == endpoints_of(20, equal=False, seed=7)
    assert {one.weight for one in endpoints_of(20, equal=True, seed=7)} == {1}
    assert len({one.address for one in endpoints_of(70_000, equal=True, seed=7)}) == 70_000


def test_a_round_makes_as_many_picks_as_take_long_enough() -> None:
    asked: list[int] = []
    assert per_pick_ns(asked.append, round_s=0.0001) > 0
    # The rounds that count are alike.
    assert len(set(asked[-7:])) == 1


def test_a_table_of_sizes_and_pickers() -> None:
    found = [Measured(picker, size, size / 10, 1.0, 1.0) for size in (10, 1000) for picker in ("RANDOM", PYTHON)]
    assert table_lines(found) == [
        "ns a pick, endpoints:   10  1,000",
        "RANDOM                 1.0  100.0",
        "random.choices         1.0  100.0",
    ]


def test_a_policy_that_there_is_not_is_an_error() -> None:
    with pytest.raises(ValueError, match="policy 'BEST'"):
        measure(("BEST",), (1,))
