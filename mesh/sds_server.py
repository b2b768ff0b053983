"""An SDS server on a Unix socket, in the place of pilot-agent's: whoever may open the socket is the workload.

State of the world only, as pilot-agent's. A certificate is replaced at half of its life, and pushed unasked.
"""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest, DiscoveryResponse
from envoy_data_plane.google.protobuf import Any as PackedAny
from grpc import aio

from .ca import LIFETIME, WorkloadCertificate
from .secrets import SDS, secrets_of

SERVICE = "envoy.service.secret.v3.SecretDiscoveryService"
STOP_S = 0.5
LONGEST_PATH = 107
"""Bytes of a Unix socket's path, as the kernel has it."""
OWNER_ONLY = 0o177
"""umask: nobody else may open the socket."""


class SdsServer:
    """Serves the secrets of one workload. ``issue`` makes its certificate; ``lifetime``: how long that is good for."""

    def __init__(self, issue: Callable[[], WorkloadCertificate], *, lifetime: timedelta = LIFETIME) -> None:
        self._issue = issue
        self._half_life_s = lifetime.total_seconds() / 2
        self._certificate = issue()
        self._generation = 0
        self._rotated = asyncio.Condition()
        self._server: aio.Server | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def start(self, path: Path) -> None:
        """Listen on a socket that only this user may open. Raises OSError when it cannot be had."""
        if len(bytes(path)) > LONGEST_PATH:
            reason = f"the path of a socket has {LONGEST_PATH} bytes at most"
            raise OSError(errno.ENAMETOOLONG, reason, str(path))
        server = aio.server()
        stream = grpc.stream_stream_rpc_method_handler(self._stream)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"StreamSecrets": stream}),))
        before = os.umask(OWNER_ONLY)
        try:
            server.add_insecure_port(f"unix:{path}")
        except RuntimeError:
            raise OSError(errno.EADDRNOTAVAIL, "no socket can be made there", str(path)) from None
        finally:
            os.umask(before)
        await server.start()
        self._server = server
        self._renewing = asyncio.ensure_future(self._renew())

    async def rotate(self) -> None:
        """A new certificate, for everybody who has the old one."""
        self._certificate = self._issue()
        async with self._rotated:
            self._generation += 1
            self._rotated.notify_all()

    async def stop(self) -> None:
        """End all streams, and stop listening."""
        if self._renewing is not None:
            self._renewing.cancel()
        if self._server is not None:
            await self._server.stop(STOP_S)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._half_life_s)
            await self.rotate()

    # grpc looks at the function itself to see that it is an asynchronous generator.
    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """Answers to the names that are asked for, and again after each rotation."""
        wanted: asyncio.Queue[tuple[str, ...] | None] = asyncio.Queue()
        reading = asyncio.ensure_future(self._read(requests, wanted))
        rotation = asyncio.ensure_future(self._next_generation(self._generation))
        names: tuple[str, ...] = ()
        asked: asyncio.Future[tuple[str, ...] | None] = asyncio.ensure_future(wanted.get())
        try:
            while True:
                await asyncio.wait((asked, rotation), return_when=asyncio.FIRST_COMPLETED)
                if asked.done():
                    new = asked.result()
                    if new is None:
                        return
                    asked = asyncio.ensure_future(wanted.get())
                    # The same names again are an acknowledgement.
                    if new == names and not rotation.done():
                        continue
                    names = new
                if rotation.done():
                    rotation = asyncio.ensure_future(self._next_generation(self._generation))
                if names:
                    yield self._response(names)
        except LookupError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error.args[0]))
        finally:
            for task in (reading, rotation, asked):
                task.cancel()

    async def _read(self, requests: AsyncIterator[bytes], wanted: "asyncio.Queue[tuple[str, ...] | None]") -> None:
        try:
            async for data in requests:
                wanted.put_nowait(tuple(sorted(DiscoveryRequest.parse(data).resource_names)))
        except (ValueError, TypeError, KeyError, IndexError, EOFError):
            # What cannot be read ends the stream, as any server's.
            pass
        wanted.put_nowait(None)

    async def _next_generation(self, after: int) -> None:
        async with self._rotated:
            await self._rotated.wait_for(lambda: self._generation > after)

    def _response(self, names: tuple[str, ...]) -> bytes:
        found = secrets_of(self._certificate, names)
        version = f"s{self._generation}"
        return bytes(
            DiscoveryResponse(
                version_info=version,
                nonce=version,
                type_url=SDS,
                resources=[PackedAny(type_url=SDS, value=raw) for raw in found.values()],
            )
        )
