"""The forms of a drain, and what signals do: by a clock and a data side that the test moves."""

from signal import SIGINT, SIGTERM

import pytest
from eastgate.proxy.log import Log
from eastgate.proxy.stopping import DataSide, Stopping

WINDOW_S = 45.0


class Process:
    """Stands for the data side: `stopped` holds which directions were stopped, in order."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.now_s = 1000.0
        self.open = 1
        self.total = 1
        self.stopped: list[str] = []
        self.finished = 0
        data = DataSide(
            stop_accepting=lambda inbound: self.stopped.append("inbound" if inbound else "all"),
            open_connections=lambda: self.open,
            connections=lambda: self.total,
            cut=lambda: 0,
        )
        self.stopping = Stopping(
            WINDOW_S, data, at_once=at_once, now=lambda: self.now_s, finished=self._finish, log=Log("test")
        )

    def _finish(self) -> None:
        self.finished += 1

    def ask(self, *words: str) -> None:
        self.stopping.asked(
            graceful="graceful" in words, skip_exit="skip_exit" in words, inbound_only="inboundonly" in words
        )

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.stopping.tick()


@pytest.mark.parametrize(("word", "direction"), [("inboundonly", "inbound"), ("", "all")])
def test_graceful_accepts_for_the_window_then_stops_what_was_asked_for(word: str, direction: str) -> None:
    process = Process()
    process.ask("graceful", word)
    assert process.stopping.draining
    process.wait(WINDOW_S - 0.1)
    assert process.stopped == []
    process.wait(0.1)
    assert process.stopped == [direction]
    process.wait(10 * WINDOW_S)
    assert process.finished == 0


@pytest.mark.parametrize(("word", "direction"), [("inboundonly", "inbound"), ("", "all")])
def test_plain_stops_at_once_and_the_process_stays(word: str, direction: str) -> None:
    process = Process()
    process.ask(word)
    assert process.stopped == [direction]
    process.open = 0
    process.wait(10 * WINDOW_S)
    assert (process.stopped, process.finished) == ([direction], 0)


@pytest.mark.parametrize("word", ["inboundonly", ""])
def test_skip_exit_never_stops(word: str) -> None:
    process = Process()
    process.ask("graceful", "skip_exit", word)
    process.wait(100 * WINDOW_S)
    assert (process.stopping.draining, process.stopped) == (True, [])


def test_a_second_graceful_call_changes_nothing() -> None:
    process = Process()
    process.ask("graceful", "skip_exit", "inboundonly")
    process.wait(30.0)
    process.ask("graceful", "inboundonly")
    process.wait(10 * WINDOW_S)
    assert process.stopped == []
    process.ask("graceful")
    process.wait(WINDOW_S / 2)
    process.ask("graceful")
    process.wait(WINDOW_S / 2)
    assert process.stopped == ["all"]


def test_inbound_is_part_of_all() -> None:
    process = Process()
    process.ask("graceful")
    process.ask("graceful", "inboundonly")
    process.wait(WINDOW_S)
    assert process.stopped == ["all"]


def test_plain_during_a_window_stops_now() -> None:
    process = Process()
    process.ask("graceful", "skip_exit")
    process.ask()
    assert process.stopped == ["all"]


def test_a_signal_drains_first_and_the_second_ends() -> None:
    process = Process()
    process.stopping.tick()
    process.stopping.signalled(SIGTERM)
    process.wait(1.0)
    assert (process.stopped, process.finished) == ([], 0)
    process.stopping.signalled(SIGINT)
    assert process.finished == 1


def test_in_envoys_place_the_first_signal_ends() -> None:
    process = Process(at_once=True)
    process.stopping.signalled(SIGTERM)
    assert (process.finished, process.stopping.draining) == (1, False)
