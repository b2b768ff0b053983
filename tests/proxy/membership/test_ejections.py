"""From counted failures to published tables: ejections, their end, and what later configurations leave of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from eastgate.fastpath.loop import outlier_counters
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.proxy.compile.compiler import Compiler
from eastgate.proxy.membership.ejections import Ejections
from eastgate.proxy.membership.endpoint_health import Cause, key_of
from eastgate.proxy.membership.outlier import EjectionType
from eastgate.xds.resources import Assignment, Cluster, OutlierDetection

from ..compile.test_compiler import NAME, assignment, chain, cluster, listener, snapshot

FOUR = assignment(*((f"10.0.0.{number}", 80) for number in range(4)))
ALL = {"max_ejection_percent": 100, "base_ejection_time_s": 10, "interval_s": 10}


@dataclass(eq=False)
class Timer:
    """A call that the test makes when its time has come."""

    due: float
    call: Callable[[], None]
    running: list["Timer"] = field(repr=False)

    def cancel(self) -> None:
        if self in self.running:
            self.running.remove(self)


class Proxy:
    """Compiler and ejections with a clock of the test's. Connects end where the test says so."""

    def __init__(self, one: Cluster, endpoints: Assignment = FOUR, draws: Iterable[int] = ()) -> None:
        numbers = iter(draws)
        self.now = 0.0
        self.timers: list[Timer] = []
        self.slots = ClusterSlots(8)
        self.compiler = Compiler(self.slots)
        self.ejections = Ejections(
            self.compiler.health,
            self.slots,
            refresh=lambda names: [self.compiler.refresh(name) for name in names],  # type: ignore[arg-type, return-value]
            call_later=self.call_later,
            clock=lambda: self.now,
            random=lambda: next(numbers, 0),
        )
        self.compiler.observers.append(self.ejections.published)
        self.apply(one, endpoints)

    def apply(self, one: Cluster | None, endpoints: Assignment) -> None:
        assert self.compiler.apply(snapshot(one, endpoints, listener(chain()))) == ()

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        timer = Timer(self.now + delay, call, self.timers)
        self.timers.append(timer)
        return timer

    def wait(self, until: float) -> None:
        while due := sorted((timer for timer in self.timers if timer.due <= until), key=lambda timer: timer.due):
            self.now = due[0].due
            due[0].cancel()
            due[0].call()
        self.now = until

    def end(self, row: int, connected: bool, times: int = 1) -> None:
        compiled = self.compiler.clusters[NAME]
        assert compiled.table is not None
        for _ in range(times):
            outlier_counters.record(self.slots, compiled.slot, compiled.table, row, connected)

    def fail(self, row: int, times: int = 5) -> None:
        self.end(row, False, times)
        self.ejections.take()

    @property
    def shares(self) -> list[float]:
        table = self.compiler.clusters[NAME].table
        assert table is not None
        return list(table.shares())

    @property
    def out(self) -> list[int]:
        compiled = self.compiler.clusters[NAME]
        return [row for row, causes in enumerate(compiled.flags) if causes]


def detecting(**settings: Any) -> Cluster:
    return cluster(outlier_detection=OutlierDetection(**{**ALL, **settings}))


def test_endpoint_is_out_after_so_many_failures_and_back_after_the_time() -> None:
    proxy = Proxy(detecting())
    proxy.fail(1, 4)
    proxy.end(1, True)
    proxy.fail(1, 4)
    assert proxy.out == []
    proxy.fail(1, 1)
    assert proxy.shares == [1 / 3, 0, 1 / 3, 1 / 3]
    proxy.wait(9.9)
    assert proxy.out == [1]
    proxy.wait(10)
    assert proxy.shares == [0.25] * 4
    # It begins at nothing, not at five failures.
    proxy.fail(1, 4)
    assert proxy.out == []
    proxy.fail(1, 1)
    proxy.wait(29)
    assert proxy.out == [1]
    proxy.wait(30)
    assert proxy.out == []
    assert proxy.ejections.counters[NAME].enforced[EjectionType.CONSECUTIVE_5XX] == 2


def test_default_limit_keeps_four_endpoints_in_and_counts_the_overflow() -> None:
    proxy = Proxy(detecting(max_ejection_percent=10))
    for _ in range(3):
        proxy.fail(0)
    assert proxy.out == []
    # Each time for both thresholds of five.
    assert proxy.ejections.counters[NAME].overflow == 6


def test_split_mode_has_a_counter_of_its_own() -> None:
    proxy = Proxy(detecting(split_external_local_origin_errors=True, consecutive_local_origin_failure=2))
    proxy.fail(0, 2)
    assert proxy.out == [0]
    counters = proxy.ejections.counters[NAME]
    assert counters.enforced[EjectionType.CONSECUTIVE_LOCAL_ORIGIN_FAILURE] == 1
    assert counters.detected[EjectionType.CONSECUTIVE_GATEWAY_FAILURE] == 0


def test_gateway_failures_when_enforced_come_first() -> None:
    proxy = Proxy(detecting(enforcing_consecutive_gateway_failure=100))
    proxy.fail(0)
    counters = proxy.ejections.counters[NAME]
    assert counters.enforced[EjectionType.CONSECUTIVE_GATEWAY_FAILURE] == 1
    # The other threshold was crossed by the same failure, of an endpoint that was out by then.
    assert counters.detected[EjectionType.CONSECUTIVE_5XX] == 0


def test_threshold_of_nothing_is_never_crossed() -> None:
    proxy = Proxy(detecting(consecutive_5xx=0, consecutive_gateway_failure=0))
    proxy.fail(0, 100)
    assert proxy.out == []


@pytest.mark.parametrize("split", [False, True])
def test_low_success_rate_ejects_at_the_end_of_the_interval(split: bool) -> None:
    proxy = Proxy(
        detecting(
            consecutive_5xx=0,
            split_external_local_origin_errors=split,
            consecutive_local_origin_failure=0,
            success_rate_minimum_hosts=4,
            success_rate_request_volume=10,
            success_rate_stdev_factor=1000,
        )
    )
    for row in range(4):
        proxy.end(row, True, 10)
    proxy.end(2, False, 10)
    proxy.wait(9)
    assert proxy.out == []
    proxy.wait(10)
    assert proxy.out == [2]
    kind = EjectionType.SUCCESS_RATE_LOCAL_ORIGIN if split else EjectionType.SUCCESS_RATE
    assert proxy.ejections.counters[NAME].enforced[kind] == 1


def test_update_of_the_endpoints_keeps_what_stays_and_forgets_what_leaves() -> None:
    one = detecting()
    proxy = Proxy(one)
    proxy.fail(1)
    proxy.fail(2)
    proxy.apply(one, assignment(("10.0.0.9", 80), ("10.0.0.1", 80)))
    assert proxy.shares == [1, 0]
    assert proxy.ejections.counters[NAME].active == 1
    proxy.apply(one, FOUR)
    assert proxy.out == [1]
    proxy.wait(10)
    assert proxy.out == []


@pytest.mark.parametrize("settings", [None, {}])
def test_changed_cluster_begins_anew(settings: dict[str, Any] | None) -> None:
    proxy = Proxy(detecting())
    proxy.fail(1)
    proxy.fail(0, 4)
    proxy.apply(cluster() if settings is None else detecting(), FOUR)
    assert proxy.shares == [0.25] * 4
    assert proxy.ejections.counters[NAME].active == 0
    proxy.fail(0, 4)
    assert proxy.out == []
    assert len(proxy.timers) == (0 if settings is None else 1)


def test_cluster_that_leaves_takes_everything_along() -> None:
    one = detecting()
    proxy = Proxy(one)
    proxy.fail(1)
    proxy.apply(None, FOUR)
    assert not proxy.timers
    assert NAME not in proxy.ejections.counters
    proxy.apply(one, FOUR)
    assert proxy.out == []


def test_ejected_endpoints_count_for_panic() -> None:
    proxy = Proxy(detecting())
    for row in range(2):
        proxy.fail(row)
    assert proxy.shares == [0, 0, 0.5, 0.5]
    proxy.fail(2)
    # One in four healthy is below the threshold of 50 %: traffic goes to all, and failures still count.
    assert proxy.shares == [0.25] * 4
    proxy.fail(3)
    assert proxy.out == [0, 1, 2, 3]
    proxy.fail(0, 20)
    assert proxy.ejections.counters[NAME].enforced_total == 4


def test_active_check_is_another_cause_and_its_success_ends_an_ejection() -> None:
    proxy = Proxy(detecting())
    key = key_of(FOUR.columns, 1)
    proxy.fail(1)
    health = proxy.compiler.health
    assert not health.mark(NAME, key, Cause.FAILED_ACTIVE_HC, True)
    proxy.wait(10)
    proxy.compiler.refresh(NAME)
    assert proxy.out == [1]
    assert health.mark(NAME, key, Cause.FAILED_ACTIVE_HC, False)
    proxy.fail(1)
    proxy.ejections.health_check_passed(NAME, key)
    assert proxy.out == []


def test_nothing_runs_after_the_end() -> None:
    proxy = Proxy(detecting())
    proxy.fail(0)
    proxy.ejections.close()
    assert not proxy.timers
