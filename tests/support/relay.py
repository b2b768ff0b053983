"""A TCP relay between a client and a server that a test can cut, freeze and corrupt. On the loop that made it."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

CHUNK = 1 << 16


class Relay:
    """Listens on a free port of loopback. ``flip``: part of the server's chunks in which one bit is flipped.

    ``heard`` is told what clients send.
    """

    def __init__(self, target: str, *, seed: int = 0, heard: Callable[[bytes], None] = bytes) -> None:
        host, _, port = target.rpartition(":")
        self.flip = 0.0
        self.flipped = 0
        self.accepted = 0
        self._heard = heard
        self._target = host, int(port)
        self._random = random.Random(seed)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.Task[None] | None] = set()

    async def __aenter__(self) -> "Relay":
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._flowing.set()
        while connections := [task for task in self._connections if task is not None and not task.done()]:
            self.cut()
            await asyncio.wait(connections, timeout=0.1)

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    def freeze(self) -> None:
        """Pass on nothing, but keep connections and the port open, as a stopped process does."""
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._connections.add(asyncio.current_task())
        try:
            upstream_reader, upstream = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, upstream}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, upstream, corrupt=False))
                group.create_task(self._pass(upstream_reader, writer, corrupt=True))
        finally:
            self._writers -= {writer, upstream}

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, corrupt: bool) -> None:
        with suppress(OSError):
            while data := await source.read(CHUNK):
                await self._flowing.wait()
                if not corrupt:
                    self._heard(data)
                if corrupt and self._random.random() < self.flip:
                    at = self._random.randrange(len(data))
                    data = data[:at] + bytes([data[at] ^ 1 << self._random.randrange(8)]) + data[at + 1 :]
                    self.flipped += 1
                sink.write(data)
                await sink.drain()
        sink.close()
