"""Thresholds and intervals, as Envoy has them."""

from dataclasses import replace

import pytest
from eastgate.proxy.membership.health_state import EndpointHealth, Intervals, Transition
from eastgate.xds.resources import HealthCheck

CHECK = HealthCheck(
    timeout_s=1.0,
    interval_s=10.0,
    unhealthy_threshold=3,
    healthy_threshold=2,
    unhealthy_interval_s=20.0,
    unhealthy_edge_interval_s=21.0,
    healthy_edge_interval_s=11.0,
    no_traffic_interval_s=60.0,
    no_traffic_healthy_interval_s=70.0,
)


def states(results: str, health: EndpointHealth | None = None) -> tuple[str, list[Transition]]:
    """Health after each of the results P and F: h or f."""
    health = health or EndpointHealth()
    seen, transitions = "", []
    for result in results:
        transitions.append(health.passed(CHECK) if result == "P" else health.failed_check(CHECK))
        seen += "f" if health.failed else "h"
    return seen, transitions


def test_worked_example() -> None:
    assert states("FPPFFFPP")[0] == "ffhhhffh"


def test_first_check_needs_no_threshold_if_it_passes() -> None:
    seen, transitions = states("PFF")
    assert seen == "hhh"
    assert transitions == [Transition.CHANGED, Transition.PENDING, Transition.PENDING]


def test_first_failure_changes_nothing_and_the_threshold_holds_from_then_on() -> None:
    seen, transitions = states("FP")
    assert seen == "ff"
    assert transitions == [Transition.UNCHANGED, Transition.PENDING]


def test_counts_are_of_results_in_a_row() -> None:
    assert states("PFFPFFPFFF")[0] == "hhhhhhhhhf"
    assert states("FPFPFPP")[0] == "ffffffh"


def test_further_failures_and_passes_change_nothing() -> None:
    assert states("PFFFF")[1][-1] is Transition.UNCHANGED
    assert states("PP")[1][-1] is Transition.UNCHANGED


def test_failure_at_once_ignores_the_threshold() -> None:
    health = EndpointHealth()
    health.passed(CHECK)
    assert health.failed_check(CHECK, at_once=True) is Transition.CHANGED
    assert health.failed


def test_pending_endpoint_counts_after_its_first_check_however_it_ends() -> None:
    for result in "PF":
        health = EndpointHealth(pending=True)
        assert states(result, health)[1] == [Transition.CHANGED]
        assert not health.pending


def test_degraded_is_what_the_last_answer_says() -> None:
    health = EndpointHealth()
    health.passed(CHECK, degraded=True)
    assert health.degraded
    assert health.passed(CHECK, degraded=True) is Transition.UNCHANGED
    assert health.passed(CHECK) is Transition.CHANGED
    assert not health.degraded


def test_withdrawn_lasts_until_the_endpoint_is_healthy_again() -> None:
    health = EndpointHealth()
    health.passed(CHECK)
    assert health.failed_check(CHECK, at_once=True, withdrawn=True) is Transition.CHANGED
    health.passed(CHECK)
    assert health.withdrawn
    health.passed(CHECK)
    assert not health.withdrawn


def test_timeout_is_told_of_failed_endpoints_only() -> None:
    health = EndpointHealth()
    health.passed(CHECK)
    for _ in range(2):
        health.failed_check(CHECK, timed_out=True)
        assert not health.timed_out
    health.failed_check(CHECK, timed_out=True)
    assert health.timed_out
    health.failed_check(CHECK)
    assert not health.timed_out


@pytest.mark.parametrize(
    ("transition", "passed", "has_traffic", "wait_s"),
    [
        (Transition.UNCHANGED, True, True, 10.0),
        (Transition.CHANGED, True, True, 10.0),
        (Transition.PENDING, True, True, 11.0),
        (Transition.UNCHANGED, False, True, 20.0),
        (Transition.CHANGED, False, True, 20.0),
        (Transition.PENDING, False, True, 21.0),
        (Transition.UNCHANGED, True, False, 70.0),
        (Transition.PENDING, True, False, 60.0),
        (Transition.UNCHANGED, False, False, 60.0),
        (Transition.PENDING, False, False, 60.0),
    ],
)
def test_interval_is_that_of_the_state(transition: Transition, passed: bool, has_traffic: bool, wait_s: float) -> None:
    intervals = Intervals(CHECK, lambda: 0.5)
    assert intervals.following(transition, passed=passed, has_traffic=has_traffic) == wait_s


def test_jitter_is_added() -> None:
    jittered = replace(CHECK, interval_jitter_s=4.0, interval_jitter_percent=50)
    # Half of 50 % of 10 s, and half of 4 s.
    assert Intervals(jittered, lambda: 0.5).following(Transition.UNCHANGED, passed=True, has_traffic=True) == 14.5


def test_first_check_comes_at_once_or_within_its_jitter() -> None:
    assert Intervals(CHECK, lambda: 0.5).first() == 0.0
    assert Intervals(replace(CHECK, initial_jitter_s=8.0), lambda: 0.25).first() == 2.0
    assert Intervals(replace(CHECK, initial_jitter_s=8.0), lambda: 0.0).first() == 0.001
