"""Which endpoints are checked, and what results, discovery and settings make of them together."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from eastgate.proxy.membership import endpoint_flags as flag
from eastgate.proxy.membership.check_outcome import Outcome, Target
from eastgate.proxy.membership.endpoint_health import key_of
from eastgate.proxy.membership.health_checks import HealthChecks
from eastgate.xds.assignment import decode_assignment
from eastgate.xds.message import encode
from eastgate.xds.resources import Assignment, Cluster, DnsSettings, HealthCheck

from .test_health_state import CHECK

DEADLINE_S = 10.0
PASS, FAIL = Outcome(passed=True), Outcome(network=True, reason="no")
A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
# Nobody waits between checks; each of them waits for the test.
FAST = replace(
    CHECK,
    unhealthy_threshold=1,
    healthy_threshold=1,
    no_traffic_interval_s=0.001,
    no_traffic_healthy_interval_s=0.001,
)


def cluster(**fields: Any) -> Cluster:
    return Cluster(name="c", type="EDS", **{"health_check": FAST, **fields})


def assignment(*hosts: str, **own: dict[str, Any]) -> Assignment:
    """Endpoints at port 80, a health status behind a slash; ``own``: health_check_config by host."""
    written = []
    for host in hosts:
        host, _, health = host.partition("/")
        where = {"socket_address": {"address": host, "port_value": 80}}
        endpoint: dict[str, Any] = {"address": where}
        if (config := own.get("own", {}).get(host)) is not None:
            endpoint["health_check_config"] = config
        written.append({"endpoint": endpoint, "health_status": health or "UNKNOWN"})
    message = {"cluster_name": "c", "endpoints": [{"locality": {"region": "r"}, "lb_endpoints": written}]}
    return decode_assignment(encode("envoy.config.endpoint.v3.ClusterLoadAssignment", message))


@dataclass
class Probed:
    """A probe by hand: each check waits for the test's outcome."""

    check_: HealthCheck
    target: Target
    waiting: asyncio.Future[Outcome] | None = None
    closed: bool = False

    async def check(self) -> Outcome:
        self.waiting = asyncio.get_running_loop().create_future()
        return await self.waiting

    async def wait(self, wait_s: float) -> Outcome | None:
        await asyncio.sleep(wait_s)
        return None

    def close(self) -> None:
        self.closed = True


@dataclass
class Endpoints:
    probes: list[Probed] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    traffic: bool = False

    def open(self, check: HealthCheck, target: Target) -> Probed:
        self.probes.append(Probed(check, target))
        return self.probes[-1]

    @property
    def checked(self) -> list[str]:
        """Hosts that are being checked."""
        return sorted(probe.target.host for probe in self.probes if not probe.closed)

    async def end(self, host: str, outcome: Outcome) -> None:
        """End the check of an endpoint, and wait for the next one."""
        await until(lambda: host in self.checked)
        probe = next(one for one in self.probes if one.target.host == host and not one.closed)
        await until(lambda: probe.waiting is not None)
        waiting, probe.waiting = probe.waiting, None
        assert waiting is not None
        waiting.set_result(outcome)
        await until(lambda: probe.waiting is not None or probe.closed)


async def until(condition: Callable[[], object]) -> None:
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.001)


@asynccontextmanager
async def running(endpoints: Endpoints) -> AsyncIterator[HealthChecks]:
    checks = HealthChecks(
        endpoints.open,
        changed=endpoints.changed.append,
        has_traffic=lambda _: endpoints.traffic,
        random=lambda: 0.5,
    )
    task = asyncio.ensure_future(checks.run())
    await asyncio.sleep(0)
    try:
        yield checks
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert endpoints.checked == []


async def test_cluster_without_a_check_is_left_alone() -> None:
    async with running(Endpoints()) as checks:
        given = assignment(A)
        live = checks.follow(cluster(health_check=None), given)
        assert (live.assignment, live.flags, live.waiting) == (given, b"", False)
        assert checks.counters("c") is None


async def test_first_round_ends_when_each_endpoint_was_checked_once() -> None:
    endpoints, one, given = Endpoints(), cluster(), assignment(A, B)
    async with running(endpoints) as checks:
        assert checks.follow(one, given).waiting
        await until(lambda: endpoints.checked == [A, B])
        await endpoints.end(A, PASS)
        assert (checks.warming, endpoints.changed) == ({"c"}, [])
        await endpoints.end(B, FAIL)
        assert (checks.warming, endpoints.changed) == (set(), ["c"])
        live = checks.follow(one, given)
        assert (live.flags, live.waiting) == (bytes([0, flag.FAILED_ACTIVE_CHECK]), False)


async def test_cluster_without_endpoints_waits_for_nothing() -> None:
    async with running(Endpoints()) as checks:
        assert not checks.follow(cluster(), assignment()).waiting


async def test_results_are_told_when_they_change_something() -> None:
    endpoints, one, given = Endpoints(), cluster(), assignment(A)
    async with running(endpoints) as checks:
        checks.follow(one, given)
        for outcome in (PASS, PASS, FAIL, FAIL, PASS):
            await endpoints.end(A, outcome)
        assert endpoints.changed == ["c"] * 3
        counters = checks.counters("c")
        assert counters is not None
        assert (counters.success, counters.failure, counters.network_failure) == (3, 2, 2)
        assert (counters.attempt, counters.healthy, counters.degraded) == (6, 1, 0)


async def test_passes_of_healthy_endpoints_are_observed() -> None:
    endpoints, given, seen = Endpoints(), assignment(A, B), []
    healthy_after_two = cluster(health_check=replace(FAST, healthy_threshold=2))
    async with running(endpoints) as checks:
        checks.observers.append(lambda name, key: seen.append((name, key)))
        checks.follow(healthy_after_two, given)
        for outcome in (FAIL, PASS, PASS, PASS):
            await endpoints.end(B, outcome)
        assert seen == [("c", key_of(given.columns, 1))] * 2


async def test_new_endpoint_is_failed_until_its_first_check() -> None:
    endpoints, one = Endpoints(), cluster(ignore_new_hosts_until_first_check=True)
    async with running(endpoints) as checks:
        checks.follow(one, assignment(A))
        await endpoints.end(A, PASS)
        both = assignment(A, B)
        live = checks.follow(one, both)
        assert live.flags == bytes([0, flag.FAILED_ACTIVE_CHECK | flag.PENDING_FIRST_CHECK])
        assert not live.waiting
        await until(lambda: endpoints.checked == [A, B])
        await endpoints.end(B, PASS)
        assert checks.follow(one, both).flags == bytes(2)


async def test_removed_endpoint_stays_while_it_passes() -> None:
    endpoints, one = Endpoints(), cluster()
    async with running(endpoints) as checks:
        checks.follow(one, assignment(A, B, C))
        for host, outcome in ((A, PASS), (B, PASS), (C, FAIL)):
            await endpoints.end(host, outcome)
        left = assignment(A)
        live = checks.follow(one, left)
        assert live.assignment.columns.all_keys() == [(A, 80), (B, 80)]
        assert live.flags == bytes([0, flag.PENDING_REMOVAL])
        await until(lambda: endpoints.checked == [A, B])
        # Still kept by another update that does not name it, and back when one does.
        assert len(checks.follow(one, assignment(A)).flags) == 2
        assert checks.follow(one, assignment(B, A)).flags == bytes(2)
        checks.follow(one, left)
        await endpoints.end(B, FAIL)
        live = checks.follow(one, left)
        assert (live.assignment, live.flags) == (left, bytes(1))
        await until(lambda: endpoints.checked == [A])


async def test_removed_endpoint_goes_where_its_health_is_ignored_or_eds_called_it_unhealthy() -> None:
    endpoints = Endpoints()
    async with running(endpoints) as checks:
        ignoring = cluster(ignore_health_on_host_removal=True)
        checks.follow(ignoring, assignment(A, B))
        for host in (A, B):
            await endpoints.end(host, PASS)
        assert len(checks.follow(ignoring, assignment(A)).flags) == 1
        checks.follow(cluster(), assignment(A, f"{C}/UNHEALTHY"))
        await until(lambda: C in endpoints.checked)
        await endpoints.end(C, PASS)
        assert len(checks.follow(cluster(), assignment(A)).flags) == 1


async def test_health_stays_with_the_address_and_not_with_other_check_settings() -> None:
    endpoints, one = Endpoints(), cluster()
    async with running(endpoints) as checks:
        checks.follow(one, assignment(A, B))
        for host in (A, B):
            await endpoints.end(host, PASS)
        assert checks.follow(one, assignment(B, f"{A}/DEGRADED")).flags == bytes(2)
        moved = assignment(A, B, own={B: {"port_value": 81}})
        assert checks.follow(one, moved).flags == bytes([0, flag.FAILED_ACTIVE_CHECK])
        await until(lambda: [probe.target.port for probe in endpoints.probes if not probe.closed] == [80, 81])


async def test_endpoint_that_disables_its_check_passes_unchecked() -> None:
    endpoints = Endpoints()
    async with running(endpoints) as checks:
        disabled = assignment(A, own={A: {"disable_active_health_check": True}})
        live = checks.follow(cluster(), disabled)
        assert (live.flags, live.waiting) == (bytes(1), False)
        assert endpoints.probes == []


async def test_other_settings_of_the_cluster_keep_health_and_take_effect() -> None:
    endpoints = Endpoints()
    async with running(endpoints) as checks:
        given = assignment(A)
        checks.follow(cluster(), given)
        await endpoints.end(A, PASS)
        slower = replace(FAST, timeout_s=7.0)
        live = checks.follow(cluster(health_check=slower), given)
        assert (live.flags, live.waiting) == (bytes(1), False)
        await until(lambda: [probe.check_.timeout_s for probe in endpoints.probes if not probe.closed] == [7.0])


async def test_logical_endpoint_is_the_same_wherever_its_name_leads() -> None:
    endpoints = Endpoints()
    one = replace(cluster(dns=DnsSettings(b"", (), first_only=True)), type="LOGICAL_DNS")
    async with running(endpoints) as checks:
        checks.follow(one, assignment(A))
        await endpoints.end(A, PASS)
        live = checks.follow(one, assignment(B))
        assert (live.assignment.columns.all_keys(), live.flags) == ([(B, 80)], bytes(1))
        await until(lambda: endpoints.checked == [B])


async def test_clusters_that_are_gone_are_checked_no_more() -> None:
    endpoints, given = Endpoints(), assignment(A)
    async with running(endpoints) as checks:
        checks.follow(cluster(), given)
        await until(lambda: endpoints.checked == [A])
        checks.retain([])
        await until(lambda: endpoints.checked == [])
        assert checks.counters("c") is None


async def test_own_hostname_goes_before_the_checks_and_that_before_the_cluster() -> None:
    endpoints = Endpoints()
    async with running(endpoints) as checks:
        checks.follow(cluster(), assignment(A, B, own={B: {"hostname": "b.test"}}))
        await until(lambda: len(endpoints.probes) == 2)
        assert [probe.target.hostname for probe in endpoints.probes] == ["c", "b.test"]


def test_rows_of_another_assignment_are_appended_with_their_locality() -> None:
    def made(region: str, host: str, weight: int) -> Assignment:
        where = {"address": {"socket_address": {"address": host, "port_value": weight}}}
        pipe = {"address": {"pipe": {"path": f"/{region}"}}}
        locality = {
            "locality": {"region": region},
            "load_balancing_weight": weight,
            "lb_endpoints": [{"endpoint": where, "load_balancing_weight": weight}, {"endpoint": pipe}],
        }
        message = {"cluster_name": "c", "endpoints": [locality]}
        return decode_assignment(encode("envoy.config.endpoint.v3.ClusterLoadAssignment", message))

    joined = made("r1", A, 3).columns.with_rows(made("r2", "::1", 5).columns, (0, 1))
    assert joined.all_keys() == [(A, 3), ("/r1", 0), ("::1", 5), ("/r2", 0)]
    assert struct.unpack("=4I", joined.weight) == (3, 1, 5, 1)
    assert struct.unpack("=4H", joined.locality) == (0, 0, 1, 1)
    # A weight is what the present assignment says; the other one's says nothing any more.
    assert [(entry.locality.region, entry.weight) for entry in joined.localities] == [("r1", 3), ("r2", None)]
