"""Large texts that are made once for all who ask for them at the same time. Knows nothing of what is in them.

A page of counters of a large mesh takes ten megabytes, and whoever asks may never read it. So one text at a time is
made, whoever asks while somebody reads the same gets that one, and there is a limit to how many are being read: beyond
it the oldest one is taken from its readers.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Iterator
from typing import Protocol, Self

from eastgate.proxy.errors import UnavailableError
from eastgate.proxy.slices import sliced

# How old a text may be that somebody else is reading. Alone, one gets what was made for oneself.
SHARED_S = 5.0
# Texts of one kind, and of all kinds, that are being read at the same time.
KEPT_OF_KIND = 2
KEPT = 4
# What is smaller costs less than its connection, and does not count.
SMALL_BYTES = 1 << 16


class Pieces(Protocol):
    """A text in pieces, which may be made while they are read; ``weight``: about how many bytes it has."""

    @property
    def weight(self) -> int: ...
    def __iter__(self) -> Iterator[bytes]: ...


class Whole(list[bytes]):
    """A text that is there."""

    @property
    def weight(self) -> int:
        return sum(map(len, self))


Make = Callable[[], Awaitable[Pieces]]


class _Text:
    """``kind`` alone tells what is in it. ``pieces`` None: taken away."""

    def __init__(self, kind: Hashable, begun_s: float) -> None:
        self.kind = kind
        self.begun_s = begun_s
        self.readers = 0
        self.pieces: Pieces | None = None


class Reading:
    """One reader's way through a text. ``aclose`` gives it back. Raises UnavailableError when it is taken away."""

    def __init__(self, text: _Text, done: Callable[[_Text], None]) -> None:
        self._text: _Text | None = text
        self._pieces: AsyncGenerator[bytes, None] | None = None
        self._done = done
        text.readers += 1

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._text is None:
            raise StopAsyncIteration
        if self._text.pieces is None:
            raise UnavailableError("the text was not read in time, and others wanted newer ones")
        if self._pieces is None:
            self._pieces = sliced(self._text.pieces)
        return await anext(self._pieces)

    async def aclose(self) -> None:
        """A second call does nothing."""
        text, self._text = self._text, None
        if self._pieces is not None:
            await self._pieces.aclose()
        if text is not None:
            text.readers -= 1
            self._done(text)


class SharedTexts:
    """Owned by the loop. ``read`` gives a text to one reader."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # Oldest first; those with readers only.
        self._held: list[_Text] = []
        self._making = asyncio.Lock()

    async def read(self, kind: Hashable, make: Make) -> Reading:
        """A text of this kind: made now, or one that is younger than SHARED_S and read by others.

        Raises UnavailableError when others have just begun to read as many as there may be.
        """
        asked_s = self._clock()
        async with self._making:
            same = [one for one in self._held if one.kind == kind]
            # Whoever waited takes what was begun meanwhile.
            if same and same[-1].begun_s > asked_s - SHARED_S:
                return Reading(same[-1], self._forget)
            if len(same) >= KEPT_OF_KIND:
                self._take_away(same[0])
            elif len(self._held) >= KEPT:
                if self._held[0].begun_s > asked_s - SHARED_S:
                    raise UnavailableError(f"{KEPT} large pages are being read; ask again")
                self._take_away(self._held[0])
            text = _Text(kind, self._clock())
            text.pieces = await make()
            if text.pieces.weight > SMALL_BYTES:
                self._held.append(text)
            return Reading(text, self._forget)

    def _take_away(self, text: _Text) -> None:
        text.pieces = None
        self._held.remove(text)

    def _forget(self, text: _Text) -> None:
        if not text.readers and text in self._held:
            self._held.remove(text)
