"""Socket options of listeners: those that accepted connections take over from the socket that listens.

Only what cannot change where a connection goes: keepalive, how long sent bytes may stay unacknowledged, and the mark.
Whatever `state` says they are set before the first connection is accepted; Linux lets accepted sockets inherit them.
"""

import socket
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .fields import number

INT_MAX = 2**31 - 1
# (level, name) as Linux numbers them, which is what Envoy passes on.
HONOURED = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): "SO_KEEPALIVE",
    (socket.SOL_SOCKET, socket.SO_MARK): "SO_MARK",
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): "TCP_KEEPIDLE",
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): "TCP_KEEPINTVL",
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): "TCP_KEEPCNT",
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): "TCP_USER_TIMEOUT",
}


class SocketOption(NamedTuple):
    """One setsockopt with a number."""

    level: int
    name: int
    value: int


def decode_socket_options(options: Iterable[Mapping[str, Any]], warnings: list[str]) -> tuple[SocketOption, ...]:
    """Those that are honoured, in order; the others are named in `warnings`. Raises ValueError for bad numbers."""
    found = []
    for option in options:
        key = option.get("level", 0), option.get("name", 0)
        if key not in HONOURED or "int_value" not in option or option.keys() & {"type", "ip_version"}:
            said = option.get("description") or "no description"
            warnings.append(f"socket_options: level {key[0]}, name {key[1]} ({said}) is not set")
            continue
        found.append(SocketOption(*key, number(option, "int_value", 0, high=INT_MAX)))
    return tuple(found)
