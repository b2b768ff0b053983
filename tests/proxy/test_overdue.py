"""A process that is told to end ends, whatever of it does not; and says what that is."""

import asyncio
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from eastgate.proxy.log import Log
from eastgate.proxy.overdue import EXIT_CODE, end_within

# A gateway one part of which does not let itself be cancelled; it has a second to end.
STUBBORN = """
import asyncio, sys
from eastgate.proxy import app
from eastgate.proxy.membership.dns_clusters import DnsClusters
from eastgate.commands.cli import main

async def run(self):
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

DnsClusters.run = run
app.END_S = 1.0
sys.argv = ["eastgate", "gateway", "--discovery", "127.0.0.1:9", "--admin", "127.0.0.1:0"]
main()
"""


async def waits_for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def part() -> None:
    await waits_for_ever()


async def test_what_still_runs_is_said(caplog: pytest.LogCaptureFixture) -> None:
    left: list[int] = []
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(part(), name="the part")
        with caplog.at_level(logging.ERROR):
            end_within(0.01, Log("gateway"), left.append)
            while not left:  # noqa: ASYNC110 - a process that ends wakes nobody
                await asyncio.sleep(0.01)
        task.cancel()
    assert left == [EXIT_CODE]
    fields = [getattr(record, "fields", {}) for record in caplog.records]
    said = next(one["waits_at"] for one in fields if one.get("task") == "the part")
    outer, _, inner = said.partition(" > ")
    assert outer.startswith("part:")
    assert inner.startswith("waits_for_ever:")


async def test_who_ends_in_time_is_left_alone() -> None:
    left: list[int] = []
    end_within(0.0, Log("gateway"), left.append).cancel()
    later: list[int] = []
    end_within(0.0, Log("gateway"), later.append)
    async with asyncio.timeout(10):
        while not later:  # noqa: ASYNC110 - a process that ends wakes nobody
            await asyncio.sleep(0.01)
    assert left == []


def test_a_part_that_does_not_end_does_not_keep_the_process(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("admin listening on "), line
    while "ads_disconnected" not in process.stderr.readline():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == EXIT_CODE
    assert "does not end" in said
    assert "ControlErrors.keep" in said
    assert "ended by force" in said
    assert "Traceback" not in said
