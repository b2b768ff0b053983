"""Delta beside state of the world: equal stores from what one istiod sent both ways; mishaps over real gRPC."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from eastgate.xds.ads import AdsClient
from eastgate.xds.delta_subscription import DeltaSubscriptions
from eastgate.xds.node import NodeIdentity
from eastgate.xds.resources import Columns
from eastgate.xds.store import Store
from eastgate.xds.subscription import SotwSubscriptions

from ..support.recordings import CDS, EDS, LDS, RDS, payload_series, recorded
from ..support.replay_ads import ReplayAds
from ..xds import istiod as build

TYPES = ((CDS, True), (EDS, False), (LDS, True))
SERIES = (*TYPES, (RDS, False))
ROLE = "anthos-gateway"


def node() -> NodeIdentity:
    return NodeIdentity(
        type="router", ips=("10.10.1.30",), pod_name="gateway-a", namespace="gateway", network="default"
    )


def endpoints(columns: Columns) -> list[tuple[bytes, ...]]:
    """(address, port, weight, health, priority) of each endpoint, sorted."""
    widths = ((columns.address, 16), (columns.port, 2), (columns.weight, 4), (columns.health, 1), (columns.priority, 1))
    return sorted(
        tuple(column[at * width : (at + 1) * width] for column, width in widths) for at in range(columns.count)
    )


def meaning(store: Store) -> tuple[Any, ...]:
    """What a store holds, without the order in which istiod happened to write it."""
    snapshot = store.snapshot
    assignments = {name: endpoints(one.columns) for name, one in snapshot.assignments.items()}
    kept = dict(snapshot.clusters), assignments, dict(snapshot.listeners), dict(snapshot.routes)
    return *kept, snapshot.warming, snapshot.missing_routes, snapshot.rejections


@pytest.mark.parametrize("role", ["anthos-gateway", "anthos-sidecar"])
def test_recorded_series_ends_in_equal_stores(role: str) -> None:
    stores = {}
    for variant, streams in (("sotw", SotwSubscriptions(SERIES)), ("delta", DeltaSubscriptions(SERIES))):
        store = stores[variant] = Store(router=role.endswith("gateway"))
        for push in payload_series(role, variant):
            response = streams.read(push.payload)
            store.apply(
                response.type_url, response.version, response.resources, names=response.names, removed=response.removed
            )
    assert meaning(stores["delta"]) == meaning(stores["sotw"])
    assert set(stores["delta"].names(CDS)) == set(recorded("9-subsets", role)[CDS])
    assert sum(one.columns.count for one in stores["delta"].snapshot.assignments.values()) > 10


async def no_sleep(_: float) -> None:
    await asyncio.sleep(0)


@asynccontextmanager
async def delta_client(server: ReplayAds, **options: Any) -> AsyncIterator[AdsClient]:
    """A client of a started server; the server is stopped at the end and must have seen no violation."""
    client = AdsClient([server.address], node(), Store(), protocol="delta", sleep=no_sleep, **options)
    async with asyncio.TaskGroup() as group:
        group.create_task(client.run())
        try:
            yield client
        finally:
            await client.close()
            await server.stop()
    assert server.violations == []


async def started(stage: str = "1-default", **options: Any) -> ReplayAds:
    server = ReplayAds(recorded(stage, ROLE), **options)
    await server.start()
    return server


async def all_acked(server: ReplayAds) -> None:
    for type_url, _ in TYPES:
        await server.wait_acked(type_url)


def holds(client: AdsClient, stage: str) -> bool:
    wanted, snapshot = recorded(stage, ROLE), client.store.snapshot
    return (
        {name: one.raw for name, one in snapshot.clusters.items()} == wanted[CDS]
        and {name: one.raw for name, one in snapshot.listeners.items()} == wanted[LDS]
        and all(one.raw == wanted[EDS][name] for name, one in snapshot.assignments.items() if name in wanted[EDS])
        and not snapshot.warming
    )


async def test_client_follows_every_recorded_stage() -> None:
    server = await started()
    async with delta_client(server) as client:
        await all_acked(server)
        assert holds(client, "1-default")
        for stage in ("2-failover", "4-none-ready", "9-subsets", "1-default"):
            await server.push(stage, ROLE)
            await all_acked(server)
            assert holds(client, stage), stage
        assert not server.requests


async def test_push_of_a_few_assignments_leaves_the_others() -> None:
    server = await started()
    async with delta_client(server) as client:
        await all_acked(server)
        before = dict(client.store.snapshot.assignments)
        name = next(iter(before))
        await server.push_some(EDS, {name: build.assignment(name, [])})
        assert client.store.snapshot.assignments == {**before, name: client.store.snapshot.assignments[name]}
        assert client.store.snapshot.assignments[name].columns.count == 0


@pytest.mark.parametrize("status", [None, grpc.StatusCode.UNAVAILABLE], ids=["ended", "reset"])
async def test_what_vanished_while_the_stream_was_away_is_removed(status: grpc.StatusCode | None) -> None:
    server = await started("9-subsets")
    async with delta_client(server) as client:
        await all_acked(server)
        served = client.store.snapshot
        server.resources = recorded("1-default", ROLE)
        await server.drop_streams(status)
        assert client.store.snapshot is served
        await server.wait_streams(2)
        await all_acked(server)
        assert holds(client, "1-default")
        first = [one for one in server.delta_requests if one.initial_resource_versions]
        assert first[0].node is not None
        assert set(first[0].initial_resource_versions) == set(recorded("9-subsets", ROLE)[CDS])


async def test_broken_resource_is_rejected_by_its_name_and_its_last_version_stays() -> None:
    server = await started()
    async with delta_client(server) as client:
        await all_acked(server)
        clusters = recorded("1-default", ROLE)[CDS]
        good, bad, *_ = sorted(clusters)
        changed = clusters[good] + b"\x22\x02\x08\x07"  # connect_timeout 7 s
        await server.push_some(CDS, {**clusters, good: changed, bad: b"\x0a\x7f"})
        await server.wait_nacks(1)
        assert server.nacks[0].reason.startswith(f"CDS {bad} rejected: ")
        assert client.store.snapshot.clusters[bad].raw == clusters[bad]
        assert client.store.snapshot.clusters[good].raw == changed
        await server.drop_streams()
        await server.wait_nacks(2)
        again = [one for one in server.delta_requests if one.type_url == CDS and one.initial_resource_versions][-1]
        versions = again.initial_resource_versions
        assert versions[good] > versions[bad] == "v0"
        await server.push_some(CDS, clusters)
        assert not client.store.snapshot.rejections
