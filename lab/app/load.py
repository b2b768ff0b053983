"""Connections from inside a pod: `load.py http|tcp HOST PORT COUNT [PER_SECOND]`.

Opens COUNT connections one after the other, or at a rate; COUNT 0 goes on until a line comes on stdin. Each asks once,
and who answered is counted. Prints one JSON document:
{"answers": {"GKE!!!": 10}, "failed": 0, "errors": [...], "longest_ms": 12.3, "seconds": 1.5}.
"""

import asyncio
import json
import sys
import time
from collections import Counter

TIMEOUT_S = 10.0
KEPT_ERRORS = 5


async def ask(kind: str, host: str, port: int) -> str:
    """The first word of the answer. Raises OSError or TimeoutError when there is none."""
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            if kind == "http":
                writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                head, _, line = (await reader.read()).partition(b"\r\n\r\n")
                if b" 200 " not in head.split(b"\r\n", 1)[0]:
                    raise ConnectionError(head.split(b"\r\n", 1)[0].decode(errors="replace") or "no answer")
            else:
                writer.write(b"hello\n")
                line = await reader.readline()
        finally:
            writer.close()
    if not line:
        raise ConnectionError("closed without an answer")
    return line.split()[0].decode(errors="replace")


class Load:
    """Asks, and counts."""

    def __init__(self, kind: str, host: str, port: int) -> None:
        self._target = kind, host, port
        self.begin = time.monotonic()
        self.answers: Counter[str] = Counter()
        self.errors: list[str] = []
        self.failed = 0
        self.longest = 0.0

    async def one(self) -> None:
        started = time.monotonic()
        try:
            self.answers[await ask(*self._target)] += 1
        except (OSError, TimeoutError) as error:
            self.failed += 1
            if len(self.errors) < KEPT_ERRORS:
                self.errors.append(f"after {started - self.begin:.1f} s: {type(error).__name__} {error}")
        self.longest = max(self.longest, time.monotonic() - started)

    async def run(self, count: int, gap: float, stopped: asyncio.Event) -> None:
        number, running = 0, set()
        while not stopped.is_set() and (count == 0 or number < count):
            number += 1
            if not gap:
                await self.one()
                continue
            # At their times, however long an answer takes: a slow one must not hide what comes meanwhile.
            running.add(task := asyncio.get_running_loop().create_task(self.one()))
            task.add_done_callback(running.discard)
            await asyncio.sleep(max(0.0, self.begin + number * gap - time.monotonic()))
        if running:
            await asyncio.wait(running)

    def as_json(self) -> str:
        times = {"longest_ms": round(self.longest * 1000, 1), "seconds": round(time.monotonic() - self.begin, 1)}
        return json.dumps({"answers": self.answers, "failed": self.failed, "errors": self.errors, **times})


async def main() -> None:
    kind, host, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    gap = 1 / float(sys.argv[5]) if len(sys.argv) > 5 else 0.0
    stopped = asyncio.Event()
    if count == 0:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stopped.set)
    load = Load(kind, host, port)
    await load.run(count, gap, stopped)
    print(load.as_json())


asyncio.run(main())
