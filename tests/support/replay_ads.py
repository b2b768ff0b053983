"""An ADS server that serves recorded or hand-made resources with exact bytes, by istiod's rules for both variants.

What it does with a state-of-the-world request is what istiod does (reading of pilot/pkg/xds/ads.go, shouldRespond):

| request | reaction |
|---|---|
| first of a type on a stream, or with an empty nonce | subscribe, answer in full |
| EDS, RDS, SDS without names | unsubscribe, no answer |
| error_detail | recorded, nothing is sent again before the next push |
| nonce that is not the newest of the type | ignored |
| newest nonce, same or fewer names | ACK: names replaced, no answer |
| newest nonce, further names | names replaced, the answer holds the added names only |
| names on CDS and LDS | ignored |
| first CDS request on a stream where EDS is watched | the next EDS request is answered even if it looks like an ACK |

And with a Delta request (pilot/pkg/xds/delta.go, shouldRespondDelta):

| request | reaction |
|---|---|
| first of a type on a stream | subscribe, answer in full, and remove what initial_resource_versions has too much |
| error_detail | recorded, nothing is sent again before the next push |
| nonce that is not the newest of the type | ignored |
| newest nonce, no names | ACK |
| no nonce, names | names changed, the answer holds the added names only |
| newest nonce with names, or neither nonce nor names | a violation, as istiod logs it |
| a CDS request was answered | all watched EDS once more, unasked |

Runs by itself too and prints its address: python -m tests.support.replay_ads --stage 2-failover --role anthos-gateway
"""

import argparse
import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import betterproto2
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

from .recordings import CDS, EDS, LDS, RDS, SDS, Resources, recorded

# Order of the types within one push of istiod.
PUSH_ORDER = (CDS, EDS, LDS, RDS, SDS)
# Types that are asked for by name: a response holds what was asked for.
BY_NAME = frozenset((EDS, RDS, SDS))
SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
DEADLINE_S = 20.0

Result = TypeVar("Result")


@dataclass(slots=True)
class Watch:
    """What one stream asked for, of one type."""

    names: frozenset[str] = frozenset()
    nonce: str = ""
    sent_version: str = ""
    answered_nonce: str = ""
    """Newest nonce that was ACKed or NACKed."""
    acked_version: str = ""
    always_respond: bool = False
    held: set[str] = field(default_factory=set)
    """Delta: names that the client was sent and not told of their removal."""


@dataclass(frozen=True, slots=True)
class Nack:
    """A rejected response, as istiod would show it."""

    type_url: str
    version: str
    reason: str


@dataclass(slots=True)
class Stream:
    """One connected client. ``ending``: how to end the stream: None with status OK, else that status."""

    queue: "asyncio.Queue[bytes | None]" = field(default_factory=asyncio.Queue)
    watches: dict[str, Watch] = field(default_factory=dict)
    node: Node | None = None
    ending: grpc.StatusCode | None = None
    delta: bool = False


class ReplayAds:
    """The server. Owned by the event loop that called start()."""

    def __init__(
        self,
        resources: Resources,
        *,
        credentials: grpc.ServerCredentials | None = None,
        token: str = "",
        socket_path: str = "",
        max_age_ms: int = 0,
    ) -> None:
        self.resources = resources
        self.token = token
        """What `authorization` must say; empty to ask for nothing."""
        self.metadata: list[dict[str, str]] = []
        """Request metadata of every stream that there was, refused ones too."""
        self._credentials = credentials
        self._socket_path = socket_path
        self._max_age_ms = max_age_ms
        self.requests: list[DiscoveryRequest] = []
        self.delta_requests: list[DeltaDiscoveryRequest] = []
        self.violations: list[DeltaDiscoveryRequest] = []
        self.nacks: list[Nack] = []
        self.nodes: list[Node] = []
        """Node of every stream that there was, in order."""
        self.mute = False
        """Accept streams and record requests, but answer nothing."""
        self.port = 0
        self._streams: list[Stream] = []
        self._pushes = itertools.count(1)
        self._nonces = itertools.count(1)
        self._version = "v0"
        self._server: aio.Server | None = None
        self._changed = asyncio.Condition()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def connected(self) -> int:
        """Streams that are open now."""
        return len(self._streams)

    async def start(self, port: int = 0) -> None:
        """Listen on a port of loopback; 0 takes a free one the first time, and the same one again later."""
        # Without SO_REUSEPORT: a server that was stopped must leave connections refused, not spread.
        options = [("grpc.so_reuseport", 0)]
        if self._max_age_ms:
            # What MaxConnectionAge of istiod is: GOAWAY, then the grace time, then the connection is cut.
            options += [("grpc.max_connection_age_ms", self._max_age_ms), ("grpc.max_connection_age_grace_ms", 50)]
        self._server = aio.server(options=options)
        handlers = {
            "StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(self._serve),
            "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(self._serve_delta),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        where = f"127.0.0.1:{port or self.port}"
        if self._credentials is None:
            self.port = self._server.add_insecure_port(where)
        else:
            self.port = self._server.add_secure_port(where, self._credentials)
        if self._socket_path:
            self._server.add_insecure_port(f"unix:{self._socket_path}")
        await self._server.start()

    async def stop(self) -> None:
        """Close the port and every stream: new connections are refused, as while an istiod is gone."""
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    async def __aenter__(self) -> "ReplayAds":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        # A server that nobody stops ends in the garbage collector, which waits for its thread for ever.
        await self.stop()

    async def restart(self) -> None:
        """Another istiod behind the same address: it knows no nonce of the old one."""
        await self.stop()
        await self.start()

    async def push(self, what: Resources | str, role: str = "", *, types: Iterable[str] = PUSH_ORDER) -> None:
        """Serve these resources (or this recorded stage of `role`) from now on; send them to every stream.

        Returns when every stream has answered.
        """
        self.resources = recorded(what, role) if isinstance(what, str) else what
        self._send_to_all(dict.fromkeys(types))
        await self.wait_answered()

    async def push_some(self, type_url: str, resources: dict[str, bytes], *, wait: bool = True) -> None:
        """One push of one type, as recorded: a push by name holds these names only, CDS and LDS are complete.

        Returns when every stream has answered, unless told not to wait.
        """
        if type_url in BY_NAME:
            self.resources = {**self.resources, type_url: {**self.resources.get(type_url, {}), **resources}}
            self._send_to_all({type_url: frozenset(resources)})
        else:
            self.resources = {**self.resources, type_url: resources}
            self._send_to_all({type_url: None})
        if wait:
            await self.wait_answered()

    async def send_raw(self, response: bytes) -> None:
        """Put these bytes on every stream in the place of a DiscoveryResponse. Waits for nothing."""
        for stream in self._streams:
            stream.queue.put_nowait(response)

    async def drop_streams(self, status: grpc.StatusCode | None = None) -> None:
        """End every stream: with status OK, as at istiod's maximum connection age, or with an error."""
        for stream in list(self._streams):
            stream.ending = status
            stream.queue.put_nowait(None)

    async def wait_answered(self) -> None:
        """Until every stream that watches anything has answered (ACK or NACK) its newest response of every type."""

        def answered() -> bool:
            watches = [watch for stream in self._streams for watch in stream.watches.values()]
            return bool(watches) and all(watch.answered_nonce == watch.nonce for watch in watches)

        await self._wait(answered, "every response is answered")

    async def wait_acked(self, type_url: str, version: str = "") -> None:
        """Until every stream has acknowledged this version of the type; the newest one if empty."""

        def acked() -> bool:
            watches = [stream.watches.get(type_url) for stream in self._streams]
            return bool(watches) and all(one and one.acked_version == (version or one.sent_version) for one in watches)

        await self._wait(acked, f"{type_url} {version or '(newest)'} is acknowledged")

    async def wait_connected(self, streams: int = 1) -> None:
        """Until this many streams are open and have said who they are."""
        await self._wait(
            lambda: sum(stream.node is not None for stream in self._streams) == streams, f"{streams} streams are open"
        )

    async def wait_streams(self, count: int) -> None:
        """Until this many streams have said who they are since the server was made."""
        await self._wait(lambda: len(self.nodes) >= count, f"{count} streams have been opened")

    async def wait_nacks(self, count: int) -> None:
        """Until this many responses have been rejected since the server was made."""
        await self._wait(lambda: len(self.nacks) >= count, f"{count} responses are rejected")

    async def _wait(self, condition: Callable[[], bool], what: str) -> None:
        async with self._changed:
            try:
                async with asyncio.timeout(DEADLINE_S):
                    await self._changed.wait_for(condition)
            except TimeoutError:
                state = [{url.rpartition(".")[2]: watch for url, watch in one.watches.items()} for one in self._streams]
                raise AssertionError(f"not within {DEADLINE_S:g} s: {what}; streams: {state}") from None

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _serve(
        self, requests: AsyncIterator[bytes], context: "aio.ServicerContext[bytes, bytes]"
    ) -> AsyncIterator[bytes]:
        async for response in self._stream(requests, context, Stream()):
            yield response

    async def _serve_delta(
        self, requests: AsyncIterator[bytes], context: "aio.ServicerContext[bytes, bytes]"
    ) -> AsyncIterator[bytes]:
        async for response in self._stream(requests, context, Stream(delta=True)):
            yield response

    async def _stream(
        self, requests: AsyncIterator[bytes], context: "aio.ServicerContext[bytes, bytes]", stream: Stream
    ) -> AsyncIterator[bytes]:
        self.metadata.append({key: str(value) for key, value in context.invocation_metadata() or ()})
        if self.token and self.metadata[-1].get("authorization") != f"Bearer {self.token}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "authentication failure")
        self._streams.append(stream)
        reading = asyncio.ensure_future(self._read(requests, stream))
        try:
            while (response := await stream.queue.get()) is not None:
                yield response
            if stream.ending is not None:
                await context.abort(stream.ending, "ended by the test")
        finally:
            reading.cancel()
            self._streams.remove(stream)
            await self._notify()

    async def _read(self, requests: AsyncIterator[bytes], stream: Stream) -> None:
        async for data in requests:
            request: DiscoveryRequest | DeltaDiscoveryRequest
            if stream.delta:
                request = DeltaDiscoveryRequest.parse(data)
                self.delta_requests.append(request)
            else:
                request = DiscoveryRequest.parse(data)
                self.requests.append(request)
            if stream.node is None:
                stream.node = request.node or Node()
                self.nodes.append(stream.node)
            if self.mute:
                pass
            elif isinstance(request, DeltaDiscoveryRequest):
                self._answer_delta(stream, request)
            else:
                self._answer(stream, request)
            await self._notify()
        stream.queue.put_nowait(None)

    def _answer(self, stream: Stream, request: DiscoveryRequest) -> None:
        type_url, nonce = request.type_url, request.response_nonce
        names = frozenset(request.resource_names)
        if type_url in BY_NAME and not names:
            stream.watches.pop(type_url, None)
            return
        watch = stream.watches.get(type_url)
        if watch is None or not nonce:
            stream.watches[type_url] = Watch(names)
            if type_url == CDS and EDS in stream.watches:
                stream.watches[EDS].always_respond = True
            self._send(stream, type_url, names)
            return
        if request.error_detail:
            self.nacks.append(Nack(type_url, watch.sent_version, request.error_detail.message))
            watch.answered_nonce = nonce
            return
        if nonce != watch.nonce:
            return
        watch.answered_nonce, watch.acked_version = nonce, request.version_info
        added, watch.names = names - watch.names, names
        if watch.always_respond:
            watch.always_respond = False
            added = names
        if added and type_url in BY_NAME:
            self._send(stream, type_url, added)

    def _answer_delta(self, stream: Stream, request: DeltaDiscoveryRequest) -> None:
        type_url, nonce = request.type_url, request.response_nonce
        subscribe, unsubscribe = set(request.resource_names_subscribe), set(request.resource_names_unsubscribe)
        watch = stream.watches.get(type_url)
        if watch is None:
            initial = set(request.initial_resource_versions)
            watch = stream.watches[type_url] = Watch(frozenset(subscribe | initial), held=initial)
            self._send_delta(stream, type_url, watch.names)
            if type_url == CDS and EDS in stream.watches:
                self._send_delta(stream, EDS, stream.watches[EDS].names)
            return
        if request.error_detail:
            self.nacks.append(Nack(type_url, watch.sent_version, request.error_detail.message))
            watch.answered_nonce = nonce
            return
        if nonce and nonce != watch.nonce:
            return
        if bool(nonce) == bool(subscribe or unsubscribe):
            self.violations.append(request)
        if nonce:
            watch.answered_nonce, watch.acked_version = nonce, watch.sent_version
        added = frozenset(subscribe - watch.names)
        watch.names = (watch.names | subscribe) - unsubscribe
        watch.held -= unsubscribe
        if added and type_url in BY_NAME:
            self._send_delta(stream, type_url, added)

    def _send_delta(self, stream: Stream, type_url: str, names: frozenset[str]) -> None:
        watch, chosen = stream.watches[type_url], self.resources.get(type_url, {})
        removed: set[str] = set()
        if type_url == EDS:
            chosen = {name: chosen[name] if name in chosen else empty_assignment(name) for name in sorted(names)}
        elif type_url in BY_NAME:
            # istiod reports a name that does not exist as removed.
            chosen, removed = self._named(type_url, names), set(names) - set(chosen)
        else:
            removed = watch.held - set(chosen)
        watch.held = (watch.held | set(chosen)) - removed
        watch.nonce, watch.sent_version = f"{self._version}-nonce-{next(self._nonces)}", self._version
        response = DeltaDiscoveryResponse(
            system_version_info=self._version,
            resources=[
                Resource(name=name, version=self._version, resource=PackedAny(type_url=type_url, value=payload))
                for name, payload in chosen.items()
            ],
            removed_resources=sorted(removed),
            type_url=type_url,
            nonce=watch.nonce,
        )
        stream.queue.put_nowait(bytes(response))

    def _named(self, type_url: str, names: Iterable[str]) -> dict[str, bytes]:
        """Those of the names that there are."""
        served = self.resources.get(type_url, {})
        return {name: served[name] for name in sorted(names) if name in served}

    def _send_to_all(self, wanted: dict[str, frozenset[str] | None]) -> None:
        """Types and, for a partial push, the names in it. One push has one version for all types."""
        self._version = f"v{next(self._pushes)}"
        for stream in self._streams:
            for type_url, only in wanted.items():
                watch = stream.watches.get(type_url)
                if watch is None:
                    continue
                names = watch.names if only is None else watch.names & only
                if stream.delta and (names or type_url not in BY_NAME):
                    self._send_delta(stream, type_url, names)
                elif names or type_url not in BY_NAME:
                    self._send(stream, type_url, names)

    def _send(self, stream: Stream, type_url: str, names: frozenset[str]) -> None:
        chosen = self.resources.get(type_url, {})
        if type_url == EDS:
            # istiod answers for a service that it does not know with an assignment without endpoints.
            chosen = {name: chosen[name] if name in chosen else empty_assignment(name) for name in sorted(names)}
        elif type_url in BY_NAME:
            chosen = self._named(type_url, names)
        watch = stream.watches[type_url]
        watch.nonce, watch.sent_version = f"{self._version}-nonce-{next(self._nonces)}", self._version
        response = DiscoveryResponse(
            version_info=self._version,
            resources=[PackedAny(type_url=type_url, value=payload) for payload in chosen.values()],
            type_url=type_url,
            nonce=watch.nonce,
        )
        stream.queue.put_nowait(bytes(response))


def empty_assignment(name: str) -> bytes:
    """A ClusterLoadAssignment that holds its name and nothing else."""
    return b"\x0a" + betterproto2.encode_varint(len(name.encode())) + name.encode()


class ReplayThread:
    """A ReplayAds on a thread and a loop of its own, for tests that block: the same methods, without await."""

    def __init__(self, resources: Resources, *, port: int = 0, socket_path: str = "") -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True, name="replay-ads")
        self._thread.start()
        self.server = self._call(self._make(resources, socket_path))
        self._call(self.server.start(port))

    def __enter__(self) -> "ReplayThread":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        return self.server.address

    @property
    def nacks(self) -> list[Nack]:
        return list(self.server.nacks)

    @property
    def resources(self) -> Resources:
        return self.server.resources

    def push(self, what: Resources | str, role: str = "", *, types: Iterable[str] = PUSH_ORDER) -> None:
        self._call(self.server.push(what, role, types=types))

    def push_some(self, type_url: str, resources: dict[str, bytes], *, wait: bool = True) -> None:
        self._call(self.server.push_some(type_url, resources, wait=wait))

    def send_raw(self, response: bytes) -> None:
        self._call(self.server.send_raw(response))

    def drop_streams(self, status: grpc.StatusCode | None = None) -> None:
        self._call(self.server.drop_streams(status))

    def stop(self) -> None:
        self._call(self.server.stop())

    def start(self) -> None:
        self._call(self.server.start())

    def restart(self) -> None:
        self._call(self.server.restart())

    def wait_answered(self) -> None:
        self._call(self.server.wait_answered())

    def wait_acked(self, type_url: str, version: str = "") -> None:
        self._call(self.server.wait_acked(type_url, version))

    def wait_connected(self, streams: int = 1) -> None:
        self._call(self.server.wait_connected(streams))

    def wait_nacks(self, count: int) -> None:
        self._call(self.server.wait_nacks(count))

    def close(self) -> None:
        if self._thread.is_alive():
            self._call(self.server.stop())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)

    @staticmethod
    async def _make(resources: Resources, socket_path: str) -> ReplayAds:
        return ReplayAds(resources, socket_path=socket_path)

    def _call(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE_S + 10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", required=True, help="recorded stage, for example 2-failover")
    parser.add_argument("--role", required=True, help="recorded node, for example anthos-gateway")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()

    async def serve() -> None:
        server = ReplayAds(recorded(options.stage, options.role))
        await server.start(options.port)
        print(server.address, flush=True)
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
