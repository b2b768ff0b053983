"""Endpoints that answer gRPC health checks as a test tells them to."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from grpc import aio

SERVING, NOT_SERVING, SERVICE_UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"


@dataclass
class GrpcHealth:
    """A real gRPC server, its answer, and what it was asked."""

    answer: bytes | grpc.StatusCode | None = SERVING
    """Bytes of the answer, or the status of a refusal; None: no answer at all."""
    requests: list[bytes] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)
    port: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    _server: aio.Server | None = None

    async def start(self) -> None:
        """Listen, on the port of before where there was one."""
        server = aio.server(options=[("grpc.so_reuseport", 0)])
        handler = grpc.unary_unary_rpc_method_handler(self._check)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),)
        )
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """End with GOAWAY; whoever waits for an answer gets none."""
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    async def _check(self, request: bytes, context: aio.ServicerContext) -> bytes:
        self.requests.append(request)
        self.asked.set()
        self.metadata.append(dict(context.invocation_metadata() or ()))
        self.peers.append(context.peer())
        answer = self.answer
        if answer is None:
            await asyncio.sleep(60)
        if not isinstance(answer, bytes):
            await context.abort(answer or grpc.StatusCode.UNKNOWN, "as told")
        return answer


class GrpcHealthThread:
    """Such servers on a loop of their own, beside whatever the test does."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._servers: list[GrpcHealth] = []

    def start(self, server: GrpcHealth | None = None) -> GrpcHealth:
        """Start a new one, or one that was stopped."""
        started = server or GrpcHealth()
        asyncio.run_coroutine_threadsafe(started.start(), self._loop).result(10)
        if started not in self._servers:
            self._servers.append(started)
        return started

    def stop(self, server: GrpcHealth) -> None:
        asyncio.run_coroutine_threadsafe(server.stop(), self._loop).result(10)

    def close(self) -> None:
        for server in self._servers:
            self.stop(server)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def grpc_health() -> Iterator[GrpcHealthThread]:
    """Servers while the block runs."""
    made = GrpcHealthThread()
    try:
        yield made
    finally:
        made.close()
