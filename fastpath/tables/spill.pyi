from typing import NamedTuple

from .cluster_table import ClusterTable

class Tally(NamedTuple):
    """`connections` were established, `active` of them are open; bytes are those from and to the endpoints."""

    connections: int
    failures: int
    active: int
    received: int
    sent: int

def by_locality(table: ClusterTable) -> dict[int, Tally]:
    """Tally by index of the columns' localities, of those whose endpoints were tried."""

def moves(before: ClusterTable, after: ClusterTable | None) -> list[tuple[int, int, int, Tally]]:
    """Endpoints of `before` that were tried, and where they stand in `after`; None: there is no table any more.

    (row, index of its locality, index in `after` or -1, Tally at this moment) each; none where all stand as they did.
    """

def of_row(table: ClusterTable, row: int) -> Tally:
    """Tally of one endpoint."""
