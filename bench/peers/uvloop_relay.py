"""A naive SNI relay on uvloop, to compare with: reads the hello, connects, copies. Arguments: port, sink port, SNI."""

import asyncio
import sys
from collections.abc import Iterator
from typing import cast

import uvloop


def server_name(hello: bytes) -> bytes:
    """The SNI of a ClientHello in one record; empty when there is none."""
    try:
        at = 43
        at += 1 + hello[at]
        at += 2 + int.from_bytes(hello[at : at + 2], "big")
        at += 1 + hello[at] + 2
        for kind, body in extensions(hello, at):
            if kind == 0:
                return body[5:]
    except IndexError:
        pass
    return b""


def extensions(hello: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at + 4 <= len(hello):
        kind, size = int.from_bytes(hello[at : at + 2], "big"), int.from_bytes(hello[at + 2 : at + 4], "big")
        yield kind, hello[at + 4 : at + 4 + size]
        at += 4 + size


class Side(asyncio.Protocol):
    """One of the two sockets of a connection."""

    def __init__(self, other: "Side | None" = None) -> None:
        self.other = other
        self.transport: asyncio.Transport
        self.hello = b""
        self.connecting: asyncio.Task[object] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport has the interface, not the class.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)
            return
        self.hello += data
        if len(self.hello) < 5 + int.from_bytes(self.hello[3:5], "big"):
            return
        if server_name(self.hello) != SERVER_NAME:
            self.transport.close()
            return
        self.transport.pause_reading()
        self.connecting = asyncio.ensure_future(self.connect())

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, upstream = await loop.create_connection(lambda: Side(self), "127.0.0.1", SINK_PORT)
        self.other = upstream
        upstream.transport.write(self.hello)
        self.transport.resume_reading()

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, _: Exception | None) -> None:
        if self.other is not None:
            self.other.transport.close()


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Side, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    PORT, SINK_PORT, SERVER_NAME = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode()
    uvloop.run(serve(PORT))
