"""The state machine of one cluster by a clock of the test's: which endpoints go, when they return, what is counted."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from eastgate.proxy.membership.outlier import NOT_EVALUATED, Counters, Detector, EjectionType, Verdict, Volume
from eastgate.xds.resources import OutlierDetection

FAILURES = EjectionType.CONSECUTIVE_5XX
GATEWAY = EjectionType.CONSECUTIVE_GATEWAY_FAILURE


class Bench:
    """A detector, its counters and the random numbers that it draws."""

    def __init__(self, hosts: int = 10, *, draws: Iterable[int] = (), **settings: Any) -> None:
        numbers = iter(draws)
        self.counters = Counters()
        self.detector: Detector[int] = Detector(OutlierDetection(**settings), self.counters, lambda: next(numbers, 0))
        self.detector.set_hosts(hosts)

    def eject(self, host: int, now: int, kind: EjectionType = FAILURES) -> Verdict[int] | None:
        return self.detector.crossed(host, kind, now)

    def out(self) -> list[int]:
        return [host for host in range(1000) if self.detector.is_ejected(host)]


def test_default_ten_percent_never_ejects_among_three() -> None:
    bench = Bench(3)
    assert bench.eject(0, 0) is None
    assert (bench.out(), bench.counters.overflow, bench.counters.detected[FAILURES]) == ([], 1, 1)
    assert bench.counters.enforced_total == bench.counters.total == 0
    bench = Bench(3, always_eject_one_host=True)
    assert bench.eject(0, 0) is not None
    assert bench.eject(1, 0) is None
    assert (bench.out(), bench.counters.overflow, bench.counters.active) == ([0], 1, 1)


def test_room_is_of_all_endpoints_and_changes_with_them() -> None:
    bench = Bench(20)
    assert [bench.eject(host, 0) is not None for host in range(3)] == [True, True, False]
    bench.detector.set_hosts(30)
    assert bench.eject(2, 0) is not None
    assert bench.eject(3, 0) is None


def test_ejection_ends_at_a_tick_only_and_lasts_longer_each_time() -> None:
    bench = Bench(1, max_ejection_percent=100, interval_s=10, base_ejection_time_s=10)
    assert bench.eject(0, 3000) == Verdict(0, True, FAILURES, True, 1, None)
    assert bench.eject(0, 3001) is None
    assert bench.detector.tick(10_000) == []
    assert bench.detector.tick(13_000) == [Verdict(0, False, FAILURES, True, 1, 10_000)]
    second = bench.eject(0, 14_000)
    assert second is not None
    assert (second.ejections, second.since_last_ms) == (2, 1000)
    assert bench.detector.tick(33_999) == []
    assert [verdict.ejected for verdict in bench.detector.tick(34_000)] == [False]
    assert bench.counters.active == 0


def test_multiplier_falls_one_for_each_interval_back_and_never_below_zero() -> None:
    bench = Bench(1, max_ejection_percent=100, interval_s=10, base_ejection_time_s=10)
    for now in (0, 10_000):
        bench.eject(0, now)
        for tick in range(now + 10_000, now + 10_000 * (2 if now else 1) + 1, 10_000):
            bench.detector.tick(tick)
    assert (bench.out(), bench.detector.backoff(0)) == ([], 2)
    backoffs = []
    for tick in range(40_000, 80_000, 10_000):
        bench.detector.tick(tick)
        backoffs.append(bench.detector.backoff(0))
    assert backoffs == [1, 0, 0, 0]


def test_ejection_is_no_longer_than_the_maximum_and_the_jitter() -> None:
    bench = Bench(
        1,
        draws=[7, 12],
        max_ejection_percent=100,
        interval_s=1,
        base_ejection_time_s=10,
        max_ejection_time_s=15,
        max_ejection_time_jitter_s=0.009,
    )
    bench.eject(0, 0)
    assert [len(bench.detector.tick(now)) for now in (10_006, 10_007)] == [0, 1]
    bench.eject(0, 20_000)
    # 12 of 0 to 9 is 2.
    assert [len(bench.detector.tick(now)) for now in (35_001, 35_002)] == [0, 1]
    for now in (100_000, 200_000, 300_000):
        bench.eject(0, now)
        bench.detector.tick(now + 20_000)
    # 10 x 3 is not below 15 + 10: the multiplier stays there, or falls by the tick that ends nothing.
    assert bench.detector.backoff(0) == 3


@pytest.mark.parametrize(
    ("percent", "draws", "out"), [(0, 0, False), (100, 99, True), (30, 129, True), (30, 130, False)]
)
def test_enforcing_percentage_is_drawn(percent: int, draws: int, out: bool) -> None:
    drawn: list[int] = []

    def draw() -> Iterator[int]:
        drawn.append(draws)
        yield draws
        while True:
            yield 0

    bench = Bench(10, draws=draw(), enforcing_consecutive_5xx=percent)
    verdict = bench.eject(0, 0)
    assert verdict is not None
    assert verdict.enforced is out
    assert bench.out() == ([0] if out else [])
    assert (bench.counters.total, bench.counters.enforced[FAILURES]) == (1, int(out))
    # What is certain costs no draw; one follows for the jitter of an ejection.
    assert drawn == ([] if percent == 0 else [draws])


def test_gateway_failures_are_detected_but_by_default_not_enforced() -> None:
    bench = Bench()
    verdict = bench.eject(0, 0, GATEWAY)
    assert verdict is not None
    assert not verdict.enforced
    assert bench.eject(0, 0) is not None
    assert bench.counters.detected == {**dict.fromkeys(EjectionType, 0), GATEWAY: 1, FAILURES: 1}
    assert bench.counters.enforced == {**dict.fromkeys(EjectionType, 0), FAILURES: 1}
    # Envoy's deprecated counters count two of the seven types.
    assert (bench.counters.total, bench.counters.consecutive_5xx) == (1, 1)


def test_success_rate_ejects_below_the_threshold() -> None:
    bench = Bench(10, enforcing_success_rate=100)
    volumes = [Volume(0, 50, 100), *(Volume(host, 100, 100) for host in range(1, 5)), Volume(5, 0, 99)]
    verdicts = bench.detector.tick(10_000, external=volumes)
    assert verdicts == [Verdict(0, True, EjectionType.SUCCESS_RATE, True, 1, None, 50.0, 90.0, 52.0)]
    assert bench.detector.external == (90.0, 52.0)
    assert bench.detector.local_origin == NOT_EVALUATED
    assert bench.detector.success_rates == {0: 50.0, 1: 100.0, 2: 100.0, 3: 100.0, 4: 100.0, 5: 0.0}
    assert (bench.counters.total, bench.counters.success_rate) == (1, 1)
    # The ejected one is not judged, and the four left are too few.
    assert bench.detector.tick(20_000, external=volumes[:5]) == []
    assert bench.detector.external == NOT_EVALUATED
    assert bench.counters.active == 1


def test_success_rate_needs_hosts_volume_and_a_spread() -> None:
    bench = Bench(4, success_rate_minimum_hosts=5, max_ejection_percent=100)
    volumes = [Volume(0, 0, 1000), *(Volume(host, 1000, 1000) for host in range(1, 4))]
    assert bench.detector.tick(0, external=volumes) == []
    assert bench.counters.detected[EjectionType.SUCCESS_RATE] == 0
    equal = [Volume(host, 500, 1000) for host in range(5)]
    bench.detector.set_hosts(5)
    assert bench.detector.tick(0, external=equal) == []
    assert bench.detector.external == (50.0, 50.0)


def test_failure_percentage_once_enforced_and_never_twice_in_a_tick() -> None:
    bench = Bench(20, max_ejection_percent=50, enforcing_failure_percentage=100, success_rate_stdev_factor=10_000)
    volumes = [Volume(0, 15, 100), Volume(1, 16, 100), *(Volume(host, 100, 100) for host in range(2, 10))]
    verdicts = bench.detector.tick(0, external=volumes)
    assert [(verdict.host, verdict.type) for verdict in verdicts] == [(0, EjectionType.FAILURE_PERCENTAGE)]
    # With a factor of 0 every rate below the mean is an outlier: both rules find endpoint 0, one ejects it.
    bench = Bench(20, max_ejection_percent=50, enforcing_failure_percentage=100, success_rate_stdev_factor=0)
    assert [verdict.host for verdict in bench.detector.tick(0, external=volumes)] == [0, 1]
    assert bench.counters.detected[EjectionType.FAILURE_PERCENTAGE] == 1
    assert (bench.counters.active, bench.counters.enforced[EjectionType.FAILURE_PERCENTAGE]) == (2, 0)


def test_split_volumes_have_their_own_types() -> None:
    bench = Bench(10, max_ejection_percent=100, enforcing_failure_percentage_local_origin=100)
    volumes = [Volume(0, 0, 100), *(Volume(host, 100, 100) for host in range(1, 5))]
    bench.detector.tick(0, local_origin=volumes)
    assert bench.counters.enforced[EjectionType.SUCCESS_RATE_LOCAL_ORIGIN] == 1
    assert bench.counters.detected[EjectionType.FAILURE_PERCENTAGE_LOCAL_ORIGIN] == 1
    assert bench.counters.detected[EjectionType.SUCCESS_RATE] == 0


def test_one_that_comes_back_at_a_tick_is_judged_at_it() -> None:
    bench = Bench(10, max_ejection_percent=100, base_ejection_time_s=1)
    bench.eject(0, 0)
    volumes = [Volume(0, 0, 100), *(Volume(host, 100, 100) for host in range(1, 6))]
    verdicts = bench.detector.tick(1000, external=volumes)
    assert [(verdict.host, verdict.ejected) for verdict in verdicts] == [(0, False), (0, True)]


def test_endpoint_that_left_is_forgotten() -> None:
    bench = Bench(10, base_ejection_time_s=10)
    bench.eject(0, 0)
    bench.detector.set_hosts(9, [0, 5])
    assert (bench.out(), bench.counters.active, bench.detector.known) == ([], 0, ())
    bench.detector.set_hosts(10)
    verdict = bench.eject(0, 0)
    assert verdict is not None
    assert (verdict.ejections, bench.detector.backoff(0)) == (1, 1)
    bench.detector.close()
    assert (bench.counters.active, bench.counters.enforced_total) == (0, 2)


@pytest.mark.parametrize("wanted", [True, False])
def test_active_check_brings_an_endpoint_back_unless_switched_off(wanted: bool) -> None:
    bench = Bench(10, successful_active_health_check_uneject_host=wanted)
    assert bench.detector.health_check_passed(0, 0) is None
    bench.eject(0, 0)
    verdict = bench.detector.health_check_passed(0, 100)
    assert (verdict is not None and not verdict.ejected) is wanted
    assert bench.out() == ([] if wanted else [0])
