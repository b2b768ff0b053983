"""Looks whether a worker is stuck: a turn of its loop that does not end. Says so, counts it, and mends nothing.

A turn takes microseconds, milliseconds under load. One that lasts for seconds serves nobody, and no other sign of it
leaves the process: the control side goes on, and the other workers too. As Envoy's watchdog, in two steps: a miss, and
a mega miss when it lasts. Worked example with 1 and 10 s, looked at every second: a turn of 15 s is one miss and one
mega miss of that worker, one line of the log at the first, and one with the time that it took when it is over.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from eastgate.fastpath.loop.worker_totals import StuckWorker
from eastgate.xds.record import record

from .log import Log

MISS_S = 1.0
MEGA_MISS_S = 10.0
# What the kernel tells of a thread; its stack only to root.
KERNEL_FILES = ("wchan", "syscall", "stack")
TASKS = Path("/proc/self/task")
KEPT_EPISODES = 16


def kernel_view(thread_id: int, tasks: Path = TASKS) -> dict[str, str]:
    """Where the kernel says that a thread is: state, what it waits for, its system call, its stack, where readable."""
    folder = tasks / str(thread_id)
    found: dict[str, str] = {}
    with suppress(OSError):
        for line in (folder / "status").read_text().splitlines():
            if line.startswith("State:"):
                found["state"] = line.removeprefix("State:").strip()
    for name in KERNEL_FILES:
        with suppress(OSError):
            if text := " ".join((folder / name).read_text().split()):
                found[name] = text
    return found


@record(frozen=False)
class Episode:
    """One turn that did not end in time. ``seconds``: how long it had lasted when it was last seen."""

    worker: int
    thread_id: int
    seconds: float
    kernel: dict[str, str]
    """As it was first seen"""
    mega: bool = False
    over: bool = False


@record(frozen=False)
class Misses:
    """Of one worker."""

    miss: int = 0
    mega_miss: int = 0


class Watchdog:
    """``look`` once a second. Control thread only."""

    def __init__(
        self,
        stuck: Callable[[float], Sequence[StuckWorker]],
        *,
        workers: int,
        view: Callable[[int], dict[str, str]] = kernel_view,
    ) -> None:
        self._stuck = stuck
        self._view = view
        self._log = Log("watchdog")
        self._going: dict[int, Episode] = {}
        self._latest: list[Episode] = []
        self.misses = [Misses() for _ in range(workers)]

    def look(self) -> None:
        """Note what is stuck now, and what goes on again."""
        found = {one.worker: one for one in self._stuck(MISS_S)}
        for worker, episode in list(self._going.items()):
            one = found.get(worker)
            # A shorter one is another turn.
            if one is None or one.seconds < episode.seconds:
                self._end(episode)
        for worker, one in found.items():
            self._go_on(worker, one)

    def _go_on(self, worker: int, one: StuckWorker) -> None:
        episode = self._going.get(worker)
        if episode is None:
            episode = self._going[worker] = Episode(worker, one.thread_id, one.seconds, self._view(one.thread_id))
            self._latest = [*self._latest[1 - KEPT_EPISODES :], episode]
            self.misses[worker].miss += 1
            self._log.warning(
                "a worker is stuck",
                worker=worker,
                thread=one.thread_id,
                seconds=round(one.seconds, 1),
                **episode.kernel,
            )
        episode.seconds = one.seconds
        if one.seconds >= MEGA_MISS_S and not episode.mega:
            episode.mega = True
            self.misses[worker].mega_miss += 1

    def _end(self, episode: Episode) -> None:
        del self._going[episode.worker]
        episode.over = True
        self._log.warning("a worker goes on", worker=episode.worker, at_least_s=round(episode.seconds, 1))

    def as_json(self) -> dict[str, Any]:
        """For admin: counts by worker, and the latest episodes, the newest last."""
        return {
            "workers": [
                {"worker": number, "watchdog_miss": one.miss, "watchdog_mega_miss": one.mega_miss}
                for number, one in enumerate(self.misses)
            ],
            "stuck": [episode_json(episode) for episode in self._going.values()],
            "latest": [episode_json(episode) for episode in self._latest],
        }


def episode_json(episode: Episode) -> dict[str, Any]:
    return {
        "worker": episode.worker,
        "thread": episode.thread_id,
        "seconds": round(episode.seconds, 1),
        "over": episode.over,
        **episode.kernel,
    }
