"""All that goes wrong at once, by chance: limits per endpoint, children, urgent bytes, pushes, no descriptors left.

Every byte that arrives is right and nobody is stuck; a client may be refused only because descriptors had run out; and
when all is over every gauge is back at zero. The seed is printed: EASTGATE_CHAOS_SEED repeats the choices, if not the
moments. EASTGATE_CHAOS_S is how long each case goes on.
"""

import json
import os
import random
import resource
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from eastgate.fastpath.tables.cluster_table import ClusterTable

from ..chaos_load import PATIENCE_S
from ..driven_engine import Gateway, columns

ROOT = Path(__file__).parents[3]
SECONDS = float(os.environ.get("EASTGATE_CHAOS_S", "4"))
# How often a piece of a stream ends with an urgent byte.
URGENT = float(os.environ.get("EASTGATE_CHAOS_URGENT", "0.3"))
UNLIMITED = 4294967295
# Times out of a thousand turns.
PUSH, FORK, EXEC, EXHAUST = 200, 40, 15, 15


class Load:
    """The other process, and what it printed."""

    def __init__(self, seed: int) -> None:
        command = [sys.executable, "-m", "tests.fastpath.chaos_load", str(seed), str(SECONDS), str(URGENT)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.endpoints = [(host, port) for host, port in json.loads(self._process.stdout.readline())]
        self._printed = ""
        self._reader = threading.Thread(target=self._read, daemon=True)

    def start(self, address: tuple[str, int]) -> None:
        assert self._process.stdin is not None
        with self._process.stdin as told:
            told.write(json.dumps(address) + "\n")
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as printed:
            self._printed = printed.read()

    @property
    def running(self) -> bool:
        return self._reader.is_alive()

    def met(self) -> dict[str, Any]:
        self._reader.join()
        assert self._process.wait() == 0
        found: dict[str, Any] = json.loads(self._printed)
        return found


class Disorder:
    """What befalls the process that relays. One draw per turn."""

    def __init__(self, gateway: Gateway, tables: list[ClusterTable], seed: int) -> None:
        self._gateway, self._tables, self._random = gateway, tables, random.Random(seed)
        self._children: list[int] = []
        self._programs: list[subprocess.Popen[bytes]] = []
        self.done = {"push": 0, "fork": 0, "exec": 0, "exhaust": 0}

    def strike(self) -> None:
        draw = self._random.randrange(1000)
        for name, share in (("push", PUSH), ("fork", FORK), ("exec", EXEC), ("exhaust", EXHAUST)):
            if draw < share:
                getattr(self, f"_{name}")()
                self.done[name] += 1
                return
            draw -= share

    def _push(self) -> None:
        gateway, draw = self._gateway, self._random
        gateway.slots.publish(
            gateway.slot,
            draw.choice(self._tables),
            connect_timeout_ms=draw.randint(1000, 5000),
            max_per_endpoint=draw.choice((1, 2, 3, UNLIMITED)),
        )
        gateway.engine.publish_routes(gateway.listener, gateway.route_to(gateway.slot, max_duration_ms=60_000))

    def _fork(self) -> None:
        """A child that only waits: for a while it holds a copy of every descriptor, dead sockets included."""
        pause_s = self._random.uniform(0.001, 0.1)
        with warnings.catch_warnings():
            # Python 3.12 warns of threads that a child does not have; this one runs nothing.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            time.sleep(pause_s)
            os._exit(0)
        self._children.append(child)

    def _exec(self) -> None:
        self._programs.append(subprocess.Popen(["sleep", f"{self._random.uniform(0.001, 0.1):.3f}"]))

    def _exhaust(self) -> None:
        with no_descriptors():
            for _ in range(self._random.randint(1, 6)):
                self._gateway.turn(0.005)

    def end(self) -> None:
        for child in self._children:
            assert os.waitpid(child, 0)[1] == 0
        for program in self._programs:
            assert program.wait() == 0


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing more can be opened in this process. Workers are at work meanwhile: as many as they give back are free."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limit[1]))
    held: list[int] = []
    try:
        with suppress(OSError):
            while True:
                held.append(os.dup(0))
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def settled(gateway: Gateway, tables: list[ClusterTable]) -> None:
    """Wait for the last connections to end; then nothing is held, charged or waited for."""
    gateway.until(lambda: gateway.engine.active_connections() == 0)
    counters = gateway.slots.counters(gateway.slot)
    assert (counters.cx_active, counters.pending_active) == (0, 0)
    for table in tables:
        assert [table.state(endpoint)[0] for endpoint in range(len(table))] == [0] * len(table)
    listener = gateway.engine.listener_counters(gateway.listener)
    assert (listener.cx_active, listener.cx_pre_active) == (0, 0)
    gateway.until(lambda: gateway.slots.reclaim() == 0)


@pytest.mark.timeout(SECONDS + 6 * PATIENCE_S)
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_nothing_is_lost_stuck_or_left_over(workers: int) -> None:
    seed = int(os.environ.get("EASTGATE_CHAOS_SEED") or random.SystemRandom().randrange(1 << 30))
    print(f"EASTGATE_CHAOS_SEED={seed}")
    load = Load(seed)
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        gateway = Gateway(dead.getsockname(), workers=workers)
        tables: list[ClusterTable] = []
        for chosen in ((0, 1, 2), (1, 2), (2,), (0, 2)):
            ends = columns(*[load.endpoints[index] for index in chosen], dead.getsockname())
            tables.append(ClusterTable.compile(ends, previous=tables[0] if tables else None))
        gateway.slots.publish(gateway.slot, tables[0])
        disorder = Disorder(gateway, tables, seed)
        load.start(gateway.address)
        while load.running:
            gateway.turn(0.005)
            disorder.strike()
        met = load.met()
        disorder.end()
        print({**met, **disorder.done})
        assert (met["wrong"], met["stuck"]) == ([], 0)
        assert met["refused"] == 0 or disorder.done["exhaust"] > 0
        assert met["exact"] > met["refused"]
        settled(gateway, tables)
        gateway.close()
