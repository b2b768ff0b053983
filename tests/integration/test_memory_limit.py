"""A gateway in a cgroup whose memory ends: new connections are shed by name, open ones go on, and it comes back."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pytest
from eastgate.proxy.cgroup import folders
from eastgate.proxy.limits import SHED_FROM

from ..support import messages
from ..support.gateway_process import ConfinedGateway
from ..support.hellos import client_hello
from ..support.replay_ads import ReplayThread
from ..support.tls_echo import Endpoint, PlainPeer, Reader
from ..support.waiting import until

NAME = messages.sni("echo")
LIMIT = 800 << 20
STEP = 8 << 20
# What else uses the memory of the container: each line that it reads, it takes a step more.
NEIGHBOUR = f"""
import os, pathlib, sys
pathlib.Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
held = []
for _ in sys.stdin:
    held.append(b"x" * {STEP})
    print(len(held), flush=True)
"""


def limited_group() -> Path | None:
    """A new cgroup below ours with a memory limit (v1 or v2); None where this process may make none."""
    for parent in folders("memory"):
        group = parent / f"eastgate-test-{os.getpid()}"
        with suppress(OSError):
            group.mkdir()
            for limit in ("memory.max", "memory.limit_in_bytes"):
                if (group / limit).exists():
                    (group / limit).write_text(str(LIMIT))
                    return group
            group.rmdir()
    return None


def used_bytes(group: Path) -> int:
    found = [group / name for name in ("memory.current", "memory.usage_in_bytes") if (group / name).exists()]
    return int(found[0].read_text())


@contextmanager
def asking(address: tuple[str, int]) -> Iterator[tuple[PlainPeer, Reader]]:
    """A relayed connection whose endpoint has been asked who it is."""
    with socket.create_connection(address, timeout=10) as client:
        peer = PlainPeer(client)
        peer.send(client_hello(NAME) + b"WHO\n")
        yield peer, Reader(peer)


@pytest.fixture
def group() -> Iterator[Path]:
    made = limited_group()
    if made is None:
        pytest.skip("no cgroup can be made here")
    yield made
    made.rmdir()


class Neighbour:
    """What else uses the memory of the container."""

    def __init__(self, group: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", NEIGHBOUR, str(group)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def take(self) -> None:
        """STEP bytes more."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline()


def test_memory_that_ends_sheds_new_connections_and_no_open_one(group: Path) -> None:
    join = f"open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))"
    with (
        Endpoint(("127.0.0.1", 0), tls=None) as endpoint,
        ReplayThread(messages.resources({NAME: [messages.At(endpoint.address)]})) as control,
        ConfinedGateway(control.address, join) as proxy,
    ):
        proxy.wait_ready()
        address = proxy.bound_address(messages.LISTENER)
        refused = f"listener.{messages.LISTENER}.refused.overload"
        assert proxy.json("/server_info")["eastgate"]["limits"]["memory_limit_bytes"] == LIMIT
        with asking(address) as (ask, reader):
            assert reader.line()
            with Neighbour(group) as neighbour:
                while used_bytes(group) < LIMIT * (SHED_FROM + 0.01):
                    neighbour.take()
                until(lambda: "memory ends, new connections are shed" in proxy.stderr, "it is told")
                with socket.create_connection(address) as shed:
                    shed.settimeout(10)
                    with pytest.raises(ConnectionResetError):
                        shed.recv(1)
                assert proxy.stat(refused) == 1
                assert proxy.stat("overload.envoy.resource_monitors.cgroup_memory.pressure") >= 95
                ask.send(b"WHO\n")
                assert reader.line()
            until(lambda: "connections are taken again" in proxy.stderr, "the neighbour has left")
        with asking(address) as (_, reader):
            assert reader.line()
        assert proxy.stat(refused) == 1
