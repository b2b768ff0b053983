"""Long work on the loop, in slices: others run in between. What cannot be cut goes to another thread."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from typing import Any, Generic, TypeVar

# What the loop may be busy with before others run.
SLICE_S = 0.001
CHUNK_CHARACTERS = 65536

Item = TypeVar("Item")


class Errand(Generic[Item]):
    """Work that cannot be cut, for any thread: the generator that yields it goes on when it has been run."""

    def __init__(self, work: Callable[[], Item]) -> None:
        self._work = work
        self._made: list[Item] = []
        self._error: Exception | None = None

    def run(self) -> None:
        """Do the work. What it raises is for `result`."""
        try:
            self._made.append(self._work())
        except Exception as error:  # noqa: BLE001 - raised by `result`, where somebody waits for it
            self._error = error

    def result(self) -> Item:
        """What the work made; or what it raised is raised."""
        if self._error is not None:
            raise self._error
        return self._made[0]

    async def run_aside(self) -> None:
        """Do the work on another thread; the loop is free meanwhile, as far as the work lets go of the GIL."""
        await asyncio.get_running_loop().run_in_executor(None, self.run)


# Slices of work; an errand is done before the next one.
Steps = Generator[Errand[Any] | None, None, Item]


def finish(steps: Steps[Item]) -> Item:
    """All of it at once, on this thread."""
    while True:
        try:
            errand = next(steps)
        except StopIteration as end:
            made: Item = end.value
            return made
        if errand is not None:
            errand.run()


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
