"""Ports for processes that must be told theirs before they listen."""

import random
import socket
from contextlib import suppress
from pathlib import Path


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at any address, below those that the kernel gives to clients and to port 0."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    for port in random.sample(range(first // 2, first), 200):
        with suppress(OSError), socket.create_server(("", port)):
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError(f"fewer than {count} of 200 ports are free")


def free_port() -> int:
    return free_ports(1)[0]
