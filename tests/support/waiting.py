"""Waiting for a condition instead of sleeping."""

import time
from collections.abc import Callable

DEADLINE_S = 30.0


def until(condition: Callable[[], object], what: str, *, deadline_s: float = DEADLINE_S, pause_s: float = 0.01) -> None:
    """Return once the condition holds; AssertionError naming `what` after the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {what}"
        time.sleep(pause_s)
