from collections.abc import Collection

from .cluster_table import ClusterTable

def next_untried(table: ClusterTable, tried: Collection[int], *, seed: int) -> int:
    """Row that a connection goes to whose picks all gave rows of `tried`; -1: nobody is left. At most 4 rows."""
