"""Long work on the loop: others run in between, and nothing is lost or reordered."""

import asyncio
from collections.abc import Iterator

import pytest
from eastgate.proxy import slices
from eastgate.proxy.slices import encoded, sliced


async def test_others_run_between_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_S", 0.0)
    turns: list[int] = []
    ended = asyncio.Event()

    async def other() -> None:
        while not ended.is_set():
            turns.append(1)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(other())
        assert [item async for item in sliced(range(100))] == list(range(100))
        ended.set()
    assert len(turns) >= 100


async def test_short_work_is_not_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_S", 3600.0)
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    assert [item async for item in sliced("abc")] == ["a", "b", "c"]
    assert turns == []


async def test_text_comes_in_chunks_and_is_not_made_ahead() -> None:
    made = 0

    def pieces() -> Iterator[str]:
        nonlocal made
        for _ in range(1000):
            made += 1
            yield "é" * 1000

    chunks = encoded(pieces())
    first = await anext(chunks)
    assert len(first.decode()) == made * 1000 < 100_000
    rest = [chunk async for chunk in chunks]
    assert (first + b"".join(rest)).decode() == "é" * 1_000_000
