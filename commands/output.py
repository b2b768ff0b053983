"""Standard output of a command: what it does not take is an error of ours, and a stream that is closed stays closed."""

import io
import os
import sys
from collections.abc import Iterable
from typing import Any

from eastgate.proxy.errors import EastgateError

STDIN, STDOUT, STDERR = 0, 1, 2


class OutputLostError(EastgateError):
    """Standard output takes nothing more. ``told``: whether anybody should hear of it."""

    exit_code = 1

    def __init__(self, reason: str, *, told: bool = True) -> None:
        super().__init__(f"standard output: {reason}")
        self.told = told


class _Checked(io.FileIO):
    """Raises OutputLostError once; what is written afterwards, by whoever flushes at the end, is dropped."""

    def __init__(self, descriptor: int, *, closed: bool) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._was_closed, self._lost = closed, False

    def write(self, data: Any) -> int:
        if self._lost:
            return memoryview(data).nbytes
        try:
            if not self._was_closed:
                return super().write(data)
            reason, told = "it is closed", True
        except OSError as error:
            # Who has closed the other end knows it: `eastgate endpoints | head`.
            reason, told = error.strerror or str(error), not isinstance(error, BrokenPipeError)
        self._lost = True
        raise OutputLostError(reason, told=told)


def open_streams() -> None:
    """Check standard output from now on. Closed descriptors become /dev/null, so that no socket takes their numbers."""
    closed = [number for number in (STDIN, STDOUT, STDERR) if not _is_open(number)]
    # The lowest free number is taken, so they are filled one after the other.
    for number in closed:
        os.open(os.devnull, os.O_RDONLY if number == STDIN else os.O_WRONLY)
    if sys.stderr is None:
        sys.stderr = open(STDERR, "w", closefd=False)  # noqa: SIM115 - as long as the process
    terminal = os.isatty(STDOUT)
    encoding = sys.stdout.encoding if sys.stdout is not None else "utf-8"
    raw = io.BufferedWriter(_Checked(STDOUT, closed=STDOUT in closed))
    # A name that the terminal cannot show is no reason to end.
    sys.stdout = io.TextIOWrapper(raw, encoding, errors="backslashreplace", line_buffering=terminal)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def note(notes: Iterable[str]) -> None:
    """What a reader should know of an answer, on stderr."""
    from eastgate.proxy.log import one_line

    for one in notes:
        sys.stderr.write(f"eastgate: note: {one_line(one)}\n")
