"""The access logs that istiod configures for listeners and chains, beside our own line. Traffic never waits for them.

Chains with the same logs share a number, by which the events of their connections name them. A connection that was
refused before it found a chain has none: the logs of its listener are asked.
"""

import json
from collections.abc import Callable, Iterable

from eastgate.fastpath.loop.event_ring import ConnectionEvent
from eastgate.fastpath.reason import RESPONSE_FLAGS, Reason
from eastgate.proxy.control_errors import ControlErrors, Part
from eastgate.proxy.log import Log
from eastgate.xds.access_log import AccessLogSpec, LogFilter
from eastgate.xds.record import record

from .line_writer import LineWriter
from .log_format import DEFAULT_TEXT, json_format, text_format

# What fits the field of an event; and files that are open at the same time.
MOST_NUMBERS = 65535
MOST_FILES = 64
Specs = tuple[AccessLogSpec, ...]


@record
class _Made:
    """A log with its format and filter compiled."""

    path: str
    line: Callable[[ConnectionEvent], str]
    filter: LogFilter | None


def is_wanted(chosen: LogFilter | None, event: ConnectionEvent) -> bool:
    """Whether a filter lets a connection through."""
    if chosen is None:
        return True
    if chosen.kind == "and":
        return all(is_wanted(one, event) for one in chosen.filters)
    if chosen.kind == "or":
        return any(is_wanted(one, event) for one in chosen.filters)
    if chosen.kind == "flags":
        flags = set(RESPONSE_FLAGS[Reason(event.reason)].split(",")) - {"-"}
        return bool(flags & chosen.flags if chosen.flags else flags)
    # The status of a TCP connection is 0, as in Envoy.
    value = int(event.duration * 1000) if chosen.kind == "duration" else 0
    return {
        "EQ": value == chosen.value,
        "NE": value != chosen.value,
        "GE": value >= chosen.value,
        "LE": value <= chosen.value,
    }[chosen.operation]


def may_tell_probes(logs: Specs) -> bool:
    """Whether one of a listener's logs may have a line of a connection that ended before it sent a byte."""
    return any(_may_tell_probes(log.filter) for log in logs)


def _may_tell_probes(chosen: LogFilter | None) -> bool:
    if chosen is None:
        return True
    if chosen.kind in ("and", "or"):
        every = all if chosen.kind == "and" else any
        return every(_may_tell_probes(one) for one in chosen.filters)
    # They have no flag.
    return chosen.kind != "flags"


def _made(spec: AccessLogSpec) -> _Made:
    if spec.json:
        line = json_format(json.loads(spec.json), omit_empty=spec.omit_empty)
    else:
        line = text_format(spec.text or DEFAULT_TEXT, omit_empty=spec.omit_empty)
    return _Made(spec.path, line, spec.filter)


class ConfiguredLogs:
    """Owner of the files. Control thread only. ``listener_logs``: of the listener that an event names by its number."""

    def __init__(self, listener_logs: Callable[[int], Specs], errors: ControlErrors | None = None) -> None:
        self._listener_logs = listener_logs
        self._errors = errors if errors is not None else ControlErrors()
        self._numbers: dict[Specs, int] = {}
        self._by_number: list[tuple[_Made, ...]] = [()]
        self._writers: dict[str, LineWriter] = {}
        self._refused: set[str] = set()
        self._log = Log("access_log")

    @property
    def failed(self) -> int:
        """Lines that files did not take."""
        return sum(one.failed for one in self._writers.values())

    @property
    def dropped(self) -> int:
        """Lines that were not written because their file was too slow."""
        return sum(one.dropped for one in self._writers.values())

    def number(self, logs: Specs) -> int:
        """The number of these logs, from now on; 0 for none."""
        if not logs:
            return 0
        known = self._numbers.get(logs)
        if known is None:
            if len(self._by_number) > MOST_NUMBERS:
                self._log.error("too many different access logs, these are not written", most=MOST_NUMBERS)
                return 0
            known = self._numbers[logs] = len(self._by_number)
            self._by_number.append(tuple(map(_made, logs)))
        return known

    def write(self, events: Iterable[ConnectionEvent]) -> None:
        """Write the lines that these events ask for."""
        lines: dict[str, list[str]] = {}
        for event in events:
            # One that cannot be written costs its own line.
            with self._errors.guard(Part.DISK, "access log"):
                number = event.log or self.number(self._listener_logs(event.listener))
                for log in self._by_number[number]:
                    if is_wanted(log.filter, event):
                        lines.setdefault(log.path, []).append(log.line(event))
        for path, found in lines.items():
            if (writer := self._writer(path)) is not None:
                writer.add("".join(found).encode(), len(found))

    def reopen(self) -> None:
        """Open all files anew, as after a rotation."""
        for writer in self._writers.values():
            writer.reopen()

    def close(self) -> None:
        """Write what is queued and end."""
        for writer in self._writers.values():
            writer.close()

    def _writer(self, path: str) -> LineWriter | None:
        known = self._writers.get(path)
        if known is None and len(self._writers) < MOST_FILES:
            known = self._writers[path] = LineWriter(path, self._errors)
        if known is None and path not in self._refused:
            self._refused.add(path)
            self._log.error("too many access log files, this one is not written", path=path, most=MOST_FILES)
        return known
