"""One line per finished or refused connection, in the order of Istio's TCP access log, or as JSON."""

import json
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import BinaryIO

from eastgate.fastpath.event_ring import ConnectionEvent
from eastgate.fastpath.reason import LABELS, RESPONSE_FLAGS, Reason

from .log import Log, quoted


def start_text(event: ConnectionEvent) -> str:
    return datetime.fromtimestamp(event.start, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def as_text(event: ConnectionEvent, listener: str) -> str:
    """[start] flags reason rx tx duration_ms connect_ms "upstream" cluster local downstream SNI ALPN listener."""
    reason = Reason(event.reason)
    fields = (
        f"[{start_text(event)}]",
        RESPONSE_FLAGS[reason],
        LABELS[reason] if reason else "-",
        str(event.rx_bytes),
        str(event.tx_bytes),
        f"{event.duration * 1000:.0f}",
        f"{event.connect_duration * 1000:.0f}" if event.connect_duration else "-",
        f'"{event.upstream or "-"}"',
        event.cluster or "-",
        event.downstream_local or "-",
        event.downstream or "-",
        quoted(event.server_name) if event.server_name else "-",
        ",".join(quoted(name) for name in event.alpn) or "-",
        listener or "-",
    )
    return " ".join(fields) + "\n"


def as_json(event: ConnectionEvent, listener: str) -> str:
    """The same fields as one JSON object a line; null where there is none."""
    reason = Reason(event.reason)
    fields = {
        "start_time": start_text(event),
        "response_flags": RESPONSE_FLAGS[reason],
        "reason": LABELS[reason] if reason else None,
        "bytes_received": event.rx_bytes,
        "bytes_sent": event.tx_bytes,
        "duration_ms": round(event.duration * 1000, 3),
        "connect_ms": round(event.connect_duration * 1000, 3) or None,
        "upstream_host": event.upstream or None,
        "upstream_cluster": event.cluster or None,
        "downstream_local_address": event.downstream_local or None,
        "downstream_remote_address": event.downstream or None,
        "requested_server_name": event.server_name or None,
        "application_protocols": list(event.alpn),
        "listener": listener or None,
    }
    return json.dumps(fields, separators=(",", ":")) + "\n"


FORMATS: dict[str, Callable[[ConnectionEvent, str], str]] = {"text": as_text, "json": as_json}


class AccessLog:
    """Appends lines to a file or stdout. A line that cannot be written is counted and lost; traffic never waits."""

    def __init__(self, path: str, *, line_format: str, listener_name: Callable[[int], str]) -> None:
        self._path = path
        self._format = FORMATS[line_format]
        self._listener_name = listener_name
        self._log = Log("access_log")
        self._file: BinaryIO | None = None
        self.failed = 0
        self.reopen()

    def reopen(self) -> None:
        """Open the path anew, as after a rotation; the old file serves on when that fails."""
        if self._path == "-":
            self._file = sys.stdout.buffer
            return
        try:
            # Unbuffered: a line that the disk refuses must not come back at the next write, or at exit.
            opened = open(self._path, "ab", buffering=0)  # noqa: SIM115 - lives until close() or the next reopen
        except OSError as error:
            self._log.error("access log cannot be opened", path=self._path, reason=error.strerror)
            return
        self.close()
        self._file = opened

    def write(self, events: Iterable[ConnectionEvent]) -> None:
        lines = [self._format(event, self._listener_name(event.listener)) for event in events]
        if not lines:
            return
        if self._file is None:
            self.failed += len(lines)
            return
        try:
            self._file.write("".join(lines).encode())
            self._file.flush()
        except (OSError, ValueError) as error:
            if not self.failed:
                self._log.error("access log cannot be written", path=self._path, reason=str(error))
            self.failed += len(lines)

    def close(self) -> None:
        if self._file is not None and self._file is not sys.stdout.buffer:
            self._file.close()
        self._file = None
