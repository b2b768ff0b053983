"""Lines to a file on a thread of its own: a disk that stalls holds up nobody; it costs lines, which are counted."""

import os
import threading
from collections import deque

from eastgate.proxy.control_errors import ControlErrors, Part
from eastgate.proxy.log import Log

# What may wait for a slow file: about 30,000 lines.
QUEUE_BYTES = 8 << 20
# Paths that are descriptors of this process: opened anew, a socket would refuse.
STREAMS = {"-": 1, "/dev/stdout": 1, "/dev/stderr": 2}
# How long close() waits for what is queued.
CLOSE_S = 2.0


class LineWriter:
    """Appends lines to a file, or to one of STREAMS. Made, fed and closed by one thread; `_run` is on the other."""

    def __init__(self, path: str, errors: ControlErrors | None = None) -> None:
        self._errors = errors if errors is not None else ControlErrors()
        self.failed = 0
        """Lines that the file did not take. Written by the writing thread only."""
        self.dropped = 0
        """Lines that found the queue full. Written by the feeding thread only."""
        self._path = path
        self._log = Log("access_log")
        self._descriptor = -1
        # (lines, how many); None asks to open the path anew.
        self._queue: deque[tuple[bytes, int] | None] = deque()
        self._queued_bytes = 0
        self._closing = False
        self._wake = threading.Condition()
        self._open()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def add(self, lines: bytes, count: int) -> None:
        """Queue `count` lines, or drop and count them. Never waits for the file."""
        with self._wake:
            if self._closing or self._queued_bytes + len(lines) > QUEUE_BYTES:
                self.dropped += count
                return
            self._queue.append((lines, count))
            self._queued_bytes += len(lines)
            self._wake.notify()

    def reopen(self) -> None:
        """Open the path anew behind what is queued, as after a rotation; the old file serves on when that fails."""
        with self._wake:
            self._queue.append(None)
            self._wake.notify()

    def close(self) -> None:
        """Write what is queued, but wait for it no longer than CLOSE_S. A second call does nothing."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            self._log.error("access log is stuck, lines are lost", path=self._path, bytes=self._queued_bytes)

    def _open(self) -> None:
        if self._path in STREAMS:
            self._descriptor = STREAMS[self._path]
            return
        try:
            opened = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
        except OSError as error:
            self._log.error("access log cannot be opened", path=self._path, reason=error.strerror)
            return
        # Only opening must not wait, for the reader of a FIFO.
        os.set_blocking(opened, True)
        self._close_file()
        self._descriptor = opened

    def _close_file(self) -> None:
        if self._descriptor >= 0 and self._path not in STREAMS:
            os.close(self._descriptor)
        self._descriptor = -1

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._queue or self._closing)
                if not self._queue:
                    break
                item = self._queue.popleft()
            if item is None:
                with self._errors.guard(Part.DISK, self._path):
                    self._open()
                continue
            with self._errors.guard(Part.DISK, self._path):
                self._write(*item)
            with self._wake:
                self._queued_bytes -= len(item[0])
        self._close_file()

    def _write(self, lines: bytes, count: int) -> None:
        if self._descriptor < 0:
            self.failed += count
            return
        written = 0
        try:
            while written < len(lines):
                written += os.write(self._descriptor, lines[written:])
        except OSError as error:
            if not self.failed:
                self._log.error("access log cannot be written", path=self._path, reason=error.strerror)
            self.failed += lines[written:].count(b"\n")
