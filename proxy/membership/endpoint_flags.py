"""Why endpoints are out besides what EDS says: flags by row, and the columns that a table is then compiled from."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from socket import AF_INET, AF_INET6, inet_ntop

from eastgate.xds.resources import Assignment, Cluster, Columns

from .endpoint_health import Cause

# Bits of one endpoint; the first two are the causes that endpoint_health knows.
FAILED_OUTLIER_CHECK = int(Cause.FAILED_OUTLIER_CHECK)
FAILED_ACTIVE_CHECK = int(Cause.FAILED_ACTIVE_HC)
PENDING_FIRST_CHECK = 4
DEGRADED_ACTIVE_CHECK = 8
CHECK_TIMED_OUT = 16
PENDING_REMOVAL = 32
EXCLUDED_BY_ANSWER = 64
EXCLUDED = PENDING_FIRST_CHECK | EXCLUDED_BY_ANSWER
FAILED = FAILED_ACTIVE_CHECK | FAILED_OUTLIER_CHECK

# EDS HealthStatus by number.
HEALTHY_STATUSES = (0, 1)
DRAINING, DEGRADED = 3, 5


@dataclass(frozen=True, slots=True)
class Live:
    """An assignment as it is used: with endpoints that discovery has removed and that are kept, and flags by row.

    ``flags`` empty: none. ``waiting``: it is not to be used before more is known, when nothing is published yet.
    """

    assignment: Assignment
    flags: bytes = b""
    waiting: bool = False


Key = tuple[str, int]
Judge = Callable[[Cluster, Assignment], Live]


def as_discovered(_: Cluster, assignment: Assignment) -> Live:
    """The judge that knows nothing beyond EDS."""
    return Live(assignment)


def endpoint_keys(columns: Columns) -> list[Key]:
    """(address, port) by row; a Unix socket by its path and 0."""
    ports = memoryview(columns.port).cast("H")
    found: list[Key] = []
    for row in range(columns.count):
        packed = columns.address[16 * row : 16 * row + 16]
        if columns.family[row] == 1:
            (number,) = struct.unpack_from("=I", packed)
            found.append((columns.names[number].decode("utf-8", "surrogateescape"), 0))
        else:
            four = columns.family[row] == 4
            host = inet_ntop(AF_INET, packed[:4]) if four else inet_ntop(AF_INET6, packed)
            found.append((host, ports[row]))
    return found


def combined(flags: bytes, others: bytes) -> bytes:
    """Both by row; either may be empty."""
    if not flags or not others:
        return flags or others
    return bytes(one | other for one, other in zip(flags, others, strict=True))


def judged(columns: Columns, flags: bytes) -> tuple[Columns, bytes]:
    """Columns and `failed` for ClusterTable.compile.

    An endpoint that is excluded is failed and does not count among the endpoints, which is what DRAINING says; one that
    calls itself degraded is that unless EDS says worse.
    """
    if not any(flags):
        return columns, b""
    health = bytearray(columns.health)
    for row, bits in enumerate(flags):
        if bits & EXCLUDED:
            health[row] = DRAINING
        elif bits & DEGRADED_ACTIVE_CHECK and health[row] in HEALTHY_STATUSES:
            health[row] = DEGRADED
    return replace(columns, health=bytes(health)), bytes(bits & FAILED for bits in flags)
