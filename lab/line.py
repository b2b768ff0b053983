"""A bad line to istiod: `line.py LISTEN TARGET PORT...` relays each port, and does to the bytes what stdin says.

``clean`` passes them on. ``noise`` flips one bit in every some thousand bytes; ``marks`` flips top bits only, which
makes text no UTF-8: without TLS any other flip may make another good configuration, which nobody could tell from the
right one. Both cut connections in the middle of a message now and then, and cut all when they begin and end. ``end``
ends. Each order is answered by one JSON document of what was done so far.
"""

import asyncio
import json
import random
import sys
from collections import Counter
from contextlib import suppress

CHUNK = 4096
# On average: a whole configuration of the lab is 30 KiB, and part of it gets through.
BYTES_PER_FLIP = 4 * 1024
BYTES_PER_CUT = 64 * 1024
ORDERS = ("clean", "noise", "marks")


class CutError(Exception):
    """Here the connection ends."""


class Spoiler:
    """What happens to the bytes of all connections. Without input and output."""

    def __init__(self, rng: random.Random) -> None:
        self.order = "clean"
        self.done: Counter[str] = Counter()
        self._rng = rng
        self._until_flip = self._until_cut = 0.0

    def obey(self, order: str) -> None:
        self.order = order
        self._until_flip = self._rng.expovariate(1 / BYTES_PER_FLIP)
        self._until_cut = self._rng.expovariate(1 / BYTES_PER_CUT)

    def spoil(self, data: bytes) -> tuple[bytes, bool]:
        """What is left of these bytes, and whether the connection ends after them."""
        self.done["bytes"] += len(data)
        if self.order == "clean":
            return data, False
        changed = bytearray(data)
        while self._until_flip < len(data):
            changed[int(self._until_flip)] ^= 0x80 if self.order == "marks" else 1 << self._rng.randrange(8)
            self.done["flips"] += 1
            self._until_flip += 1 + self._rng.expovariate(1 / BYTES_PER_FLIP)
        self._until_flip -= len(data)
        self._until_cut -= len(data)
        if self._until_cut > 0:
            return bytes(changed), False
        self.done["cuts"] += 1
        self._until_cut = self._rng.expovariate(1 / BYTES_PER_CUT)
        return bytes(changed[: self._rng.randrange(len(data) + 1)]), True


class Line:
    """The relay."""

    def __init__(self, spoiler: Spoiler, target: str) -> None:
        self._spoiler = spoiler
        self._target = target
        self._open: set[asyncio.StreamWriter] = set()

    async def serve(self, listen: str, port: int) -> None:
        await asyncio.start_server(lambda reader, writer: self._relay(port, reader, writer), listen, port)

    def cut_all(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _relay(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._spoiler.done["connections"] += 1
        try:
            far_reader, far_writer = await asyncio.open_connection(self._target, port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, far_writer}
        self._open |= both
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, far_writer))
                group.create_task(self._pass_on(far_reader, writer))
        except* (CutError, OSError):
            pass
        finally:
            self._open -= both
            for one in both:
                one.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            left, cut = self._spoiler.spoil(data)
            writer.write(left)
            await writer.drain()
            if cut:
                raise CutError
        # Either end: nobody here half-closes.
        raise CutError


async def main() -> None:
    listen, target, *ports = sys.argv[1:]
    # Another one for each target, the same in every run.
    spoiler = Spoiler(random.Random(target))
    line = Line(spoiler, target)
    for port in ports:
        await line.serve(listen, int(port))
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while (order := (await orders.readline()).decode().strip()) in ORDERS:
        spoiler.obey(order)
        line.cut_all()
        print(json.dumps(spoiler.done), flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
