"""Dumps go on without the child process that renders them, under the loop that a gateway runs."""

import asyncio
import sys
from typing import Any

import pytest
import uvloop
from eastgate.proxy.admin import rendering
from eastgate.xds.decode import CDS

start = asyncio.create_subprocess_exec


async def started_and_dead(*command: Any, **more: Any) -> asyncio.subprocess.Process:
    """What a child looks like that ended before it was asked anything."""
    child = await start(*command, **more)
    await child.wait()
    await asyncio.sleep(0.1)
    return child


def test_a_child_that_is_dead_already_costs_completeness_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setattr(asyncio, "create_subprocess_exec", started_and_dead)
    asked = [(CDS, b"\n\x01a")] * (2 * rendering.AHEAD)

    async def read() -> list[bytes]:
        return [text async for text in rendering.texts(asked)]

    assert uvloop.run(read()) == [rendering.fallback(*one) for one in asked]
