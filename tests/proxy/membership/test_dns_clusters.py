"""When names are asked for, and what answers and failures do to the endpoints of their clusters."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from eastgate.proxy.membership.dns_clusters import DnsClusters, Refresh
from eastgate.proxy.membership.name_resolver import Answer, ResolveError
from eastgate.xds.decode_cluster import decode_cluster
from eastgate.xds.resources import Cluster, DnsResolver, DnsSettings

from ...xds.istiod import assignment, cluster, endpoint, locality_endpoints
from ...xds.rows import rows_of

SETTINGS = DnsSettings(template=b"", targets=())
DEADLINE_S = 10.0


# ---- when


def refresh(random: float = 0.0, **settings: object) -> Refresh:
    return Refresh(replace(SETTINGS, **settings), lambda: random)  # type: ignore[arg-type]


def test_refresh_rate_and_ttl() -> None:
    assert refresh().after_answer(60) == 5.0
    assert refresh(respect_ttl=True).after_answer(60) == 60.0
    # A TTL of 0 says nothing.
    assert refresh(respect_ttl=True).after_answer(0) == 5.0
    assert refresh(respect_ttl=True, min_refresh_s=30.0).after_answer(7) == 30.0


def test_jitter_adds_up_to_its_length() -> None:
    assert refresh(random=0.5, jitter_s=2.0).after_answer(0) == 6.0


def test_failures_wait_as_long_as_answers_unless_told() -> None:
    one = refresh(random=0.5)
    assert [one.after_failure() for _ in range(3)] == [5.0, 5.0, 5.0]


def test_failures_back_off_to_the_longest_wait_and_an_answer_ends_that() -> None:
    one = refresh(random=0.5, failure_base_s=2.0, failure_max_s=10.0)
    # Half of 2, 4, 8, 10, 10.
    assert [one.after_failure() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    one.after_answer(0)
    assert one.after_failure() == 1.0


def test_random_part_of_nothing_is_no_busy_loop() -> None:
    assert refresh(random=0.0, failure_base_s=2.0, failure_max_s=2.0).after_failure() == 0.01


# ---- what


@dataclass
class Names:
    """A name server by hand: each question waits until the test answers it."""

    waiting: dict[str, asyncio.Future[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    async def resolve(self, host: str, family: str, resolver: DnsResolver) -> Answer:
        self.asked.append((host, family))
        self.waiting[host] = asyncio.get_running_loop().create_future()
        return await self.waiting[host]

    def note(self, name: str) -> None:
        self.changed.append(name)

    async def answer(self, host: str, *addresses: str) -> None:
        await self._until(lambda: host in self.waiting)
        self.waiting.pop(host).set_result(Answer(addresses, 60))
        await self._until(lambda: host in self.waiting)

    async def fail(self, host: str) -> None:
        await self._until(lambda: host in self.waiting)
        self.waiting.pop(host).set_exception(ResolveError("no luck"))
        await self._until(lambda: host in self.waiting)

    @staticmethod
    async def _until(condition: Callable[[], object]) -> None:
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        while not condition():
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.001)


def dns_cluster(*hosts: str, kind: str = "STRICT_DNS", name: str = "c", **fields: object) -> Cluster:
    named = assignment("x", [locality_endpoints("r", [endpoint(host, 80) for host in hosts])])
    return decode_cluster(cluster(name, type=kind, load_assignment=named, dns_refresh_rate="0.002s", **fields))


@asynccontextmanager
async def running(names: Names) -> AsyncIterator[DnsClusters]:
    dns = DnsClusters(names.resolve, changed=names.note, random=lambda: 0.5)
    task = asyncio.ensure_future(dns.run())
    await asyncio.sleep(0)
    try:
        yield dns
    finally:
        task.cancel()
        await asyncio.wait([task])


def addresses(dns: DnsClusters, one: Cluster) -> list[str] | None:
    found = dns.assignment(one)
    return None if found is None else [row.address for row in rows_of(found.columns)]


async def test_first_answer_for_any_name_ends_warming() -> None:
    names, one = Names(), dns_cluster("a.test", "b.test")
    async with running(names) as dns:
        dns.apply({"c": one})
        assert (dns.warming, addresses(dns, one)) == ({"c"}, None)
        await names.answer("b.test", "10.0.0.2")
        assert (dns.warming, addresses(dns, one), names.changed) == (set(), ["10.0.0.2"], ["c"])
        await names.answer("a.test", "10.0.0.1", "::1")
        assert addresses(dns, one) == ["10.0.0.1", "::1", "10.0.0.2"]


async def test_first_failure_ends_warming_without_endpoints() -> None:
    names, one = Names(), dns_cluster("a.test")
    async with running(names) as dns:
        dns.apply({"c": one})
        await names.fail("a.test")
        assert (dns.warming, addresses(dns, one), names.changed) == (set(), [], ["c"])


async def test_failure_keeps_the_last_good_addresses_and_an_empty_answer_does_not() -> None:
    names, one = Names(), dns_cluster("a.test")
    async with running(names) as dns:
        dns.apply({"c": one})
        await names.answer("a.test", "10.0.0.1")
        await names.fail("a.test")
        assert (addresses(dns, one), names.changed) == (["10.0.0.1"], ["c"])
        await names.answer("a.test")
        assert (addresses(dns, one), names.changed) == ([], ["c", "c"])
        counters = dns.counters("c")
        assert counters is not None
        # The fourth question is open.
        assert (counters.attempt, counters.success, counters.failure, counters.empty) == (4, 2, 1, 1)


async def test_logical_dns_keeps_its_endpoint_until_there_is_another_one() -> None:
    names, one = Names(), dns_cluster("a.test", kind="LOGICAL_DNS")
    async with running(names) as dns:
        dns.apply({"c": one})
        await names.answer("a.test", "10.0.0.1", "10.0.0.2")
        await names.answer("a.test")
        await names.answer("a.test", "10.0.0.1", "10.0.0.2")
        assert (addresses(dns, one), names.changed) == (["10.0.0.1"], ["c"])
        await names.answer("a.test", "10.0.0.2", "10.0.0.1")
        assert (addresses(dns, one), names.changed) == (["10.0.0.2"], ["c", "c"])
        # Its further addresses are its own, too.
        await names.answer("a.test", "10.0.0.2")
        assert (addresses(dns, one), names.changed) == (["10.0.0.2"], ["c", "c", "c"])
        found = dns.assignment(one)
        assert found is not None
        assert found.columns.further is None


async def test_same_addresses_in_another_order_are_no_change() -> None:
    names, one = Names(), dns_cluster("a.test")
    async with running(names) as dns:
        dns.apply({"c": one})
        await names.answer("a.test", "10.0.0.1", "10.0.0.2")
        before = dns.assignment(one)
        await names.answer("a.test", "10.0.0.2", "10.0.0.1")
        assert dns.assignment(one) is before
        assert names.changed == ["c"]


async def test_addresses_are_asked_nobody() -> None:
    names, one = Names(), dns_cluster("10.0.0.7", "a.test")
    literal = dns_cluster("::7", name="literal")
    async with running(names) as dns:
        dns.apply({"c": one, "literal": literal})
        assert (dns.warming, addresses(dns, literal)) == ({"c"}, ["::7"])
        await names.answer("a.test", "10.0.0.1")
        assert addresses(dns, one) == ["10.0.0.7", "10.0.0.1"]
        assert {host for host, _ in names.asked} == {"a.test"}


async def test_other_settings_keep_the_addresses_that_are_known() -> None:
    names = Names()
    before, after = dns_cluster("a.test"), dns_cluster("a.test", "b.test", dns_jitter="1s")
    async with running(names) as dns:
        dns.apply({"c": before})
        await names.answer("a.test", "10.0.0.1")
        dns.apply({"c": after})
        assert (addresses(dns, before), addresses(dns, after), dns.warming) == (None, ["10.0.0.1"], set())
        # Addresses of another family say nothing of those that are asked for now.
        other = dns_cluster("a.test", dns_lookup_family="V4_ONLY")
        dns.apply({"c": other})
        assert (addresses(dns, other), dns.warming) == (None, {"c"})


async def test_clusters_that_are_gone_are_asked_for_no_more() -> None:
    names, one = Names(), dns_cluster("a.test")
    async with running(names) as dns:
        dns.apply({"c": one})
        await names.answer("a.test", "10.0.0.1")
        dns.apply({})
        assert (dns.counters("c"), addresses(dns, one)) == (None, None)
        # The open question was given up, and its task with it.
        assert names.waiting["a.test"].cancelled() or await asyncio.sleep(0, names.waiting["a.test"].cancelled())


async def test_clusters_from_before_the_start_are_resolved_from_the_start() -> None:
    names, one = Names(), dns_cluster("a.test")
    dns = DnsClusters(names.resolve, changed=names.note, random=lambda: 0.5)
    dns.apply({"c": one})
    assert names.asked == []
    task: Awaitable[None] = asyncio.ensure_future(dns.run())
    await names.answer("a.test", "10.0.0.1")
    assert addresses(dns, one) == ["10.0.0.1"]
    task.cancel()  # type: ignore[attr-defined]
    await asyncio.wait([task])  # type: ignore[list-item]


async def test_too_many_addresses_for_a_weight_leave_the_endpoints_of_before() -> None:
    names = Names()
    heavy = assignment("x", [locality_endpoints("r", [endpoint("a.test", 80, weight=2**31)])])
    one = decode_cluster(cluster("c", type="STRICT_DNS", load_assignment=heavy, dns_refresh_rate="0.002s"))
    async with running(names) as dns:
        dns.apply({"c": one})
        await names.answer("a.test", "10.0.0.1")
        await names.answer("a.test", "10.0.0.1", "10.0.0.2")
        assert addresses(dns, one) == ["10.0.0.1"]
