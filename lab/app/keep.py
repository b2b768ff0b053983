"""Many connections that nobody uses: `keep.py HOST PORT COUNT`.

Opens them one after the other; each asks once and stays open. Says "open" on stderr when all are, and ends when a line
comes on stdin. Prints one JSON document: {"open": 1000, "ended": 0}; ended: those that did not last until then.
"""

import asyncio
import json
import sys

TIMEOUT_S = 10.0


async def opened(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which the server has answered. Raises OSError or TimeoutError."""
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"hello\n")
        if not await reader.readline():
            raise ConnectionError("closed without an answer")
        return reader, writer


async def main() -> None:
    host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    told = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), told.set)
    kept = [await opened(host, port) for _ in range(count)]
    print("open", file=sys.stderr, flush=True)
    await told.wait()
    ended = sum(reader.at_eof() or reader.exception() is not None for reader, _ in kept)
    for _, writer in kept:
        writer.close()
    print(json.dumps({"open": count, "ended": ended}))


asyncio.run(main())
