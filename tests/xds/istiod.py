"""An ADS server whose both ends are in the test's hands, and builders of what it sends. On a free port of loopback."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from eastgate.xds.decode import CDS, EDS, LDS
from eastgate.xds.message import encode, read
from eastgate.xds.node import NodeIdentity
from eastgate.xds.subscription import SotwSubscriptions
from grpc import aio

from ..support.encoded import field, varint

REQUEST = "envoy.service.discovery.v3.DiscoveryRequest"
RESPONSE = "envoy.service.discovery.v3.DiscoveryResponse"
TIMEOUT_S = 10.0


def router() -> NodeIdentity:
    return NodeIdentity(
        type="router",
        ips=("10.0.0.7",),
        pod_name="gateway-a",
        namespace="gateway",
        network="n1",
        network_view=("n1",),
        labels={"istio": "eastwestgateway"},
    )


def packed(type_url: str, payload: bytes) -> bytes:
    return encode("google.protobuf.Any", {"type_url": type_url, "value": payload})


def response(type_url: str, version: str, nonce: str, payloads: Iterable[bytes]) -> bytes:
    return encode(
        RESPONSE,
        {
            "version_info": version,
            "resources": [packed(type_url, payload) for payload in payloads],
            "type_url": type_url,
            "nonce": nonce,
        },
    )


def cluster(name: str, **fields: Any) -> bytes:
    value = {"name": name, "type": "EDS", "eds_cluster_config": {"service_name": name}, "connect_timeout": "10s"}
    return encode("envoy.config.cluster.v3.Cluster", {**value, **fields})


def tcp_proxy(target: str, **fields: Any) -> dict[str, Any]:
    url = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
    config = {"@type": url, "stat_prefix": target, "cluster": target, **fields}
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": config}


def chain(target: str, **fields: Any) -> bytes:
    value = {
        "filter_chain_match": {"server_names": [target], "application_protocols": ["istio"]},
        "filters": [tcp_proxy(target)],
    }
    return encode("envoy.config.listener.v3.FilterChain", {**value, **fields})


def listener(name: str, chains: Iterable[bytes], **fields: Any) -> bytes:
    value = {
        "name": name,
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": 15443}},
        "filter_chains": list(chains),
    }
    return encode("envoy.config.listener.v3.Listener", {**value, **fields})


def number_field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def socket_address(address: str, port: int) -> bytes:
    return field(1, field(2, address.encode()) + number_field(3, port))


def endpoint(address: str, port: int = 8080, *, weight: int = 1, health: int = 1, tls_mode: str = "") -> bytes:
    """An LbEndpoint."""
    metadata = b""
    if tls_mode:
        mode = field(1, field(1, b"tlsMode") + field(2, field(3, tls_mode.encode())))
        metadata = field(3, field(1, field(1, b"envoy.transport_socket_match") + field(2, mode)))
    host = field(1, field(1, socket_address(address, port)))
    return host + number_field(2, health) + metadata + field(4, number_field(1, weight))


def locality_endpoints(
    region: str, endpoints: Iterable[bytes], *, priority: int = 0, weight: int | None = None
) -> bytes:
    """A LocalityLbEndpoints; no locality where the region is empty."""
    written = field(1, field(1, region.encode())) if region else b""
    written += b"".join(field(2, one) for one in endpoints)
    written += b"" if weight is None else field(3, number_field(1, weight))
    return written + (number_field(5, priority) if priority else b"")


def assignment(name: str, localities: Iterable[bytes], policy: bytes = b"") -> bytes:
    """A ClusterLoadAssignment."""
    return (
        field(1, name.encode()) + b"".join(field(2, one) for one in localities) + (field(4, policy) if policy else b"")
    )


class Stream:
    """One ADS stream as the server sees it: requests as dicts, responses as bytes."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.responses: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def request(self) -> dict[str, Any]:
        async with asyncio.timeout(TIMEOUT_S):
            return await self.requests.get()

    def send(self, type_url: str, version: str, nonce: str, payloads: Iterable[bytes]) -> None:
        self.responses.put_nowait(response(type_url, version, nonce, payloads))

    def end(self) -> None:
        self.responses.put_nowait(None)

    def no_request(self) -> bool:
        return self.requests.empty()


class Istiod:
    """Use as a context manager: `async with Istiod() as istiod`, then `stream = await istiod.stream()`."""

    def __init__(self) -> None:
        self.streams: asyncio.Queue[Stream] = asyncio.Queue()
        self.metadata: list[tuple[str, str]] = []

    async def __aenter__(self) -> "Istiod":
        self._server = aio.server()
        service, name = SotwSubscriptions.method.strip("/").split("/")
        handler = grpc.stream_stream_rpc_method_handler(self._serve)
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {name: handler})])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)

    async def stream(self) -> Stream:
        async with asyncio.timeout(TIMEOUT_S):
            return await self.streams.get()

    async def _serve(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        stream = Stream()
        self.metadata = list(context.invocation_metadata())
        self.streams.put_nowait(stream)

        async def receive() -> None:
            async for request in requests:
                stream.requests.put_nowait(read(REQUEST, request))

        async with asyncio.TaskGroup() as group:
            receiver = group.create_task(receive())
            while (payload := await stream.responses.get()) is not None:
                yield payload
            receiver.cancel()


__all__ = ["CDS", "EDS", "LDS", "Istiod", "Stream"]
