"""One connection that is used all the time: `hold.py HOST PORT [PER_SECOND [SECONDS]]`.

Sends a line and waits for the answer, so many times a second, until a line comes on stdin, the time is over or the
connection ends. Says "open" on stderr at the first answer. Prints one JSON document, whose `ended` is empty when it
was told to stop: {"answers": 40, "seconds": 8.1, "ended": "closed after 8.1 s"}
"""

import asyncio
import json
import sys
import time

TIMEOUT_S = 10.0


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """Ask once. Why there is no answer, or nothing."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            writer.write(b"hello\n")
            await writer.drain()
            return "" if (await reader.readline()).endswith(b"\n") else "closed"
    except (OSError, TimeoutError) as error:
        return f"{type(error).__name__} {error}"


async def main() -> None:
    host, port = sys.argv[1], int(sys.argv[2])
    gap = 1 / float(sys.argv[3]) if len(sys.argv) > 3 else 0.2
    seconds = float(sys.argv[4]) if len(sys.argv) > 4 else float("inf")
    told = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), told.set)
    begin, answers, ended = time.monotonic(), 0, ""
    reader, writer = await asyncio.open_connection(host, port)
    while not told.is_set() and time.monotonic() - begin < seconds:
        if reason := await ask(reader, writer):
            ended = f"{reason} after {time.monotonic() - begin:.1f} s"
            break
        answers += 1
        if answers == 1:
            print("open", file=sys.stderr, flush=True)
        # At its times, however long an answer takes.
        await asyncio.sleep(max(0.0, begin + answers * gap - time.monotonic()))
    writer.close()
    print(json.dumps({"answers": answers, "seconds": round(time.monotonic() - begin, 1), "ended": ended}))


asyncio.run(main())
