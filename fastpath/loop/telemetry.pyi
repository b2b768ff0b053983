from typing import NamedTuple

from eastgate.fastpath.tables.cluster_table import ClusterTable

from .cluster_slots import ClusterSlots

class TrafficCounters(NamedTuple):
    """Of an endpoint or a peer; bytes are those of downstream. `principal`: empty where nobody said who it is."""

    opened: int
    closed: int
    sent: int
    received: int
    failed: int
    principal: str

def of_endpoints(table: ClusterTable) -> list[tuple[int, TrafficCounters]]:
    """(row, TrafficCounters) of the endpoints that had connections. A row that repeats an address is left out."""

def of_row(table: ClusterTable, row: int) -> TrafficCounters:
    """TrafficCounters of one row of `of_endpoints`."""

def departed(before: ClusterTable, after: ClusterTable | None) -> list[int]:
    """Rows of `before` whose endpoints had connections, and are not in `after`; None: there is no table any more."""

def of_cluster(slots: ClusterSlots, slot: int) -> tuple[dict[int, int], list[TrafficCounters]]:
    """(connections that were not served, by Reason; TrafficCounters of each peer) of the cluster that holds `slot`."""
