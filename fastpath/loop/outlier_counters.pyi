from eastgate.fastpath.tables.cluster_table import ClusterTable

from .cluster_slots import ClusterSlots

FAILURES: int
GATEWAY: int

def host_count(table: ClusterTable) -> int:
    """How many endpoints the cluster has: duplicates of an address count once."""

def take_crossed(table: ClusterTable) -> list[tuple[int, int]]:
    """(row, bits) of endpoints that crossed a threshold since the last call: FAILURES, GATEWAY or both."""

def take_volumes(table: ClusterTable, minimum: int) -> list[tuple[int, int, int]]:
    """(row, connected, ended) since the last call, of endpoints with at least `minimum`, and 1, connects that ended."""

def reset_failures(table: ClusterTable, endpoint: int, bits: int) -> None:
    """Begin to count failures in a row anew: FAILURES, GATEWAY or both."""

def restart(table: ClusterTable) -> None:
    """Begin all of it anew, for every endpoint."""

def record(slots: ClusterSlots, slot: int, table: ClusterTable, endpoint: int, connected: bool) -> None:
    """Count the end of a connect as workers do. For tests of what is made of it."""
