from .cluster_table import Columns

def first_occurrences(columns: Columns) -> list[int]:
    """Per row, the first row with the same family, address and port: itself unless it is a duplicate, which Envoy drops.

    Raises ValueError naming field and row for impossible columns.
    """
