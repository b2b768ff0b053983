"""An end that does not come: what of the process still runs is said, and the process ends all the same."""

import asyncio
import os
from collections.abc import Callable
from typing import Any

from .log import Log

# How long the parts of a process may take to end, once it has been told to. Kubernetes kills after 30 s.
END_S = 10.0
EXIT_CODE = 1


def waits_at(awaited: Any) -> str:
    """Where a suspended coroutine waits: from the outermost function to the innermost, each with its line."""
    found = []
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        found.append(f"{awaited.cr_code.co_qualname}:{frame.f_lineno}")
        awaited = awaited.cr_await
    return " > ".join(found)


def end_within(seconds: float, log: Log, leave: Callable[[int], Any] = os._exit) -> asyncio.TimerHandle:
    """End the process by force after so long, unless the handle that this returns is cancelled: `leave` is called.

    Each task that still runs is logged with the place where it waits. Call it on the loop.
    """
    loop = asyncio.get_running_loop()

    def overdue() -> None:
        for task in sorted(asyncio.all_tasks(loop), key=asyncio.Task.get_name):
            log.error("does not end", task=task.get_name(), waits_at=waits_at(task.get_coro()))
        log.error("ended by force", after_s=seconds)
        leave(EXIT_CODE)

    return loop.call_later(seconds, overdue)
