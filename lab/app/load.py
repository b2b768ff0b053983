"""Connections from inside a pod: `load.py HOST PORT COUNT [PER_SECOND]` opens one after the other, or until stopped.

Each sends one line and waits for one; what came back is counted. COUNT 0 goes on until a line comes on stdin.
Prints one JSON document: {"answers": {"GKE!!!": 10}, "failed": 0, "errors": [...], "longest_ms": 12.3}.
"""

import asyncio
import json
import sys
import time
from collections import Counter

TIMEOUT_S = 10.0
KEPT_ERRORS = 5


async def ask(host: str, port: int) -> str:
    """The first word of the answer. Raises OSError or TimeoutError when there is none."""
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(b"hello\n")
            line = await reader.readline()
        finally:
            writer.close()
    if not line:
        raise ConnectionError("closed without an answer")
    return line.split()[0].decode(errors="replace")


async def main() -> None:
    host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    gap = 1 / float(sys.argv[4]) if len(sys.argv) > 4 else 0.0
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    if count == 0:
        loop.add_reader(sys.stdin.fileno(), stopped.set)
    answers: Counter[str] = Counter()
    errors: list[str] = []
    failed, longest, number = 0, 0.0, 0
    begin = time.monotonic()
    running: set[asyncio.Task[None]] = set()

    async def one() -> None:
        nonlocal failed, longest
        started = time.monotonic()
        try:
            answers[await ask(host, port)] += 1
        except (OSError, TimeoutError) as error:
            failed += 1
            if len(errors) < KEPT_ERRORS:
                errors.append(f"after {started - begin:.1f} s: {type(error).__name__} {error}")
        longest = max(longest, time.monotonic() - started)

    while not stopped.is_set() and (count == 0 or number < count):
        if gap:
            # At their times, however long an answer takes: a slow one must not hide what comes meanwhile.
            running.add(task := loop.create_task(one()))
            task.add_done_callback(running.discard)
            number += 1
            await asyncio.sleep(max(0.0, begin + number * gap - time.monotonic()))
        else:
            await one()
            number += 1
    if running:
        await asyncio.wait(running)
    times = {"longest_ms": round(longest * 1000, 1), "seconds": round(time.monotonic() - begin, 1)}
    print(json.dumps({"answers": answers, "failed": failed, "errors": errors, **times}))


asyncio.run(main())
