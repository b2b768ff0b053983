"""The server over real gRPC: eastgate's own client, raw Delta requests, and nodes that it refuses."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from eastgate.mesh.ads_server import MIN_PING_INTERVAL_S, SERVICE, AdsServer
from eastgate.mesh.messages import CDS, EDS
from eastgate.mesh.node_view import NodeRefusedError
from eastgate.xds.ads import AdsClient
from eastgate.xds.channel import KEEPALIVE_TIME_S
from eastgate.xds.node import NodeIdentity
from eastgate.xds.resources import Snapshot
from eastgate.xds.store import Store
from envoy_data_plane.envoy.config.core.v3 import Node
from envoy_data_plane.envoy.service.discovery.v3 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from grpc import aio

from ..support.messages import At, resources, sni
from ..support.relay import Relay

TIMEOUT_S = 20.0


class Fixed:
    """A source that a test changes."""

    def __init__(self, found: Mapping[str, Mapping[str, bytes]]) -> None:
        self.found = found
        self.asked: list[str] = []

    def resources(self, node: Any) -> Mapping[str, Mapping[str, bytes]]:
        if node.id == "stranger":
            raise NodeRefusedError("node 'stranger' is not of the form type~address~pod.namespace~domain")
        self.asked.append(node.id)
        return self.found


def services(port: int) -> Mapping[str, Mapping[str, bytes]]:
    return resources({sni("a"): [At(("127.0.0.1", port))]})


@asynccontextmanager
async def serving(source: Fixed) -> AsyncIterator[tuple[AdsServer, str]]:
    server = AdsServer(source, debounce_s=0.01)
    port = await server.start()
    try:
        yield server, f"127.0.0.1:{port}"
    finally:
        await server.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.01)


async def exchange(address: str, method: str, *requests: object, answers: int) -> list[bytes]:
    async with aio.insecure_channel(address) as channel:
        call = channel.stream_stream(f"/{SERVICE}/{method}")()
        found = []
        async with asyncio.timeout(TIMEOUT_S):
            for request in requests:
                await call.write(bytes(request))  # type: ignore[call-overload]
            for _ in range(answers):
                data = await call.read()
                if data is aio.EOF:
                    break
                found.append(data)
        if not answers or len(found) < answers:
            raise AssertionError(await call.code(), await call.details())
        return found


async def test_a_client_gets_changes_and_the_server_knows_that_it_has_them() -> None:
    source = Fixed(services(1000))
    seen: list[Snapshot] = []
    async with serving(source) as (server, address):
        node = NodeIdentity(type="router", ips=("127.0.0.1",), pod_name="g", namespace="n")
        client = AdsClient([address], node, Store(), on_snapshot=seen.append)
        running = asyncio.ensure_future(client.run())
        try:
            await until(lambda: bool(seen and seen[-1].listeners and seen[-1].assignments))
            source.found = services(2000)
            server.changed()
            await server.settled(TIMEOUT_S)
            port = memoryview(seen[-1].assignments[sni("a")].columns.port).cast("H")[0]
            assert port == 2000
            assert {one.state for one in server.status()} == {"SYNCED"}
            # Once for the stream and once for the push, however many requests came.
            assert len(source.asked) == 2
        finally:
            await client.close()
            await running


async def test_delta_over_the_wire() -> None:
    async with serving(Fixed(services(1000))) as (_, address):
        node = Node(id="router~127.0.0.1~g.n~n.svc.cluster.local")
        first = DeltaDiscoveryRequest(node=node, type_url=CDS, resource_names_subscribe=["*"])
        second = DeltaDiscoveryRequest(type_url=EDS, resource_names_subscribe=[sni("a"), "unknown"])
        data = await exchange(address, "DeltaAggregatedResources", first, second, answers=2)
        clusters, endpoints = [DeltaDiscoveryResponse.parse(one) for one in data]
        assert [one.name for one in clusters.resources] == [sni("a")]
        assert {one.name for one in endpoints.resources} == {sni("a"), "unknown"}
        assert clusters.nonce != endpoints.nonce


async def test_state_of_the_world_over_the_wire() -> None:
    async with serving(Fixed(services(1000))) as (_, address):
        request = DiscoveryRequest(node=Node(id="router~127.0.0.1~g.n~n.svc.cluster.local"), type_url=CDS)
        (data,) = await exchange(address, "StreamAggregatedResources", request, answers=1)
        response = DiscoveryResponse.parse(data)
        assert (response.type_url, len(response.resources)) == (CDS, 1)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (DiscoveryRequest(type_url=CDS), "missing node information"),
        (DiscoveryRequest(type_url=CDS, node=Node(id="stranger")), "not of the form"),
        (b"\x22\x02\xff\xfe", "cannot be read"),
    ],
)
async def test_a_node_that_cannot_be_served_is_told_why(request_: object, said: str) -> None:
    async with serving(Fixed(services(1000))) as (server, address):
        with pytest.raises((aio.AioRpcError, AssertionError)) as caught:
            await exchange(address, "StreamAggregatedResources", request_, answers=1)
        assert "INVALID_ARGUMENT" in str(caught.value)
        assert said in str(caught.value)
        await until(lambda: not server.status())


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("", "Address already in use"),
        ("192.0.2.1:0", "Cannot assign requested address"),
        ("host.invalid:0", "not known|resolution"),
    ],
)
async def test_an_address_that_cannot_be_had_is_an_error_with_its_cause(address: str, cause: str) -> None:
    async with serving(Fixed({})) as (_, taken):
        second = AdsServer(Fixed({}))
        with pytest.raises(OSError, match=cause):
            await second.start(address or taken)


class Pings:
    """Counts the PING frames in what an HTTP/2 client sends."""

    PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    HEAD = 9
    PING, ACK = 6, 1

    def __init__(self) -> None:
        self.count = 0
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        self._data += data
        if self._data.startswith(self.PREFACE):
            del self._data[: len(self.PREFACE)]
        while len(self._data) >= self.HEAD:
            end = self.HEAD + int.from_bytes(self._data[:3], "big")
            if len(self._data) < end:
                return
            self.count += self._data[3] == self.PING and not self._data[4] & self.ACK
            del self._data[:end]


async def test_a_quiet_client_may_ping_as_often_as_istiod_lets_it() -> None:
    """The times of both sides divided by 150 and more: a ping each 200 ms, where one each 100 ms is allowed."""
    server = AdsServer(Fixed(services(1000)), min_ping_interval_s=0.1)
    pings = Pings()
    async with Relay(f"127.0.0.1:{await server.start()}", heard=pings.add) as relay:
        options = (("grpc.keepalive_time_ms", 200), ("grpc.http2.max_pings_without_data", 0))
        async with aio.insecure_channel(relay.address, options=options) as channel:
            call = channel.stream_stream(f"/{SERVICE}/StreamAggregatedResources")()
            await call.write(bytes(DiscoveryRequest(node=Node(id="router~127.0.0.1~g.n~d"), type_url=CDS)))
            await call.read()
            # gRPC ends a connection at the third ping that comes too early.
            await until(lambda: pings.count >= 6 or call.done())
            await call.write(bytes(DiscoveryRequest(type_url=EDS, resource_names=["x"])))
            assert DiscoveryResponse.parse(await call.read()).type_url == EDS
            call.cancel()
        await server.stop()
    assert relay.accepted == 1


def test_the_shortest_time_between_pings_is_below_that_of_clients() -> None:
    assert MIN_PING_INTERVAL_S < KEEPALIVE_TIME_S


async def test_who_does_not_acknowledge_is_named() -> None:
    async with serving(Fixed(services(1000))) as (server, address), aio.insecure_channel(address) as channel:
        call = channel.stream_stream(f"/{SERVICE}/StreamAggregatedResources")()
        await call.write(bytes(DiscoveryRequest(node=Node(id="router~127.0.0.1~g.n~d"), type_url=CDS)))
        await call.read()
        with pytest.raises(TimeoutError, match=r"router~127\.0\.0\.1~g\.n~d .*Cluster STALE"):
            await server.settled(0.1)
        call.cancel()
