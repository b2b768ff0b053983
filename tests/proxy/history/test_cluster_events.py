"""Events of clusters: what a compiler publishes, beside what it published before."""

from collections.abc import Sequence

import pytest
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.proxy.compile.compiler import Compiler
from eastgate.proxy.history.cluster_events import ClusterEvents
from eastgate.proxy.history.event_log import Event, EventLog
from eastgate.proxy.membership.endpoint_health import Cause, EndpointKey, key_of
from eastgate.proxy.membership.outlier import EjectionType, Verdict
from eastgate.xds.decode import CDS, EDS
from eastgate.xds.store import Store
from envoy_data_plane.envoy.config.core.v3 import HealthStatus
from envoy_data_plane.google.protobuf import Any as PackedAny

from ...support import messages

NAME = messages.sni("echo")
NEAR = [messages.At((f"10.0.0.{n}", 80)) for n in (1, 2, 3)]
FAR = [messages.At((f"10.1.0.{n}", 80), priority=1) for n in (1, 2)]


class World:
    """A store, a compiler, and the events of what it publishes."""

    def __init__(self) -> None:
        self.log = EventLog()
        self.events = ClusterEvents(self.log)
        self.compiler = Compiler(ClusterSlots())
        self.compiler.observers.append(self.events.published)
        self.store = Store()
        self.push(NEAR + FAR, cluster=messages.cluster(NAME))

    def push(self, endpoints: Sequence[messages.At], *, cluster: bytes = b"") -> None:
        if cluster:
            self.store.apply(CDS, "1", [bytes(PackedAny(type_url=CDS, value=cluster))])
        raw = messages.assignment(NAME, endpoints)
        self.store.apply(EDS, "1", [bytes(PackedAny(type_url=EDS, value=raw))])
        self.compiler.apply(self.store.snapshot)

    def key(self, row: int) -> EndpointKey:
        return key_of(self.store.snapshot.assignments[NAME].columns, row)

    def mark(self, row: int, *, failed: bool, cause: Cause = Cause.FAILED_OUTLIER_CHECK) -> None:
        if failed and cause is Cause.FAILED_OUTLIER_CHECK:
            self.events.judged(NAME, Verdict(self.key(row), True, EjectionType.CONSECUTIVE_5XX))
        self.compiler.health.mark(NAME, self.key(row), cause, failed)
        self.compiler.refresh(NAME)

    def said(self, since: int = 0) -> list[tuple[str, str, object, object]]:
        return [(one.kind.value, one.cause, one.before, one.after) for one in self.log.since(since)]


@pytest.fixture
async def world() -> World:
    return World()


async def test_one_of_three_is_ejected_and_comes_back(world: World) -> None:
    world.mark(0, failed=True)
    # 140 % x 2 / 3 = 93.
    assert world.said() == [
        ("ejected", "10.0.0.1:80 ejected (consecutive_5xx)", [100, 0], [93, 7]),
        ("loads", "10.0.0.1:80 ejected (consecutive_5xx)", [100, 0], [93, 7]),
    ]
    ejected: Event = world.log.since(0)[0]
    assert (ejected.subject, ejected.endpoint) == (NAME, "10.0.0.1:80")
    # What a third of all picks went to leaves it.
    assert ejected.moved == pytest.approx(1 / 3, abs=0.002)
    world.mark(0, failed=False)
    assert world.said(2) == [
        ("returned", "10.0.0.1:80 is back", [93, 7], [100, 0]),
        ("loads", "10.0.0.1:80 is back", [93, 7], [100, 0]),
    ]


async def test_an_ejection_without_other_loads_is_one_event(world: World) -> None:
    world.push(NEAR[:1])
    since = world.log.last
    world.push([messages.At((f"10.0.0.{n}", 80)) for n in range(1, 10)])
    since = world.log.last
    world.mark(4, failed=True)
    assert [kind for kind, *_ in world.said(since)] == ["ejected"]
    assert world.log.since(since)[0].moved == pytest.approx(1 / 9, abs=0.002)


async def test_checks_of_health_and_ejections_are_told_apart(world: World) -> None:
    world.mark(0, failed=True, cause=Cause.FAILED_ACTIVE_HC)
    world.mark(0, failed=True)
    world.mark(0, failed=False)
    world.mark(0, failed=False, cause=Cause.FAILED_ACTIVE_HC)
    assert [cause for kind, cause, *_ in world.said() if kind != "loads"] == [
        "10.0.0.1:80 failed its health check",
        "10.0.0.1:80 ejected (consecutive_5xx)",
        "10.0.0.1:80 is back and is still out for its health check",
        "10.0.0.1:80 passes its health check again",
    ]


async def test_a_push_that_moves_traffic_has_its_endpoints_as_cause(world: World) -> None:
    world.push([messages.At(NEAR[0].address, health=HealthStatus.UNHEALTHY), *NEAR[1:], *FAR])
    ((kind, cause, before, after),) = world.said()
    assert (kind, before, after) == ("loads", [100, 0], [93, 7])
    assert cause == (
        "its endpoints changed: P0 3 of 3 healthy, P1 2 of 2 healthy, now P0 2 of 3 healthy, P1 2 of 2 healthy"
    )
    assert world.log.since(0)[0].moved == pytest.approx(1 / 3, abs=0.002)


async def test_a_push_that_moves_nothing_is_no_event(world: World) -> None:
    world.push(NEAR + FAR)
    world.push([messages.At(one.address, weight=2) for one in NEAR] + FAR)
    assert world.said() == []


async def test_a_cluster_that_leaves_is_no_event_and_an_emptied_one_is(world: World) -> None:
    world.push([])
    ((kind, _, before, after),) = world.said()
    assert (kind, before, after) == ("loads", [100, 0], [0])
    assert world.log.since(0)[0].moved == pytest.approx(1.0)
    world.store.apply(CDS, "2", [])
    since = world.log.last
    world.compiler.apply(world.store.snapshot)
    assert world.said(since) == []


async def test_an_ejected_endpoint_that_is_removed_has_not_returned(world: World) -> None:
    world.mark(0, failed=True)
    since = world.log.last
    world.push(NEAR[1:] + FAR)
    assert [kind for kind, *_ in world.said(since)] == ["loads"]
