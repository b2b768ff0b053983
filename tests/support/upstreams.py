"""Endpoints by name on loopback: each connection is told which endpoint it reached. HTTP requests are answered too."""

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from .free_ports import free_port

Result = TypeVar("Result")
TIMEOUT_S = 10.0


class Upstreams:
    """Endpoints on a thread with a loop of its own. A connection is answered its endpoint's name after a first line.

    A line ``GET path HTTP/1.1`` is answered with the status that ``statuses`` has for the endpoint (200 unless set) and
    noted in ``requests`` with its headers; with ``naming`` the body is the endpoint's name, and the connection ends.
    ``peers`` has the address that each connection came from, beside the endpoint's name. Nothing is said to a client
    that says nothing.
    """

    def __init__(self, *, naming: bool = False) -> None:
        self._naming = naming
        self.accepted: Counter[str] = Counter()
        self.requests: list[tuple[str, str]] = []
        self.peers: list[tuple[str, str]] = []
        self.statuses: dict[str, int] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._servers: dict[str, asyncio.Server] = {}
        self._open: dict[str, set[asyncio.StreamWriter]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for name in list(self._servers):
            self.stop(name)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT_S)
        self._loop.close()

    def start(self, name: str, host: str = "127.0.0.1", port: int = 0) -> tuple[str, int]:
        """Listen, and return where. A host with a slash is the path of a Unix socket."""

        async def listen() -> asyncio.Server:
            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await self._serve(name, reader, writer)

            if "/" in host:
                return await asyncio.start_unix_server(serve, host)
            # Of those that no client gets by chance: while an endpoint is stopped, nobody else takes its port.
            return await asyncio.start_server(serve, host, port or free_port())

        self._servers[name] = self._call(listen())
        bound = self._servers[name].sockets[0].getsockname()
        return (host, 0) if isinstance(bound, str) else (bound[0], bound[1])

    def stop(self, name: str) -> None:
        """Listen no more, and end what is open."""

        async def close() -> None:
            server = self._servers.pop(name)
            server.close()
            for writer in self._open.pop(name, set()):
                writer.transport.abort()
            await asyncio.sleep(0)

        self._call(close())

    def _call(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(TIMEOUT_S)

    async def _serve(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted[name] += 1
        if peer := writer.get_extra_info("peername"):
            self.peers.append((name, peer[0]))
        self._open.setdefault(name, set()).add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                if line.endswith(b"HTTP/1.1\r\n"):
                    head = line + await reader.readuntil(b"\r\n\r\n")
                    self.requests.append((name, head.decode()))
                    status = self.statuses.get(name, 200)
                    body, more = (name, "connection: close\r\n") if self._naming else ("ok", "")
                    more += f"content-length: {len(body)}\r\n"
                    writer.write(f"HTTP/1.1 {status} Status\r\n{more}\r\n{body}".encode())
                    if self._naming:
                        break
                else:
                    writer.write(name.encode() + b"\n")
                await writer.drain()
        self._open.get(name, set()).discard(writer)
        writer.close()


def reached(address: tuple[str, int], *, source: str = "") -> str:
    """Name of the endpoint that a connection through `address` reaches; empty when it is refused."""
    try:
        with socket.create_connection(address, TIMEOUT_S, source_address=(source, 0) if source else None) as client:
            # Longer than a TLS record header, which Envoy waits for.
            client.sendall(b"who is it\n")
            return client.makefile("rb").readline().decode().strip()
    except ConnectionError:
        return ""


def reached_by(address: tuple[str, int], count: int) -> Counter[str]:
    """Names of the endpoints that so many connections reach, one after the other."""
    return Counter(reached(address) for _ in range(count))
