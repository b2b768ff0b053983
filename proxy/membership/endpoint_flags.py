"""Why endpoints are out besides what EDS says: flags by row, and the columns that a table is then compiled from."""

from collections.abc import Callable
from dataclasses import replace

from eastgate.xds.columns import Columns, EndpointKey, Health
from eastgate.xds.record import record
from eastgate.xds.resources import Assignment, Cluster

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

HEALTHY_STATUSES = (Health.UNKNOWN, Health.HEALTHY)


@record
class Live:
    """An assignment as it is used: with endpoints that discovery has removed and that are kept, and flags by row.

    ``flags`` empty: none. ``waiting``: it is not to be used before more is known, when nothing is published yet.
    """

    assignment: Assignment
    flags: bytes = b""
    waiting: bool = False


Key = EndpointKey
Judge = Callable[[Cluster, Assignment], Live]


def as_discovered(_: Cluster, assignment: Assignment) -> Live:
    """The judge that knows nothing beyond EDS."""
    return Live(assignment)


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
            health[row] = Health.DRAINING
        elif bits & DEGRADED_ACTIVE_CHECK and health[row] in HEALTHY_STATUSES:
            health[row] = Health.DEGRADED
    return replace(columns, health=bytes(health)), bytes(bits & FAILED for bits in flags)
