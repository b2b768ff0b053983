"""Availability, loads and panic: worked examples, limits, and what is refused. Vectors stand in tests/differential."""

import pickle

import pytest
from eastgate.fastpath.tables.priority_load import (
    PriorityLoads,
    choose_priority,
    classify_health,
    effective_locality_weight,
)


def loads(*priorities: tuple[int, int], panic_threshold: int = 50) -> PriorityLoads:
    """(hosts, healthy) of each priority."""
    found = PriorityLoads(panic_threshold=panic_threshold)
    for number, (hosts, healthy) in enumerate(priorities):
        found.update(number, hosts=hosts, healthy=healthy)
    return found


def test_pick_spills_to_p1_below_overprovisioned_capacity() -> None:
    # 140 * 2 / 4 = 70
    assert loads((4, 2), (4, 4)).healthy_load == (70, 30)


def test_p0_keeps_everything_down_to_71_percent() -> None:
    # 140 * 72 / 100 = 100.8, 140 * 71 / 100 = 99.4 truncated to 99
    assert loads((100, 72), (1, 1)).healthy_load == (100, 0)
    assert loads((100, 71), (1, 1)).healthy_load == (99, 1)


def test_total_panic_splits_by_endpoint_count_with_the_rest_to_the_first() -> None:
    # 100 * 1 / 3 = 33 for each, the 1 left over to the first priority that has endpoints
    found = loads((0, 0), (4, 0), (4, 0), (4, 0))
    assert found.healthy_load == (0, 34, 33, 33)
    assert found.panic == (True, True, True, True)


def test_no_panic_while_the_cluster_as_a_whole_is_available() -> None:
    # P0 has 1 of 4, below 50 %, but 35 + 100 caps at 100.
    assert loads((4, 1), (4, 4)).panic == (False, False)


def test_threshold_zero_with_nothing_available_sends_all_to_p0_without_panic() -> None:
    found = loads((4, 0), (4, 0), panic_threshold=0)
    assert found.healthy_load == (100, 0)
    assert found.panic == (False, False)


def test_loads_of_before_stay_when_nothing_is_available_and_nothing_panics() -> None:
    # Factor 1: 1 * 9 / 10 truncates to 0, and 90 % is above the threshold.
    found = loads((4, 2), (4, 4))
    for priority in (0, 1):
        found.update(priority, hosts=10, healthy=9, overprovisioning_factor=1)
    assert found.availability == ((0, 0), (0, 0))
    assert found.panic == (False, False)
    # After P0's update P1 alone had availability 100.
    assert found.healthy_load == (0, 100)


def test_threshold_above_100_counts_as_100() -> None:
    assert loads((4, 4), panic_threshold=4_000).panic_threshold == 100


def test_huge_factor_does_not_wrap() -> None:
    found = PriorityLoads()
    found.update(0, hosts=2, healthy=1, overprovisioning_factor=2**32 - 1, weights=(2**33, 2**32, 0, 0))
    assert found.availability == ((100, 0),)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"priority": 128, "hosts": 1, "healthy": 1}, "priority 128"),
        ({"priority": 0, "hosts": 1, "healthy": 2}, "2 healthy"),
        ({"priority": 0, "hosts": 1, "healthy": 0, "excluded": 2}, "2 excluded"),
        ({"priority": 0, "hosts": 1, "healthy": 1, "overprovisioning_factor": 0}, "overprovisioning_factor 0"),
    ],
)
def test_impossible_updates_are_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PriorityLoads().update(**fields)


def test_choose_priority_walks_healthy_before_degraded() -> None:
    # Buckets 1..30 are P1's healthy load, 31..100 P0's degraded one.
    assert choose_priority(29, [0, 30], [70, 0]) == (1, False)
    assert choose_priority(30, [0, 30], [70, 0]) == (0, True)


def test_choose_priority_needs_equally_many_loads() -> None:
    with pytest.raises(ValueError, match="1 healthy and 2 degraded"):
        choose_priority(0, [100], [0, 0])


def test_unknown_health_status_is_refused() -> None:
    with pytest.raises(ValueError, match="health 6"):
        classify_health(6)


def test_failed_draining_endpoint_stays_excluded() -> None:
    assert classify_health(3, failed=True) == ("unhealthy", True)


def test_locality_weight_falls_below_overprovisioned_capacity() -> None:
    # 2 of 5: 1.4 * 0.4 = 0.56 of the weight
    assert effective_locality_weight(3, eligible=2, total=5) == pytest.approx(3 * 0.56)
    assert effective_locality_weight(3, eligible=4, total=5) == 3.0
    assert effective_locality_weight(3, eligible=0, total=5, excluded=5) == 0.0


def test_loads_refuse_pickling() -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(PriorityLoads())
