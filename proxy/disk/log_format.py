"""Envoy's access log formats: a template, compiled once, filled for each connection. Pure.

Every operator that has a meaning for a TCP connection has its value, all others `-` (null in JSON; no flags are `-`
there, too). Worked example: `%RESPONSE_FLAGS% "%UPSTREAM_HOST%" %REQ(:METHOD)%` of a connection to 10.0.0.1:80 is
`- "10.0.0.1:80" -`.
"""

import json
import re
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from eastgate.fastpath.loop.event_ring import ConnectionEvent
from eastgate.fastpath.reason import LABELS, RESPONSE_FLAGS, Reason
from eastgate.proxy.log import one_line
from eastgate.xds.whole_number import PORT, whole_number

NONE = "-"
# %NAME%, %NAME(argument)%, %NAME(argument):length%, and %%.
_OPERATOR = re.compile(r"%(?:(?P<name>[A-Z][A-Z0-9_]*)(?:\((?P<argument>[^)]*)\))?(?::(?P<length>\d+))?)?%")
_FRACTION = re.compile(r"%([1-9]?)f|%E([1-9])S")
# Reasons that say what TLS with the endpoint failed of.
_TRANSPORT = range(Reason.UPSTREAM_TLS_UNKNOWN_CA, Reason.UPSTREAM_TLS_FAILED + 1)

DEFAULT_TEXT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" '
    '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n'
)
"""Envoy's own, where a log names no format."""

Value = str | int | None
Operator = Callable[[ConnectionEvent], Value]


def _flags(event: ConnectionEvent) -> str:
    # None of them is a text in Envoy, too.
    return RESPONSE_FLAGS[Reason(event.reason)]


def _local(event: ConnectionEvent) -> str:
    # Where the client wanted to go, if netfilter or a PROXY header said so, as in Envoy.
    return event.destination or event.downstream_local


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]") if ":" in address else address


def _port(address: str) -> Value:
    return whole_number(address.rpartition(":")[2], PORT)


_ADDRESSES: dict[str, Callable[[ConnectionEvent], str]] = {
    "UPSTREAM_LOCAL_ADDRESS": lambda event: event.upstream_local,
    "UPSTREAM_REMOTE_ADDRESS": lambda event: event.upstream_remote,
    "DOWNSTREAM_LOCAL_ADDRESS": _local,
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS": lambda event: event.downstream_local,
    "DOWNSTREAM_REMOTE_ADDRESS": lambda event: event.downstream,
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS": lambda event: event.direct_source,
}
_SIMPLE: dict[str, Operator] = {
    "BYTES_RECEIVED": lambda event: event.rx_bytes,
    "BYTES_SENT": lambda event: event.tx_bytes,
    "DOWNSTREAM_WIRE_BYTES_RECEIVED": lambda event: event.rx_bytes,
    "DOWNSTREAM_WIRE_BYTES_SENT": lambda event: event.tx_bytes,
    "DURATION": lambda event: int(event.duration * 1000),
    # No TCP connection has one, which is 0 in Envoy.
    "RESPONSE_CODE": lambda event: 0,
    "RESPONSE_FLAGS": _flags,
    "UPSTREAM_HOST": lambda event: event.upstream or None,
    "UPSTREAM_CLUSTER": lambda event: event.cluster or None,
    "UPSTREAM_CLUSTER_RAW": lambda event: event.cluster or None,
    "UPSTREAM_REQUEST_ATTEMPT_COUNT": lambda event: event.attempts,
    "UPSTREAM_TRANSPORT_FAILURE_REASON": lambda event: (
        LABELS[Reason(event.reason)] if event.reason in _TRANSPORT else None
    ),
    "REQUESTED_SERVER_NAME": lambda event: event.server_name or None,
    "DOWNSTREAM_PEER_URI_SAN": lambda event: event.downstream_peer or None,
    "UPSTREAM_PEER_URI_SAN": lambda event: event.upstream_peer or None,
    "HOSTNAME": lambda event: socket.gethostname(),
    **{name: lambda event, read=read: read(event) or None for name, read in _ADDRESSES.items()},  # type: ignore[misc]
    **{
        f"{name}_WITHOUT_PORT": lambda event, read=read: _host(read(event)) or None  # type: ignore[misc]
        for name, read in _ADDRESSES.items()
    },
    **{
        name.replace("_ADDRESS", "_PORT"): lambda event, read=read: _port(read(event))  # type: ignore[misc]
        for name, read in _ADDRESSES.items()
    },
}


def _start_time(argument: str | None) -> Operator:
    if not argument:
        return lambda event: datetime.fromtimestamp(event.start, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"

    def made(event: ConnectionEvent) -> str:
        # A double has microseconds of this century.
        nanoseconds = f"{round(event.start * 1e6) % 1_000_000:06d}000"

        def fraction(found: re.Match[str]) -> str:
            if found[2]:
                return f"%S.{nanoseconds[: int(found[2])]}"
            return nanoseconds[: int(found[1] or 9)]

        return datetime.fromtimestamp(event.start, UTC).strftime(
            _FRACTION.sub(fraction, argument).replace("%s", str(int(event.start)))
        )

    return made


def operator(name: str, argument: str | None, length: str | None) -> Operator:
    """What one operator means. ``length``: the most letters of its text."""
    found = _start_time(argument) if name == "START_TIME" else _SIMPLE.get(name, lambda event: None)
    if length is None:
        return found

    def cut(event: ConnectionEvent) -> Value:
        value = found(event)
        return None if value is None else str(value)[: int(length)]

    return cut


def operators(template: str) -> list[str]:
    """Names of the operators in a template."""
    return [found["name"] for found in _OPERATOR.finditer(template) if found["name"]]


def _parts(template: str) -> list[str | Operator]:
    parts: list[str | Operator] = []
    at = 0
    for found in _OPERATOR.finditer(template):
        parts.append(template[at : found.start()])
        parts.append(operator(found["name"], found["argument"], found["length"]) if found["name"] else "%")
        at = found.end()
    parts.append(template[at:])
    return [part for part in parts if part != ""]


def text_format(template: str, *, omit_empty: bool = False) -> Callable[[ConnectionEvent], str]:
    """A line of text, as long as the template makes it: that says where it ends. What comes from outside ends none."""
    parts = _parts(template)
    absent = "" if omit_empty else NONE

    def made(event: ConnectionEvent) -> str:
        return "".join(part if isinstance(part, str) else _shown(part(event), absent) for part in parts)

    return made


def _shown(value: Value, absent: str) -> str:
    return absent if value is None else one_line(str(value))


def json_format(template: Mapping[str, Any], *, omit_empty: bool = False) -> Callable[[ConnectionEvent], str]:
    """A JSON object a line, its fields in order of their names. A field that is one operator keeps the type of that."""
    filled = _json_node(template, omit_empty)

    def made(event: ConnectionEvent) -> str:
        return json.dumps(filled(event), separators=(",", ":")) + "\n"

    return made


def _json_node(node: Any, omit_empty: bool) -> Callable[[ConnectionEvent], Any]:
    if isinstance(node, Mapping):
        fields = {str(name): _json_node(value, omit_empty) for name, value in sorted(node.items())}

        def filled(event: ConnectionEvent) -> dict[str, Any]:
            values = {name: value(event) for name, value in fields.items()}
            return {name: value for name, value in values.items() if value is not None or not omit_empty}

        return filled
    if isinstance(node, list):
        items = [_json_node(value, omit_empty) for value in node]
        return lambda event: [item(event) for item in items]
    if not isinstance(node, str):
        # A Struct has no integers.
        constant = int(node) if isinstance(node, float) and node.is_integer() else node
        return lambda event: constant
    parts = _parts(node)
    if len(parts) == 1 and not isinstance(parts[0], str):
        return parts[0]
    return text_format(node, omit_empty=omit_empty)
