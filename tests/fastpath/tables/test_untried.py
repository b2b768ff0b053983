"""Where a connection goes when all that picks give were tried: the next priority that has somebody."""

from collections import Counter

import pytest
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.fastpath.tables.untried import next_untried

from ...columns import columns, failed
from ...oracle.shares import Endpoint

UNHEALTHY, DRAINING, DEGRADED = 2, 3, 5
POLICIES = ("ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV")


def at(number: int, priority: int, *, weight: int = 1, health: int = 1, failed: bool = False) -> Endpoint:
    return Endpoint(
        f"10.0.0.{number}:80", priority, ("r1", f"z{priority}", ""), weight, eds_health=health, failed=failed
    )


def compiled(*endpoints: Endpoint, policy: str = "ROUND_ROBIN") -> ClusterTable:
    return ClusterTable.compile(columns(endpoints), failed=failed(endpoints), policy=policy)


def found(table: ClusterTable, *tried: int, seeds: int = 200) -> set[int]:
    return {next_untried(table, tried, seed=seed) for seed in range(seeds)}


@pytest.mark.parametrize("policy", POLICIES)
def test_the_lowest_priority_with_an_untried_endpoint_is_next(policy: str) -> None:
    table = compiled(at(1, 0), at(2, 2), at(3, 1), at(4, 1), policy=policy)
    # Whatever is picked is P0's: it is healthy, and has all of the load.
    assert {table.pick() for _ in range(100)} == {0}
    assert found(table, 0) == {2, 3}
    assert found(table, 0, 2) == {3}
    assert found(table, 0, 2, 3) == {1}
    assert found(table, 0, 1, 2, 3) == {-1}


def test_who_is_left_in_the_same_priority_comes_before_the_next_one() -> None:
    table = compiled(at(1, 0), at(2, 0), at(3, 1))
    assert found(table, 0) == {1}
    assert found(table, 2) == {0, 1}


def test_only_available_endpoints_are_chosen() -> None:
    table = compiled(at(1, 0), at(2, 1, health=UNHEALTHY), at(3, 1, health=DRAINING), at(4, 1, failed=True), at(5, 2))
    assert found(table, 0) == {4}
    assert found(table, 0, 4) == {-1}


@pytest.mark.parametrize("policy", POLICIES)
def test_degraded_endpoints_come_behind_every_healthy_one(policy: str) -> None:
    table = compiled(at(1, 0), at(2, 1, health=DEGRADED), at(3, 2), policy=policy)
    assert found(table, 0) == {2}
    assert found(table, 0, 2) == {1}


def test_weights_decide_among_several() -> None:
    table = compiled(at(1, 0), at(2, 1, weight=1), at(3, 1, weight=3))
    counts = Counter(next_untried(table, [0], seed=seed) for seed in range(4000))
    # 3000 of 4000 with a standard deviation of 27.
    assert counts.keys() == {1, 2}
    assert abs(counts[2] - 3000) < 140


def test_a_seed_always_gives_the_same_one() -> None:
    table = compiled(at(1, 0), *(at(number, 1) for number in range(2, 10)))
    chosen = [next_untried(table, [0], seed=seed) for seed in range(50)]
    assert chosen == [next_untried(table, [0], seed=seed) for seed in range(50)]
    assert len(set(chosen)) > 1


def test_an_address_that_is_repeated_in_another_priority_was_tried_there_too() -> None:
    table = compiled(at(1, 0), at(1, 1), at(2, 2))
    assert found(table, 0) == {2}


def test_bad_arguments_are_refused() -> None:
    table = compiled(at(1, 0))
    with pytest.raises(IndexError, match="endpoint 1 of 1"):
        next_untried(table, [1], seed=0)
    with pytest.raises(ValueError, match="5 rows, and 4 at most"):
        next_untried(table, [0] * 5, seed=0)
    with pytest.raises(TypeError):
        next_untried(None, [], seed=0)  # type: ignore[arg-type]
