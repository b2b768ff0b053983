"""One line per finished or refused connection, in the order of Istio's TCP access log, or as JSON."""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from eastgate.fastpath.loop.event_ring import ConnectionEvent
from eastgate.fastpath.reason import LABELS, RESPONSE_FLAGS, Reason
from eastgate.proxy.control_errors import ControlErrors, Part
from eastgate.proxy.log import in_quotes, quoted

from .line_writer import LineWriter


def start_text(event: ConnectionEvent) -> str:
    return datetime.fromtimestamp(event.start, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def as_text(event: ConnectionEvent, listener: str) -> str:
    """[start] flags reason rx tx ms connect_ms "upstream" cluster local downstream SNI ALPN listener attempts
    policy.
    """
    reason = Reason(event.reason)
    fields = (
        f"[{start_text(event)}]",
        RESPONSE_FLAGS[reason],
        LABELS[reason] if reason else "-",
        str(event.rx_bytes),
        str(event.tx_bytes),
        f"{event.duration * 1000:.0f}",
        f"{event.connect_duration * 1000:.0f}" if event.connect_duration else "-",
        in_quotes(event.upstream or "-"),
        quoted(event.cluster) if event.cluster else "-",
        quoted(event.downstream_local) if event.downstream_local else "-",
        quoted(event.downstream) if event.downstream else "-",
        quoted(event.server_name) if event.server_name else "-",
        ",".join(in_quotes(name) if "," in name else quoted(name) for name in event.alpn) or "-",
        quoted(listener) if listener else "-",
        str(event.attempts) if event.attempts else "-",
        quoted(event.policy) if event.policy else "-",
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
        "upstream_attempts": event.attempts,
        "policy": event.policy or None,
        "policy_unknown": event.policy_unknown,
    }
    return json.dumps(fields, separators=(",", ":")) + "\n"


FORMATS: dict[str, Callable[[ConnectionEvent, str], str]] = {"text": as_text, "json": as_json}


class AccessLog:
    """A line per event, for a file or stdout. What cannot be written is counted and lost; traffic never waits."""

    def __init__(
        self,
        path: str,
        *,
        line_format: str,
        listener_name: Callable[[int], str],
        errors: ControlErrors | None = None,
    ) -> None:
        self._errors = errors if errors is not None else ControlErrors()
        self._format = FORMATS[line_format]
        self._listener_name = listener_name
        self._writer = LineWriter(path, self._errors)

    @property
    def failed(self) -> int:
        """Lines that the file did not take."""
        return self._writer.failed

    @property
    def dropped(self) -> int:
        """Lines that were not written because the file was too slow for them."""
        return self._writer.dropped

    def write(self, events: Iterable[ConnectionEvent]) -> None:
        lines = []
        for event in events:
            # One that cannot be written costs its own line.
            with self._errors.guard(Part.DISK, "access log"):
                lines.append(self._format(event, self._listener_name(event.listener)))
        if lines:
            self._writer.add("".join(lines).encode(), len(lines))

    def reopen(self) -> None:
        """Open the path anew, as after a rotation; the old file serves on when that fails."""
        self._writer.reopen()

    def close(self) -> None:
        """Write what is queued and end; waits a moment for a slow file, not for ever."""
        self._writer.close()
