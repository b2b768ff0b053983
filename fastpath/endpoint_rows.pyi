from .cluster_table import Columns

def first_occurrences(columns: Columns) -> list[int]:
    """Return for each row the first row with its address: itself, unless it is a duplicate, which Envoy drops.

    Raises ValueError naming field and row for impossible columns.
    """
