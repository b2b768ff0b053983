"""Endpoints of a comparison, run as a process: `python -m eastgate.trial.answers COUNT`.

Each of COUNT ports of loopback answers a connection's first bytes with its own number, then lets the client end. The
ports are one JSON line on stdout; the process ends when stdin does.
"""

import asyncio
import json
import sys

HOST = "127.0.0.1"
BACKLOG = 1024


class Answer(asyncio.Protocol):
    """One connection."""

    def __init__(self, number: int) -> None:
        self._text = str(number).encode()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(self._text)
        self._text = b""


async def serve(count: int) -> None:
    """Listen until stdin ends."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(lambda n=n: Answer(n), HOST, 0, backlog=BACKLOG) for n in range(count)]  # type: ignore[misc]
    sys.stdout.write(json.dumps([server.sockets[0].getsockname()[1] for server in servers]) + "\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
