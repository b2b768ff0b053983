"""Failover runway: how many more may fail, and what the next one does."""

from dataclasses import replace

import pytest
from eastgate.insight.cluster_model import compile_model
from eastgate.insight.runway import STEPS_SHOWN, ordinal, runways

from ..support.dumps import endpoint, locality, places
from .models import compiled, model


@pytest.mark.acceptance(feature="runway")
def test_ten_equal_endpoints_stand_two_failures() -> None:
    # 140 * 8 / 10 = 112, 140 * 7 / 10 = 98; real Envoy sends 98 and 2 with 7 of 10.
    first, second = runways(compiled(locality("a", places(10)), locality("b", places(4, network=1), priority=1)))
    assert first.sentence == "2 more keep 100 % at P0; the 3rd sends 2 % away to P1"
    assert (first.spare, first.healthy, first.total) == (2, 10, 10)
    assert [step.loads for step in first.steps] == [
        (min(100, 140 * n // 10), 100 - min(100, 14 * n)) for n in range(10, -1, -1)
    ]
    # With P0 gone, P1 is the last: it carries everything until nobody is left.
    assert second.sentence == "3 more keep 100 % at P1; with the 4th connections are refused"
    assert second.steps[-1].refused


def test_priority_that_already_leaks_is_counted_from_what_it_has() -> None:
    # 7 of 10: 98 % now; the next failure makes it 84.
    cluster = compiled(locality("a", places(10, unhealthy=3)), locality("b", places(1, network=1), priority=1))
    assert runways(cluster)[0].sentence == "none can fail without moving traffic off P0; the 1st sends 14 % away to P1"


def test_panic_ends_the_runway_where_there_is_nowhere_to_go() -> None:
    # Threshold 50 %: 2 of 4 is not below it, and keeps 140 * 2 / 4 = 70, scaled to 100; 1 of 4 is.
    (only,) = runways(compiled(locality("a", places(4)), panic=50))
    assert (
        only.sentence == "2 more keep 100 % at P0; with the 3rd the cluster panics and unhealthy endpoints get traffic"
    )


def test_each_priority_counts_with_those_before_it_down() -> None:
    cluster = compiled(
        locality("a", places(1)),
        locality("b", places(3, network=1), priority=1),
        locality("c", places(1, network=2), priority=2),
    )
    sentences = {one.priority: one.sentence for one in runways(cluster)}
    # P1 of 3: 2 healthy are 93 %.
    assert sentences[1] == "none can fail without moving traffic off P1; the 1st sends 7 % away to P2"
    assert sentences[2].endswith("with the 1st connections are refused")


def test_weighted_health_loses_the_heaviest_first() -> None:
    heavy = [endpoint("10.0.0.1:80", weight=1), endpoint("10.0.0.2:80", weight=8), endpoint("10.0.0.3:80", weight=1)]
    counted = model(locality("a", heavy), locality("b", places(2, network=1), priority=1))
    cluster = compile_model(replace(counted, weighted_priority_health=True))
    (first, _) = runways(cluster)
    # Without the endpoint of weight 8, 2 of 10 are left: 28 %.
    assert first.steps[1].loads == (28, 72)


def test_large_priority_shows_a_few_steps_and_the_one_that_matters() -> None:
    cluster = compiled(locality("a", places(1000)), locality("b", places(1, network=1), priority=1))
    first = runways(cluster)[0]
    # 140 * 715 / 1000 = 100.1; 140 * 714 / 1000 = 99.96, which truncates to 99.
    assert first.spare == 285
    shown = [step.failures for step in first.steps]
    assert {0, 285, 286, 1000} <= set(shown)
    assert len(shown) <= STEPS_SHOWN + 4


def test_unhealthy_priorities_have_no_runway() -> None:
    cluster = compiled(locality("a", places(2, unhealthy=2)), locality("b", places(1, network=1), priority=1))
    assert [one.priority for one in runways(cluster)] == [1]


@pytest.mark.parametrize(
    ("number", "text"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (112, "112th"), (23, "23rd")]
)
def test_ordinals(number: int, text: str) -> None:
    assert ordinal(number) == text
