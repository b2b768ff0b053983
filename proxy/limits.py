"""How many connections the machine lets this process have, and when its memory ends.

Descriptors: two a connection, and some for pipes, behind a reserve for control plane, admin, probes and health checks.
Memory: what the cgroup (v1 and v2) grants beyond the process itself. That is an estimate of quiet connections; those
that are not are met by shedding new ones before the limit is reached, as Envoy's overload manager does.
"""

from pathlib import Path
from typing import Any

from eastgate.xds.record import record

from .cgroup import CGROUP, MOUNT, folders

# Descriptors of the process itself: streams, files, sockets of admin, and as many checks at once.
RESERVE = 1024
# Where there are few, a part of them: 1/RESERVE_PART.
RESERVE_PART = 4
PIPES_OF_WORKER = 1024
# Of what is not reserved, at most this part goes to pipes: without them flows are copied.
PIPE_PART = 4
# What a quiet connection takes: two sockets with their structures in the kernel, and ours.
CONNECTION_BYTES = 16 << 10
# What a process with the configuration of a large mesh takes, and the least part that connections get all the same.
OWN_BYTES = 128 << 20
LEAST_PART = 4
MOST_CONNECTIONS = 100_000_000
# Parts of the memory limit: from the first on new connections are shed, below the second no longer.
SHED_FROM, SHED_UNTIL = 0.95, 0.90
_UNLIMITED = 1 << 60


@record
class Limits:
    """``connections`` and what they come from: descriptors, memory, or asked (by hand). ``machine``: what they would be
    unless asked. ``memory_bytes``: of the cgroup; None without a limit. ``admin``: clients of each admin port.
    """

    connections: int
    source: str
    machine: int
    descriptors: int
    reserve: int
    pipes_of_worker: int
    memory_bytes: int | None

    @property
    def silent(self) -> int:
        """Connections that may not have said yet what they want; the oldest goes first. Never all places."""
        return max(1, self.connections // 2)

    @property
    def admin(self) -> int:
        return max(4, min(256, self.reserve // 4))

    def as_json(self) -> dict[str, Any]:
        """For /server_info and the log."""
        return {
            "max_connections": self.connections,
            "max_silent_connections": self.silent,
            "from": self.source,
            "descriptors": self.descriptors,
            "reserved_descriptors": self.reserve,
            "memory_limit_bytes": self.memory_bytes,
        }


def limits_of(descriptors: int, memory_bytes: int | None, *, workers: int, asked: int | None = None) -> Limits:
    """What a process with so many descriptors and so much memory may hold. ``asked``: by hand, which wins."""
    reserve = min(RESERVE, descriptors // RESERVE_PART)
    free = descriptors - reserve
    threads = workers or 1
    pipes = min(PIPES_OF_WORKER, free // PIPE_PART // 2 // threads)
    by_descriptors = max(1, (free - 2 * pipes * threads) // 2)
    found = [(MOST_CONNECTIONS, "none"), (by_descriptors, "descriptors")]
    if memory_bytes is not None:
        left = max(memory_bytes - OWN_BYTES, memory_bytes // LEAST_PART)
        found.append((max(1, left // CONNECTION_BYTES), "memory"))
    machine, source = min(found)
    return Limits(
        connections=machine if asked is None else asked,
        source=source if asked is None else "asked",
        machine=machine,
        descriptors=descriptors,
        reserve=reserve,
        pipes_of_worker=pipes,
        memory_bytes=memory_bytes,
    )


def _number(path: Path) -> int | None:
    """What the file says; None for "max", for v1's number that means the same, and without the file."""
    try:
        value = int(path.read_text())
    except (OSError, ValueError):
        return None
    return value if 0 <= value < _UNLIMITED else None


class Memory:
    """The cgroup whose memory limit is the tightest. ``limit_bytes`` None: there is none."""

    def __init__(self, cgroup: Path = CGROUP, mount: Path = MOUNT) -> None:
        self.limit_bytes: int | None = None
        self._usage = Path()
        self._stat = Path()
        for folder in folders("memory", cgroup, mount):
            for limit, usage in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
                value = _number(folder / limit)
                if value and (self.limit_bytes is None or value < self.limit_bytes):
                    self.limit_bytes, self._usage, self._stat = value, folder / usage, folder / "memory.stat"

    def used_bytes(self) -> int:
        """In use, without what the kernel takes back first: inactive pages of files. 0 when nothing is known."""
        used = _number(self._usage) or 0
        try:
            lines = self._stat.read_text().splitlines()
        except OSError:
            lines = []
        for line in lines:
            name, _, value = line.partition(" ")
            # v1 counts its own in one and those below it in the other.
            if name in ("inactive_file", "total_inactive_file") and value.isdigit():
                return max(0, used - int(value))
        return used

    def pressure(self) -> float:
        """Part of the limit that is in use; 0 without one."""
        return self.used_bytes() / self.limit_bytes if self.limit_bytes else 0.0


class Overload:
    """Whether new connections are to be shed. ``update`` says whether that has changed."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.active = False
        self.pressure = 0.0

    def update(self) -> bool:
        """Look at the memory."""
        self.pressure = self.memory.pressure()
        before = self.active
        self.active = self.pressure >= (SHED_UNTIL if before else SHED_FROM)
        return self.active is not before
