"""The process that renders dumps: shared by all, waited for by none, and started again when it is gone."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import uvloop
from eastgate.proxy.admin import rendering
from eastgate.proxy.admin.rendering import Renderer, RendererGoneError, Resource, plain
from eastgate.xds.decode import CDS

from ...support.waiting import until

ASKED: list[Resource] = [(CDS, b"\n\x05name%d" % number) for number in range(2 * rendering.AHEAD)]


@pytest.fixture
async def renderer() -> AsyncIterator[Renderer]:
    made = Renderer()
    yield made
    made.close()
    # Its end has to reach the loop.
    await asyncio.sleep(0)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def launcher_of(renderer: Renderer) -> int:
    launcher = renderer._launcher
    assert launcher is not None
    return launcher.pid


async def until_gone(pid: int) -> None:
    status = Path(f"/proc/{pid}/status")
    await asyncio.to_thread(until, lambda: not status.exists() or "State:\tZ" in status.read_text(), f"{pid} is gone")


async def whole(renderer: Renderer, asked: list[Resource]) -> list[bytes]:
    return [text async for text in renderer.texts(asked)]


async def test_answers_come_in_order_and_one_process_serves_many_dumps(renderer: Renderer) -> None:
    first, second = await asyncio.gather(whole(renderer, ASKED), whole(renderer, ASKED[::-1]))
    assert first == second[::-1]
    assert [b'"name%d"' % number in text for number, text in enumerate(first[:10])] == [True] * 10
    (child,) = children(launcher_of(renderer))
    assert await whole(renderer, ASKED[:1]) == first[:1]
    assert children(launcher_of(renderer)) == [child]


async def test_dump_that_nobody_reads_holds_up_no_other(renderer: Renderer) -> None:
    async with aclosing(renderer.texts(ASKED)) as unread, aclosing(renderer.texts(ASKED)) as also_unread:
        await anext(unread)
        await anext(also_unread)
        async with asyncio.timeout(10):
            assert len(await whole(renderer, ASKED)) == len(ASKED)
        # What was asked ahead is still theirs.
        assert len([text async for text in unread]) == len(ASKED) - 1


async def test_killed_process_is_told_once_and_started_again(renderer: Renderer) -> None:
    good = await whole(renderer, ASKED)
    (child,) = children(launcher_of(renderer))
    async with aclosing(renderer.texts(ASKED * 10)) as texts:
        await anext(texts)
        os.kill(child, signal.SIGKILL)
        with pytest.raises(RendererGoneError, match="was killed"):
            async for _ in texts:
                pass
    assert await whole(renderer, ASKED) == good
    assert children(launcher_of(renderer)) != [child]


async def test_stuck_process_is_ended(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    good = await whole(renderer, ASKED)
    (child,) = children(launcher_of(renderer))
    monkeypatch.setattr(rendering, "ANSWER_S", 0.05)
    os.kill(child, signal.SIGSTOP)
    with pytest.raises(RendererGoneError):
        await whole(renderer, ASKED)
    await until_gone(child)
    monkeypatch.setattr(rendering, "ANSWER_S", 20.0)
    assert await whole(renderer, ASKED) == good


async def test_process_ends_when_no_dump_has_come_for_a_while(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "LINGER_S", 0.0)
    await whole(renderer, ASKED[:1])
    await asyncio.to_thread(until, lambda: not children(launcher_of(renderer)), "the process is ended")
    assert len(await whole(renderer, ASKED)) == len(ASKED)


async def test_without_a_launcher_dumps_show_what_eastgate_reads(renderer: Renderer) -> None:
    os.kill(launcher_of(renderer), signal.SIGKILL)
    await until_gone(launcher_of(renderer))
    assert await whole(renderer, ASKED) == [text async for text in plain(ASKED)]


@pytest.mark.parametrize("executable", ["/bin/false", "/nowhere"])
async def test_where_nothing_starts_dumps_show_what_eastgate_reads(
    monkeypatch: pytest.MonkeyPatch, executable: str
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    renderer = Renderer()
    assert await whole(renderer, ASKED) == [text async for text in plain(ASKED)]
    renderer.close()
    renderer.close()


def test_under_the_loop_of_a_gateway() -> None:
    async def read() -> list[bytes]:
        renderer = Renderer()
        try:
            return await whole(renderer, ASKED)
        finally:
            renderer.close()

    assert len(uvloop.run(read())) == len(ASKED)


async def test_both_processes_end_with_the_proxy() -> None:
    renderer = Renderer()
    await whole(renderer, ASKED[:1])
    launcher = launcher_of(renderer)
    (child,) = children(launcher)
    renderer.close()
    await until_gone(child)
    await until_gone(launcher)
