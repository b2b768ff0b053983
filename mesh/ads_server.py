"""The ADS server of an embedded control plane: gRPC around ads_stream.py. Knows nothing of meshes.

One event loop. A change is pushed to every stream after a quiet time, as istiod does.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from envoy_data_plane.envoy.config.core.v3 import Node
from envoy_data_plane.envoy.service.discovery.v3 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
    Resource,
)
from envoy_data_plane.google.protobuf import Any as PackedAny
from grpc import aio

from .ads_stream import Response, Stream
from .node_view import NodeRefusedError

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
STOP_S = 0.5
# A client that has acknowledged clusters asks for their endpoints next: everything must be calm for some checks.
CHECK_S = 0.02
CALM_CHECKS = 4
# As istiod: clients ping each 30 s. gRPC itself would end their connection for pinging more than once in 5 minutes.
MIN_PING_INTERVAL_S = 15.0
OPTIONS = (
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
)


class Source(Protocol):
    """Where resources come from."""

    def resources(self, node: Any) -> Mapping[str, Mapping[str, bytes]]:
        """Type URL -> name -> bytes for this Node. Raises NodeRefusedError."""


@dataclass(frozen=True, slots=True)
class TypeStatus:
    """One type on one stream, as istiod's /debug/syncz has it. ``error``: text of a NACK that is the last word."""

    node_id: str
    type_url: str
    state: str
    sent_version: str
    acked_version: str
    error: str


class _Client:
    """A connected client: its node, its stream, and what waits to be sent."""

    def __init__(self, *, delta: bool) -> None:
        self.stream = Stream(delta=delta)
        self.node: Node | None = None
        self.queue: asyncio.Queue[bytes | NodeRefusedError | None] = asyncio.Queue()
        self.generation = -1
        self.resources: Mapping[str, Mapping[str, bytes]] = {}

    def send(self, responses: list[Response]) -> None:
        for one in responses:
            self.queue.put_nowait(_delta_bytes(one) if self.stream.delta else _sotw_bytes(one))


def _sotw_bytes(response: Response) -> bytes:
    url = response.type_url
    return bytes(
        DiscoveryResponse(
            version_info=response.version,
            type_url=url,
            nonce=response.nonce,
            resources=[PackedAny(type_url=url, value=data) for data in response.resources.values()],
        )
    )


def _delta_bytes(response: Response) -> bytes:
    url = response.type_url
    return bytes(
        DeltaDiscoveryResponse(
            system_version_info=response.version,
            type_url=url,
            nonce=response.nonce,
            resources=[
                Resource(name=name, version=response.version, resource=PackedAny(type_url=url, value=data))
                for name, data in response.resources.items()
            ],
            removed_resources=list(response.removed),
        )
    )


def why_not(address: str) -> str:
    """Why one cannot listen on HOST:PORT; gRPC knows, and does not say."""
    host, _, port = address.rpartition(":")
    try:
        for family, kind, _, _, where in socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM):
            with socket.socket(family, kind) as probe:
                probe.bind(where)
                probe.listen()
    except OSError as error:
        return error.strerror or str(error)
    return "gRPC cannot listen there"


class AdsServer:
    """Serves one source to any number of clients, state-of-the-world and Delta.

    ``services``: what else is served on the same address; ``credentials``: for TLS, None: without.
    """

    def __init__(
        self,
        source: Source,
        *,
        debounce_s: float = 0.1,
        debounce_max_s: float = 10.0,
        min_ping_interval_s: float = MIN_PING_INTERVAL_S,
        services: Sequence[grpc.GenericRpcHandler] = (),
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        self._source = source
        self._services, self._credentials = services, credentials
        # The name is gRPC core's own for what its C++ calls MIN_RECV_PING_INTERVAL_WITHOUT_DATA.
        pings = ("grpc.http2.min_ping_interval_without_data_ms", int(min_ping_interval_s * 1000))
        self._options = (*OPTIONS, pings)
        self._debounce_s, self._debounce_max_s = debounce_s, debounce_max_s
        self._server: aio.Server | None = None
        self._clients: set[_Client] = set()
        self._pushes = 0
        self._generation = 0
        self._pushing = False
        self._changed = asyncio.Event()
        self._pusher: asyncio.Task[None] | None = None

    async def start(self, address: str = "127.0.0.1:0") -> int:
        """Listen, and answer the port. Raises OSError when the address cannot be had."""
        server = aio.server(options=self._options)
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    SERVICE,
                    {
                        "StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(self._sotw),
                        "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(self._delta),
                    },
                ),
                *self._services,
            )
        )
        try:
            if self._credentials is None:
                port: int = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, self._credentials)
        except RuntimeError:
            raise OSError(await asyncio.to_thread(why_not, address)) from None
        await server.start()
        self._server = server
        self._pusher = asyncio.ensure_future(self._push_when_changed())
        return port

    def changed(self) -> None:
        """The source answers differently from now on."""
        self._generation += 1
        self._changed.set()

    async def stop(self) -> None:
        """End all streams, and stop listening."""
        if self._pusher is not None:
            self._pusher.cancel()
        for client in self._clients:
            client.queue.put_nowait(None)
        if self._server is not None:
            await self._server.stop(STOP_S)

    async def settled(self, timeout_s: float) -> None:
        """Wait until every client has acknowledged what is current. Raises TimeoutError that names who has not."""
        loop = asyncio.get_running_loop()
        deadline, calm = loop.time() + timeout_s, 0
        while calm < CALM_CHECKS:
            await asyncio.sleep(CHECK_S)
            open_types = [one for one in self.status() if one.state != "SYNCED"]
            calm = 0 if open_types or self._changed.is_set() or self._pushing else calm + 1
            if loop.time() > deadline:
                what = ", ".join(
                    f"{one.node_id} {one.type_url.rpartition('.')[2]} {one.state} {one.error}" for one in open_types
                )
                raise TimeoutError(f"not acknowledged within {timeout_s:g} s: {what}")

    def status(self) -> list[TypeStatus]:
        """Every watched type of every connected client."""
        return [
            TypeStatus(
                client.node.id if client.node else "",
                type_url,
                watch.state,
                watch.version,
                watch.acked_version,
                watch.rejected,
            )
            for client in self._clients
            for type_url, watch in client.stream.watches.items()
        ]

    async def _push_when_changed(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._pushing = False
            await self._changed.wait()
            self._pushing = True
            latest = loop.time() + self._debounce_max_s
            while self._changed.is_set() and loop.time() < latest:
                self._changed.clear()
                await asyncio.sleep(self._debounce_s)
            self._changed.clear()
            self._pushes += 1
            for client in list(self._clients):
                if client.node is None:
                    continue
                try:
                    resources = self._resources(client, client.node)
                except NodeRefusedError as error:
                    # Its cluster has left the mesh.
                    client.queue.put_nowait(error)
                    continue
                client.send(client.stream.on_push(resources, self._version))
                await asyncio.sleep(0)

    @property
    def _version(self) -> str:
        return f"v{self._pushes}"

    # grpc looks at the function itself to see that it is an asynchronous generator.
    async def _sotw(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for message in self._serve(requests, context, delta=False):
            yield message

    async def _delta(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for message in self._serve(requests, context, delta=True):
            yield message

    async def _serve(self, requests: AsyncIterator[bytes], context: Any, *, delta: bool) -> AsyncIterator[bytes]:
        client = _Client(delta=delta)
        self._clients.add(client)
        reading = asyncio.ensure_future(self._read(requests, client))
        try:
            while (item := await client.queue.get()) is not None:
                if isinstance(item, NodeRefusedError):
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(item))
                else:
                    yield item
        finally:
            reading.cancel()
            self._clients.discard(client)

    async def _read(self, requests: AsyncIterator[bytes], client: _Client) -> None:
        """Requests to responses. Whatever ends it ends the stream."""
        try:
            async for data in requests:
                self._on_delta_message(client, data) if client.stream.delta else self._on_message(client, data)
        except NodeRefusedError as error:
            client.queue.put_nowait(error)
        except (ValueError, TypeError, KeyError, IndexError, EOFError) as error:
            client.queue.put_nowait(NodeRefusedError(f"request cannot be read: {error}"))
        client.queue.put_nowait(None)

    def _resources(self, client: _Client, node: Node | None) -> Mapping[str, Mapping[str, bytes]]:
        """What the client is to have now; asked of the source once per change."""
        if client.node is None:
            if node is None or not node.id:
                raise NodeRefusedError("missing node information: the first request must hold the node")
            client.node = node
        if client.generation != self._generation:
            client.resources = self._source.resources(client.node)
            client.generation = self._generation
        return client.resources

    def _on_message(self, client: _Client, data: bytes) -> None:
        request = DiscoveryRequest.parse(data)
        resources = self._resources(client, request.node)
        error = request.error_detail.message or "rejected" if request.error_detail else ""
        client.send(
            client.stream.on_request(
                request.type_url,
                request.resource_names,
                request.response_nonce,
                resources,
                self._version,
                error=error,
            )
        )

    def _on_delta_message(self, client: _Client, data: bytes) -> None:
        request = DeltaDiscoveryRequest.parse(data)
        resources = self._resources(client, request.node)
        error = request.error_detail.message or "rejected" if request.error_detail else ""
        client.send(
            client.stream.on_delta_request(
                request.type_url,
                request.resource_names_subscribe,
                request.resource_names_unsubscribe,
                request.response_nonce,
                resources,
                self._version,
                held=request.initial_resource_versions,
                error=error,
            )
        )
