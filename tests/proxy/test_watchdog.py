"""What is said of workers whose turn does not end."""

import logging
import os
import threading
from pathlib import Path

import pytest
from eastgate.fastpath.loop.worker_totals import StuckWorker
from eastgate.proxy.watchdog import Misses, Watchdog, kernel_view


class Turns:
    """Seconds that the present turn of each worker has lasted, as the engine tells it."""

    def __init__(self) -> None:
        self.seconds = [0.0, 0.0]

    def stuck(self, after_s: float) -> list[StuckWorker]:
        return [StuckWorker(n, 100 + n, seconds) for n, seconds in enumerate(self.seconds) if seconds >= after_s]


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def watchdog(turns: Turns) -> Watchdog:
    return Watchdog(turns.stuck, workers=2, view=lambda thread: {"wchan": f"wait_{thread}"})


def test_an_episode_is_told_once_and_counted_in_two_steps(
    turns: Turns, watchdog: Watchdog, caplog: pytest.LogCaptureFixture
) -> None:
    seen = []
    for seconds in (0.5, 1.5, 2.5, 9.9, 10.1, 12.0, 0.0):
        turns.seconds[1] = seconds
        watchdog.look()
        seen.append((watchdog.misses[1].miss, watchdog.misses[1].mega_miss))
    assert seen == [(0, 0), (1, 0), (1, 0), (1, 0), (1, 1), (1, 1), (1, 1)]
    assert watchdog.misses[0] == Misses(0, 0)
    assert watchdog.misses[1] == Misses(1, 1)
    begun, ended = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert begun.__dict__["fields"] == {"worker": 1, "thread": 101, "seconds": 1.5, "wchan": "wait_101"}
    assert ended.__dict__["fields"] == {"worker": 1, "at_least_s": 12.0}


def test_the_next_turn_that_sticks_is_another_episode(turns: Turns, watchdog: Watchdog) -> None:
    # Between two looks the first one ended, and the second lasts for 1.2 s already.
    for seconds in (3.0, 1.2):
        turns.seconds[0] = seconds
        watchdog.look()
    assert watchdog.misses[0].miss == 2
    assert [(one["seconds"], one["over"]) for one in watchdog.as_json()["latest"]] == [(3.0, True), (1.2, False)]
    assert [one["worker"] for one in watchdog.as_json()["stuck"]] == [0]


def test_few_episodes_are_kept(turns: Turns, watchdog: Watchdog) -> None:
    for _ in range(40):
        for seconds in (2.0, 0.0):
            turns.seconds[0] = seconds
            watchdog.look()
    assert len(watchdog.as_json()["latest"]) == 16
    assert watchdog.misses[0].miss == 40


def test_kernel_says_where_a_thread_waits() -> None:
    """A real thread that sleeps in a read."""
    ready = threading.Event()
    end, other = os.pipe()
    found: list[int] = []

    def wait() -> None:
        found.append(threading.get_native_id())
        ready.set()
        os.read(end, 1)

    thread = threading.Thread(target=wait)
    thread.start()
    ready.wait(10)
    try:
        view = kernel_view(found[0])
        # Sleeping, or just about to.
        assert view["state"].split()[0] in "SR"
        assert set(view) <= {"state", "wchan", "syscall", "stack"}
    finally:
        os.write(other, b"x")
        thread.join()
        os.close(end)
        os.close(other)


def test_a_thread_that_is_gone_has_no_view(tmp_path: Path) -> None:
    assert kernel_view(1, tmp_path) == {}
