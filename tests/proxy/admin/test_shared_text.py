"""Large texts: made once for many, fresh for one, and never more than a few at once."""

import asyncio

import pytest
from eastgate.proxy.admin.shared_text import KEPT, KEPT_OF_KIND, SHARED_S, SMALL_BYTES, Reading, SharedTexts, Whole
from eastgate.proxy.errors import UnavailableError


class Source:
    """Counts what was made; its clock stands still."""

    def __init__(self, size: int = SMALL_BYTES) -> None:
        self.made = 0
        self.now_s = 100.0
        self.size = size
        self.texts = SharedTexts(lambda: self.now_s)

    async def make(self) -> Whole:
        self.made += 1
        number = self.made
        await asyncio.sleep(0)
        return Whole([b"%d " % number, bytes(self.size)])

    async def read(self, kind: str = "a") -> Reading:
        return await self.texts.read(kind, self.make)


async def whole(reading: Reading) -> bytes:
    text = b"".join([piece async for piece in reading])
    await reading.aclose()
    return text.partition(b" ")[0]


async def test_all_who_ask_at_once_get_the_same() -> None:
    source = Source()
    readings = await asyncio.gather(*(source.read() for _ in range(24)))
    assert source.made == 1
    assert {await whole(one) for one in readings} == {b"1"}


async def test_alone_one_gets_what_is_true_now() -> None:
    source = Source()
    assert [await whole(await source.read()) for _ in range(3)] == [b"1", b"2", b"3"]
    # One who went without reading holds nothing either.
    await (await source.read()).aclose()
    assert await whole(await source.read()) == b"5"


async def test_small_texts_are_nobody_elses() -> None:
    source = Source(size=10)
    held = [await source.read() for _ in range(KEPT + 3)]
    assert source.made == len(held)


async def test_kinds_are_kept_apart() -> None:
    source = Source()
    first, second = await source.read("a"), await source.read("b")
    assert (await whole(first), await whole(second)) == (b"1", b"2")


async def test_who_does_not_read_in_time_loses_it_to_newer_ones() -> None:
    source = Source()
    held = []
    for _ in range(KEPT_OF_KIND + 1):
        held.append(await source.read())
        source.now_s += SHARED_S
    with pytest.raises(UnavailableError, match="not read in time"):
        await whole(held[0])
    assert [await whole(one) for one in held[1:]] == [b"2", b"3"]


async def test_too_many_kinds_at_once_have_to_come_again_or_take_the_oldest() -> None:
    source = Source()
    held = [await source.read(kind) for kind in "abcdefg"[:KEPT]]
    with pytest.raises(UnavailableError, match="ask again"):
        await source.read("z")
    source.now_s += SHARED_S
    assert await whole(await source.read("z")) == str(KEPT + 1).encode()
    with pytest.raises(UnavailableError):
        await whole(held[0])
    assert await whole(held[1]) == b"2"


async def test_what_cannot_be_made_holds_up_nobody() -> None:
    source = Source()

    async def broken() -> Whole:
        raise ValueError("no")

    with pytest.raises(ValueError):
        await source.texts.read("a", broken)
    assert await whole(await source.read()) == b"1"
