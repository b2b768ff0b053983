"""Long work on the loop, in slices: others run in between."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import TypeVar

# What the loop may be busy with before others run.
SLICE_S = 0.001
CHUNK_CHARACTERS = 65536

Item = TypeVar("Item")


async def sliced(items: Iterable[Item]) -> AsyncGenerator[Item, None]:
    """The same items; the loop is given away whenever making and using them has taken SLICE_S."""
    clock = asyncio.get_running_loop().time
    slice_end = clock() + SLICE_S
    for item in items:
        yield item
        if clock() >= slice_end:
            await asyncio.sleep(0)
            slice_end = clock() + SLICE_S


async def encoded(pieces: Iterable[str]) -> AsyncGenerator[bytes, None]:
    """Text that is made piece by piece, in chunks of some 64 KiB."""
    waiting: list[str] = []
    size = 0
    async for piece in sliced(pieces):
        waiting.append(piece)
        size += len(piece)
        if size >= CHUNK_CHARACTERS:
            yield "".join(waiting).encode()
            waiting, size = [], 0
    yield "".join(waiting).encode()
