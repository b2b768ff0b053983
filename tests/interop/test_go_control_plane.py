"""eastgate's client against go-control-plane's cache server: another reading of the protocol than istiod's."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from eastgate.xds.ads import AdsClient, Protocol
from eastgate.xds.decode import CDS, EDS, LDS
from eastgate.xds.store import Store

from ..support.recordings import recorded
from ..support.relay import Relay
from ..xds import istiod as build
from .control_plane import ControlPlane
from .go_program import built

A, B = "outbound_.80_._.a.svc", "outbound_.80_._.b.svc"
both = pytest.mark.parametrize("protocol", ["sotw", "delta"])


SOURCE = Path(__file__).parent / "go-control-plane"


@pytest.fixture
def server() -> Iterator[ControlPlane]:
    with ControlPlane(built(SOURCE)) as running:
        yield running


@asynccontextmanager
async def client_of(address: str, protocol: Protocol) -> AsyncIterator[AdsClient]:
    async def soon(_: float) -> None:
        await asyncio.sleep(0.01)

    client = AdsClient([address], build.router(), Store(), protocol=protocol, sleep=soon, answer_timeout_s=0.5)
    async with asyncio.TaskGroup() as group:
        group.create_task(client.run())
        try:
            yield client
        finally:
            async with asyncio.timeout(20):
                await client.close()


async def reached(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def assignment(name: str, *addresses: str) -> bytes:
    return build.assignment(name, [build.locality_endpoints("r", [build.endpoint(one) for one in addresses])])


def snapshot(*names: str, address: str = "10.0.0.1") -> dict[str, list[bytes]]:
    return {
        CDS: [build.cluster(name) for name in names],
        EDS: [assignment(name, address) for name in names],
        LDS: [build.listener("l", [build.chain(name) for name in names])] if names else [],
    }


def holds(client: AdsClient, *names: str, address: str = "10.0.0.1") -> bool:
    found = client.store.snapshot
    return (
        set(found.clusters) == set(found.assignments) == set(names)
        and not found.warming
        and set(found.listeners) == ({"l"} if names else set())
        and all(one.columns.address[:4] == bytes(map(int, address.split("."))) for one in found.assignments.values())
    )


@both
async def test_snapshots_arrive_change_and_go(server: ControlPlane, protocol: Protocol) -> None:
    server.serve("1", snapshot(A))
    async with client_of(server.address, protocol) as client:
        await reached(lambda: holds(client, A))
        for version, names, address in (
            ("2", (A, B), "10.0.0.1"),
            ("3", (A, B), "10.0.0.2"),
            ("4", (B,), "10.0.0.2"),
            ("5", (), "10.0.0.2"),
            ("6", (A,), "10.0.0.3"),
        ):
            await asyncio.to_thread(server.serve, version, snapshot(*names, address=address))
            await reached(partial(holds, client, *names, address=address))
        assert client.connects == 1
        assert not any(one.get("error") for one in server.seen)
        assert {one["node"] for one in server.seen if one.get("node")} == {build.router().id}


@both
async def test_rejected_resource_is_told_and_the_next_version_taken(server: ControlPlane, protocol: Protocol) -> None:
    server.serve("1", snapshot(A, B))
    async with client_of(server.address, protocol) as client:
        await reached(lambda: holds(client, A, B))
        bad = {**snapshot(A, B), CDS: [build.cluster(A, connect_timeout="-1s"), build.cluster(B, connect_timeout="3s")]}
        await asyncio.to_thread(server.serve, "2", bad)
        nack = await asyncio.to_thread(server.until, lambda one: one.get("error"))
        assert nack["error"] == f"CDS {A} rejected: connect_timeout is -1s, must be above 0s"
        clusters = client.store.snapshot.clusters
        assert (clusters[A].connect_timeout_s, clusters[B].connect_timeout_s) == (10.0, 3.0)
        good = {**snapshot(A, B), CDS: [build.cluster(A, connect_timeout="4s"), build.cluster(B)]}
        await asyncio.to_thread(server.serve, "3", good)
        await reached(lambda: client.store.snapshot.clusters[A].connect_timeout_s == 4.0)
        assert client.store.snapshot.rejections == ()


@both
async def test_lost_stream_without_news_is_connected_again_and_hears_the_next(protocol: Protocol) -> None:
    path = built(SOURCE)
    with ControlPlane(path) as server:
        server.serve("1", snapshot(A))
        async with relayed(server.address, protocol) as (relay, client):
            await reached(lambda: holds(client, A))
            generation = client.store.snapshot.generation
            relay.cut()
            # State of the world: of clusters the server says nothing, since we name the version that it has.
            await reached(lambda: client.connects == 2 and client.connected)
            assert client.store.snapshot.generation == generation
            await asyncio.to_thread(server.serve, "2", snapshot(A, B))
            await reached(lambda: holds(client, A, B))
            # What changes while nobody is connected.
            relay.freeze()
            relay.cut()
            await asyncio.to_thread(server.serve, "3", snapshot(B))
            relay.thaw()
            await reached(lambda: holds(client, B))


@asynccontextmanager
async def relayed(address: str, protocol: Protocol) -> AsyncIterator[tuple[Relay, AdsClient]]:
    async with Relay(address) as relay, client_of(relay.address, protocol) as client:
        yield relay, client


@both
async def test_recorded_configuration_of_istio_comes_through(server: ControlPlane, protocol: Protocol) -> None:
    """Envoy's own message classes in another language read and write what istiod sent."""
    wanted = recorded("9-subsets", "anthos-gateway")
    routed = [name for name in wanted[CDS] if name.startswith("outbound_.")]
    resources: dict[str, Iterable[bytes]] = {
        CDS: wanted[CDS].values(),
        # With ADS this server waits until all assignments that it has are asked for.
        EDS: [payload for name, payload in wanted[EDS].items() if name in routed],
        LDS: wanted[LDS].values(),
    }
    server.serve("1", resources)
    async with client_of(server.address, protocol) as client:
        await reached(lambda: client.store.names(LDS) and set(routed) <= set(client.store.names(EDS)))
        reference = Store()
        for type_url in (CDS, EDS, LDS):
            reference.apply(type_url, "1", [build.packed(type_url, one) for one in resources[type_url]])
        found, expected = client.store.snapshot, reference.snapshot
        assert dict(found.clusters) == dict(expected.clusters)
        assert dict(found.listeners) == dict(expected.listeners)
        assert {name: found.assignments[name].columns for name in routed} == {
            name: expected.assignments[name].columns for name in routed
        }
