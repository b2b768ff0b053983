"""Logging belongs to the process: a command that a test runs in it leaves none of its settings behind."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def logging_kept() -> Iterator[None]:
    """Handlers and levels as they were afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("eastgate")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        ours.setLevel(levels[1])
