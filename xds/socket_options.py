"""Socket options: of listeners, those that accepted connections take over; of clusters, those of sockets to endpoints.

Of listeners only what cannot change where a connection goes: keepalive, how long sent bytes may stay unacknowledged,
and the mark. Whatever `state` says they are set before the first connection is accepted; Linux lets accepted sockets
inherit them. Of clusters what is one setsockopt with a number before the socket is bound.
"""

import socket
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .fields import number

INT_MIN, INT_MAX = -(2**31), 2**31 - 1
_INT_BYTES = 4
# (level, name) as Linux numbers them, which is what Envoy passes on.
HONOURED = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): "SO_KEEPALIVE",
    (socket.SOL_SOCKET, socket.SO_MARK): "SO_MARK",
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): "TCP_KEEPIDLE",
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): "TCP_KEEPINTVL",
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): "TCP_KEEPCNT",
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): "TCP_USER_TIMEOUT",
}
# What the socket module does not name.
_IP_FREEBIND, IP_BIND_ADDRESS_NO_PORT, _IPV6_FREEBIND = 15, 24, 78
FREEBIND = {4: (socket.IPPROTO_IP, _IP_FREEBIND), 6: (socket.IPPROTO_IPV6, _IPV6_FREEBIND)}
UPSTREAM = {
    **HONOURED,
    (socket.SOL_SOCKET, socket.SO_PRIORITY): "SO_PRIORITY",
    (socket.SOL_SOCKET, socket.SO_SNDBUF): "SO_SNDBUF",
    (socket.SOL_SOCKET, socket.SO_RCVBUF): "SO_RCVBUF",
    (socket.IPPROTO_TCP, socket.TCP_SYNCNT): "TCP_SYNCNT",
    (socket.IPPROTO_TCP, socket.TCP_MAXSEG): "TCP_MAXSEG",
    (socket.IPPROTO_IP, socket.IP_TOS): "IP_TOS",
    (socket.IPPROTO_IP, _IP_FREEBIND): "IP_FREEBIND",
    (socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT): "IP_BIND_ADDRESS_NO_PORT",
    (socket.IPPROTO_IPV6, socket.IPV6_TCLASS): "IPV6_TCLASS",
    (socket.IPPROTO_IPV6, _IPV6_FREEBIND): "IPV6_FREEBIND",
}
_OF_VERSION = {"SOCKET_IP_VERSION_IPV4": 4, "SOCKET_IP_VERSION_IPV6": 6}
# SocketOption.SocketType with its `datagram` set.
_DATAGRAM = b"\x12"


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


def decode_upstream_options(
    where: str, options: Iterable[Mapping[str, Any]], family: int, warnings: list[str]
) -> tuple[SocketOption, ...]:
    """Those that are set on sockets to endpoints of a family (4 or 6), in order; others of `where` are named.

    Raises ValueError for a number that no option holds.
    """
    found = []
    for option in options:
        key = option.get("level", 0), option.get("name", 0)
        if option.get("type", b"").startswith(_DATAGRAM):
            continue
        if _OF_VERSION.get(option.get("ip_version", ""), family) != family:
            continue
        if key[0] == socket.IPPROTO_IPV6 and family == 4:
            continue
        said = f"{where}: level {key[0]}, name {key[1]} ({option.get('description') or 'no description'})"
        if option.get("state", "STATE_PREBIND") != "STATE_PREBIND":
            warnings.append(f"{said} is not set: a connection has no {option['state']}")
        elif key not in UPSTREAM or not ("int_value" in option or len(option.get("buf_value", b"")) == _INT_BYTES):
            warnings.append(f"{said} is not set")
        elif "int_value" in option:
            found.append(SocketOption(*key, number(option, "int_value", 0, low=INT_MIN, high=INT_MAX)))
        else:
            value = int.from_bytes(option["buf_value"], sys.byteorder, signed=True)
            found.append(SocketOption(*key, value))
    return tuple(found)
