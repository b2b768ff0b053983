"""Slow start: weights by time, from the first healthy moment to published tables."""

import random
from array import array
from dataclasses import dataclass, replace

import pytest
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.insight.cluster_model import compile_model
from eastgate.insight.explain import explain
from eastgate.insight.read_dump import join, read_document
from eastgate.proxy.admin.dumps import cluster_status, clusters_text
from eastgate.proxy.compile.compiler import Compiler
from eastgate.proxy.membership.endpoint_flags import FAILED_ACTIVE_CHECK, FAILED_OUTLIER_CHECK
from eastgate.proxy.membership.endpoint_health import Cause, key_of
from eastgate.proxy.membership.slow_start import NEVER, Ramp, SlowStarts, Weights, follow, weight_factor
from eastgate.xds.resources import Assignment, Cluster, Columns, Locality, LocalityEntry, SlowStart

from ...fastpath.driven_engine import columns
from ...oracle.slow_start import weight_now
from ...support import dumps
from ..compile.test_compiler import NAME, assignment, chain, cluster, listener, snapshot
from .test_ejections import Timer

SETTINGS = SlowStart(10_000)
A, B, C = (f"10.0.0.{number}" for number in (1, 2, 3))


def factors(ramp: Ramp) -> list[float]:
    return [ramp.weights.factor(row) for row in range(ramp.columns.count)]


def ramps(*hosts: str, health: tuple[int, ...] = ()) -> Columns:
    return columns(*((host, 80) for host in hosts), health=health)


def test_weights_grow_as_the_oracle_says() -> None:
    rng = random.Random(7)
    for _ in range(2000):
        window = rng.randint(1, 100_000)
        elapsed = rng.choice([0, 1, window - 1, window, window + 1, rng.randint(0, 2 * window)])
        settings = SlowStart(window, rng.choice([1.0, 0.5, 2.0, rng.uniform(0.01, 10)]), rng.choice([0.0, 10.0, 35.0]))
        expected = weight_now(1.0, elapsed, window, settings.aggression, settings.min_weight_percent / 100)
        assert weight_factor(settings, elapsed) == expected


def test_all_enter_together_and_a_newcomer_later() -> None:
    two = ramps(A, B)
    ramp = follow(SETTINGS, two, b"", 5_000, None)
    assert (factors(ramp), ramp.weights.by_weight, ramp.latest) == ([0.1, 0.1], True, 5_000)
    # Ten steps while nobody grows beside others, a hundred when somebody does.
    assert ramp.due == 6_000
    ramp = follow(SETTINGS, two, b"", 10_000, ramp)
    assert factors(ramp) == [0.5, 0.5]
    three = ramps(C, A, B)
    ramp = follow(SETTINGS, three, b"", 11_000, ramp)
    assert factors(ramp) == [0.1, 0.6, 0.6]
    assert ramp.due == 11_100
    ramp = follow(SETTINGS, three, b"", 15_000, ramp)
    assert factors(ramp) == [0.4, 1.0, 1.0]
    ramp = follow(SETTINGS, three, b"", 21_000, ramp)
    # Its time is over: full weight, nothing to wait for. Least request goes by weight until endpoints change.
    assert (ramp.weights, ramp.due) == (Weights(b"", True), NEVER)
    ramp = follow(SETTINGS, ramps(C, A), b"", 22_000, ramp)
    assert (ramp.weights, ramp.due) == (Weights(b"", False), NEVER)


def test_time_goes_on_through_failures_of_others_than_active_checks() -> None:
    healthy, down = ramps(A, B), ramps(A, B, health=(1, 2))
    ramp = follow(SETTINGS, healthy, b"", 0, None)
    # An endpoint that is not healthy has its full weight: that is what it gets in panic.
    ramp = follow(SETTINGS, down, b"", 2_000, ramp)
    assert factors(ramp) == [0.2, 1.0]
    ramp = follow(SETTINGS, healthy, bytes((0, FAILED_OUTLIER_CHECK)), 3_000, ramp)
    assert factors(ramp) == [0.3, 1.0]
    ramp = follow(SETTINGS, healthy, b"", 6_000, ramp)
    assert factors(ramp) == [0.6, 0.6]


def test_time_begins_when_first_healthy() -> None:
    ramp = follow(SETTINGS, ramps(A, B, health=(1, 2)), b"", 0, None)
    assert factors(ramp) == [0.1, 1.0]
    ramp = follow(SETTINGS, ramps(A, B, health=(1, 5)), b"", 1_000, ramp)
    assert factors(ramp) == [0.1, 1.0]
    ramp = follow(SETTINGS, ramps(A, B), b"", 20_000, ramp)
    assert factors(ramp) == [1.0, 0.1]
    assert ramp.weights.by_weight


def test_passing_an_active_check_begins_anew() -> None:
    two = ramps(A, B)
    failing = bytes((0, FAILED_ACTIVE_CHECK))
    ramp = follow(SETTINGS, two, failing, 0, None)
    assert factors(ramp) == [0.1, 1.0]
    ramp = follow(SETTINGS, two, b"", 8_000, ramp)
    assert factors(ramp) == [0.8, 0.1]
    ramp = follow(SETTINGS, two, failing, 12_000, ramp)
    ramp = follow(SETTINGS, two, bytes(2), 15_000, ramp)
    assert factors(ramp) == [1.0, 0.1]
    ramp = follow(SETTINGS, two, b"", 16_000, ramp)
    assert factors(ramp) == [1.0, 0.1]
    ramp = follow(SETTINGS, two, b"", 20_000, ramp)
    assert factors(ramp) == [1.0, 0.5]


def test_an_endpoint_that_left_or_moved_is_a_new_one() -> None:
    ramp = follow(SETTINGS, ramps(A, B), b"", 0, None)
    ramp = follow(SETTINGS, ramps(A), b"", 1_000, ramp)
    ramp = follow(SETTINGS, ramps(A, B), b"", 4_000, ramp)
    assert factors(ramp) == [0.4, 0.1]
    moved = replace(ramps(A, B), localities=(LocalityEntry(Locality("r1", "z2"), 0, 1),))
    assert factors(follow(SETTINGS, moved, b"", 8_000, ramp)) == [0.1, 0.1]


def test_sockets_and_other_families_keep_their_time_in_another_order() -> None:
    mixed = ramps("/run/a", A, "2001:db8::1", "/run/b")
    ramp = follow(SETTINGS, mixed, b"", 0, None)
    ramp = follow(SETTINGS, ramps("/run/c", "/run/b", "2001:db8::1", A, "/run/a"), b"", 5_000, ramp)
    assert factors(ramp) == [0.1, 0.5, 0.5, 0.5, 0.5]


def test_large_clusters_are_compiled_less_often() -> None:
    many = ramps(*(f"10.1.{i >> 8}.{i & 255}" for i in range(40_000)))
    first = follow(SlowStart(1_000), many, b"", 0, None)
    assert follow(SlowStart(1_000), replace(many, health=b"\2" + many.health[1:]), b"", 10, first).due == 10 + 200


@dataclass
class Proxy:
    """A compiler and its slow starts with a clock of the test's."""

    one: Cluster
    endpoints: Assignment
    now: float = 100.0

    def __post_init__(self) -> None:
        self.timers: list[Timer] = []
        self.compiles = 0
        self.compiler = Compiler(ClusterSlots(8), clock=lambda: self.now)
        self.slow_starts = SlowStarts(
            refresh=lambda names: [self.compiler.refresh(name) for name in names],  # type: ignore[arg-type, return-value]
            call_later=self.call_later,
            clock=lambda: self.now,
        )
        self.compiler.observers.append(self.published)
        self.apply(self.endpoints)

    def published(self, name: str, compiled: object) -> None:
        self.compiles += 1
        self.slow_starts.published(name, getattr(compiled, "ramp", None))

    def apply(self, endpoints: Assignment | None, one: Cluster | None = None) -> None:
        self.one = one or self.one
        assert self.compiler.apply(snapshot(self.one, endpoints, listener(chain()))) == ()

    def call_later(self, delay: float, call: object) -> Timer:
        timer = Timer(self.now + delay, call, self.timers)  # type: ignore[arg-type]
        self.timers.append(timer)
        return timer

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while due := sorted((timer for timer in self.timers if timer.due <= until), key=lambda timer: timer.due):
            self.now = due[0].due
            due[0].cancel()
            due[0].call()
        self.now = until

    @property
    def shares(self) -> list[float]:
        table = self.compiler.clusters[NAME].table
        assert table is not None
        return list(table.shares())

    @property
    def kind(self) -> str:
        table = self.compiler.clusters[NAME].table
        assert table is not None
        return table.schedule()[0]


TWO, THREE = assignment((A, 80), (B, 80)), assignment((A, 80), (B, 80), (C, 80))


@pytest.mark.parametrize("policy", ["ROUND_ROBIN", "LEAST_REQUEST"])
def test_tables_follow_the_time(policy: str) -> None:
    proxy = Proxy(cluster(lb_policy=policy, slow_start=SETTINGS), TWO)
    assert proxy.shares == [0.5, 0.5]
    proxy.wait(30)
    assert not proxy.timers
    proxy.apply(THREE)
    assert proxy.shares == pytest.approx([1 / 2.1, 1 / 2.1, 0.1 / 2.1], abs=1e-6)
    proxy.wait(5.05)
    assert proxy.shares == pytest.approx([0.4, 0.4, 0.2], abs=0.005)
    compiles = proxy.compiles
    proxy.wait(2)
    assert 19 <= proxy.compiles - compiles <= 21
    proxy.wait(4)
    assert proxy.shares == pytest.approx([1 / 3] * 3)
    assert not proxy.timers
    # Nothing is compiled while nothing grows.
    compiles = proxy.compiles
    proxy.apply(THREE)
    proxy.compiler.refresh(NAME)
    assert proxy.compiles == compiles


def test_least_request_goes_by_weight_while_and_until_endpoints_change() -> None:
    proxy = Proxy(cluster(lb_policy="LEAST_REQUEST", slow_start=SETTINGS), TWO)
    table = proxy.compiler.clusters[NAME].table
    assert table is not None
    # By weight the busy one gets 1 / 51 of what the other gets; compared two by two it would be a quarter.
    for _ in range(50):
        table.hold(0)
    assert [table.pick() for _ in range(1000)].count(0) == pytest.approx(20, abs=5)
    proxy.wait(30)
    table = proxy.compiler.clusters[NAME].table
    assert table is not None
    assert [table.pick() for _ in range(1000)].count(0) == pytest.approx(20, abs=5)
    proxy.apply(assignment((A, 80), (B, 80), (C, 80), (C, 81)))
    proxy.wait(30)
    proxy.apply(assignment((A, 80), (B, 80)))
    table = proxy.compiler.clusters[NAME].table
    assert table is not None
    # Two are compared: both draws hit the busy one a quarter of the time.
    assert [table.pick() for _ in range(1000)].count(0) == pytest.approx(250, abs=100)


def test_what_cds_changed_begins_anew_and_what_left_is_forgotten() -> None:
    proxy = Proxy(cluster(slow_start=SETTINGS), TWO)
    proxy.wait(30)
    proxy.apply(THREE, cluster(slow_start=SETTINGS, connect_timeout_s=3.0))
    assert proxy.shares == pytest.approx([1 / 3] * 3)
    assert proxy.compiler.clusters[NAME].weights.factor(0) == 0.1
    assert len(proxy.timers) == 1
    proxy.compiler.apply(snapshot(None, None, None))
    assert not proxy.timers
    proxy.apply(TWO)
    proxy.slow_starts.close()
    assert not proxy.timers


def test_an_ejection_in_between_changes_no_time() -> None:
    proxy = Proxy(cluster(slow_start=SETTINGS), TWO)
    proxy.wait(30)
    proxy.apply(THREE)
    proxy.wait(2)
    key = key_of(THREE.columns, 2)
    proxy.compiler.health.mark(NAME, key, Cause.FAILED_OUTLIER_CHECK, True)
    proxy.compiler.refresh(NAME)
    assert proxy.shares == [0.5, 0.5, 0.0]
    proxy.wait(3)
    proxy.compiler.health.mark(NAME, key, Cause.FAILED_OUTLIER_CHECK, False)
    proxy.compiler.refresh(NAME)
    assert proxy.shares == pytest.approx([0.4, 0.4, 0.2], abs=0.001)


def test_clusters_and_explain_say_who_is_in_it() -> None:
    proxy = Proxy(cluster(slow_start=SETTINGS), TWO)
    proxy.wait(30)
    compiled = proxy.compiler.clusters[NAME]
    assert "eastgate_weight_factor" not in str(cluster_status(NAME, compiled))
    proxy.apply(THREE)
    proxy.wait(5)
    compiled = proxy.compiler.clusters[NAME]
    status = cluster_status(NAME, compiled)
    factor = status["host_statuses"][2]["eastgate_weight_factor"]
    assert factor == pytest.approx(0.5, abs=0.02)
    assert f"{NAME}::{C}:80::weight_factor::{factor:.6f}\n" in "".join(clusters_text(proxy.compiler.clusters))
    configured = dumps.cluster(NAME)
    configured["round_robin_lb_config"] = {"slow_start_config": {"slow_start_window": "10s"}}
    members = [dumps.endpoint(f"{host}:80", weight=1) for host in (A, B, C)]
    document = dumps.config_dump([configured], [dumps.assignment(dumps.locality("r1/z1", members), name=NAME)])
    live = join(read_document(document, "d"), read_document({"cluster_statuses": [status]}, "c"))
    said = explain(compile_model(live.clusters[NAME]))
    # The very shares of the table that picks.
    assert [one.share for one in said.endpoints] == proxy.shares
    assert [one.weight_factor for one in said.endpoints] == [1.0, 1.0, factor]
    assert said.endpoints[2].reason == f"slow start: {factor:.1%} of its weight"
    assert "slow start, window 10 s: shares are those of this moment, with 1 endpoint in it" in said.notes
    # A dump without /clusters does not know the time.
    alone = explain(compile_model(read_document(document, "d").clusters[NAME]))
    assert "slow start, window 10 s: shares are those with nobody in it" in alone.notes


def test_bad_factors_are_refused_by_name() -> None:
    for bad, text in (
        ([1.0], "8 bytes for 2 rows"),
        ([1.0, 0.0], "0.0 at row 1"),
        ([float("nan"), 1.0], "nan at row 0"),
    ):
        with pytest.raises(ValueError, match=f"factors: {text}"):
            ClusterTable.compile(ramps(A, B), factors=array("d", bad).tobytes())
