"""Marks of several causes, combined by endpoint; and what an update of the endpoints leaves of them."""

import asyncio
from dataclasses import replace

import pytest
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.proxy.compile import publisher as publisher_module
from eastgate.proxy.compile.compiled import CompiledCluster
from eastgate.proxy.compile.compiler import Compiler
from eastgate.proxy.compile.publisher import Publisher
from eastgate.proxy.membership.endpoint_health import Cause, EndpointHealth, key_of, rows_of
from eastgate.xds.resources import Assignment

from ...columns import columns
from ...oracle.shares import Endpoint
from ..compile.test_compiler import NAME, assignment, chain, cluster, listener, many, snapshot

EJECTED, FAILED_CHECK = Cause.FAILED_OUTLIER_CHECK, Cause.FAILED_ACTIVE_HC


def named(*addresses: str, locality: str = "r") -> Assignment:
    rows = columns([Endpoint(address, locality=(locality, "", "")) for address in addresses])
    return replace(assignment(), columns=rows)  # type: ignore[arg-type]


def test_endpoint_is_failed_while_any_cause_holds() -> None:
    health, endpoints = EndpointHealth(), named("10.0.0.1:80", "10.0.0.2:80")
    key = key_of(endpoints.columns, 1)
    assert health.failed("c", endpoints) == b""
    assert health.mark("c", key, EJECTED, True)
    assert not health.mark("c", key, FAILED_CHECK, True)
    assert health.failed("c", endpoints) == bytes([0, EJECTED | FAILED_CHECK])
    assert health.failed("d", endpoints) == b""
    assert not health.mark("c", key, EJECTED, False)
    assert (health.causes("c", key), list(health.marked("c", FAILED_CHECK))) == (FAILED_CHECK, [key])
    assert not health.clear("c", EJECTED)
    assert health.clear("c", FAILED_CHECK)
    assert health.failed("c", endpoints) == b""


def test_marks_follow_the_identity_and_not_the_row() -> None:
    health = EndpointHealth()
    health.mark("c", key_of(named("10.0.0.1:80").columns, 0), EJECTED, True)
    assert health.failed("c", named("10.0.0.2:80", "[::a00:1]:80", "10.0.0.1:81", "10.0.0.1:80")) == bytes([0, 0, 0, 1])
    assert health.failed("c", named("10.0.0.1:80", locality="other")) == bytes(1)
    health.retain("c", named("10.0.0.2:80"))
    assert health.failed("c", named("10.0.0.1:80")) == b""


@pytest.mark.parametrize("count", [1, 65])
def test_rows_are_found_whatever_their_number(count: int) -> None:
    addresses = [f"10.0.{n}.1:80" for n in range(256)] + ["unix:/a", "unix:/b", "[::1]:80"]
    rows = named(*addresses).columns
    for first in (0, 100, 258 - count):
        wanted = {key_of(rows, row): row for row in range(first, first + count)}
        assert rows_of(rows, wanted) == wanted
    unix = key_of(rows, 257)
    assert rows_of(rows, [unix]) == {unix: 257}


def test_duplicate_of_an_address_is_not_an_endpoint() -> None:
    rows = columns([Endpoint("10.0.0.1:80"), Endpoint("10.0.0.1:80", locality=("x", "", ""))])
    first, second = key_of(rows, 0), key_of(rows, 1)  # type: ignore[arg-type]
    assert rows_of(rows, [first, second]) == {first: 0}  # type: ignore[arg-type]
    many = [first._replace(port=port) for port in range(1000, 1065)]
    assert rows_of(rows, [second, first, *many]) == {first: 0}  # type: ignore[arg-type]


async def test_mark_acts_when_the_cluster_is_refreshed_and_stays_over_updates() -> None:
    compiler = Compiler(ClusterSlots())
    publisher = Publisher(compiler, lambda: None)
    told: list[tuple[str, CompiledCluster | None]] = []
    compiler.observers.append(lambda name, compiled: told.append((name, compiled)))
    before = assignment(("10.0.0.1", 80), ("10.0.0.2", 80), ("10.0.0.3", 80))
    known = cluster(healthy_panic_threshold_percent=0)
    await publisher.publish(snapshot(known, before, listener(chain())))
    compiler.health.mark(NAME, key_of(before.columns, 1), EJECTED, True)
    publisher.refresh([NAME, "gone"])
    assert list(shares(compiler)) == [0.5, 0.0, 0.5]
    after = assignment(("10.0.0.9", 80), ("10.0.0.2", 80))
    await publisher.publish(snapshot(known, after, listener(chain())))
    assert list(shares(compiler)) == [1.0, 0.0]
    await publisher.publish(snapshot(None, None, None))
    assert [name for name, _ in told] == [NAME] * 4
    assert told[-1][1] is None
    assert compiler.health.failed(NAME, after) == b""


def shares(compiler: Compiler) -> list[float]:
    table = compiler.clusters[NAME].table
    assert table is not None
    return list(table.shares())


async def test_refresh_during_a_publication_is_not_undone_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "SLICE_S", 0.0)
    compiler = Compiler(ClusterSlots())
    publisher = Publisher(compiler, lambda: None)
    await publisher.publish(many(100))
    name = next(iter(compiler.clusters))
    known = compiler.clusters[name].assignment
    assert known is not None
    async with asyncio.TaskGroup() as group:
        group.create_task(publisher.publish(many(100)))
        for _ in range(20):
            await asyncio.sleep(0)
        compiler.health.mark(name, key_of(known.columns, 0), EJECTED, True)
        publisher.refresh([name])
    table = compiler.clusters[name].table
    assert table is not None
    assert table.priorities()[0][1] == 0
