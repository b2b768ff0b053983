"""Addresses of loopback that belong to one trial: all of 127.0.0.0/8 is this machine's, so each workload may have one.

Proxies share their ports with other processes of the same user (SO_REUSEPORT): two trials at the same address would
get each other's connections. An abstract Unix socket is the claim: nobody else can make it, and it ends with us.
"""

import errno
import socket
from ipaddress import IPv4Address
from typing import Self

from eastgate.proxy.errors import TrialError

FIRST = IPv4Address("127.0.1.0")
BLOCKS = 200
BLOCK = 256


def is_free(address: str, port: int) -> bool:
    """Whether nobody listens there, nor at the port of all addresses. Raises PermissionError."""
    try:
        with socket.create_server((address, port)):
            return True
    except OSError as error:
        if error.errno == errno.EACCES:
            raise PermissionError(error.errno, "below 1024 takes root") from None
        return False


def some_port(address: str) -> int:
    """A port of an address that the kernel says is free."""
    with socket.create_server((address, 0)) as found:
        return int(found.getsockname()[1])


def _claimed(base: IPv4Address) -> socket.socket | None:
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0eastgate-trial-{base}")
    except OSError:
        claim.close()
        return None
    return claim


class Loopback:
    """A block of addresses that is ours until it is closed."""

    def __init__(self, base: IPv4Address, claim: socket.socket) -> None:
        self._base, self._claim = base, claim

    @classmethod
    def claim(cls, port: int) -> Self:
        """The first block that nobody has and at whose first address this port is free. Raises TrialError."""
        for number in range(BLOCKS):
            base = FIRST + number * BLOCK
            claim = _claimed(base)
            if claim is None:
                continue
            try:
                if is_free(str(base + 1), port):
                    return cls(base, claim)
            except PermissionError as error:
                claim.close()
                raise TrialError(f"port {port} of the service, where its clients reach it: {error.strerror}") from None
            claim.close()
        raise TrialError(
            f"port {port} of the service is not free at any address of loopback: end what listens there"
            f" (ss -ltnp 'sport = :{port}')"
        )

    def address(self, number: int) -> str:
        """The address of that number, from 1."""
        return str(self._base + number)

    def close(self) -> None:
        """Let others have it."""
        self._claim.close()
