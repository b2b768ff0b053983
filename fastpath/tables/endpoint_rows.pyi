from typing import final

from .cluster_table import Columns

@final
class EndpointRows:
    """Columns once checked. Keeps the buffers alive that `rows` points into; immutable."""

    columns: Columns
    def __init__(self, columns: Columns, failed: bytes, factors: bytes = b"") -> None: ...

def first_occurrences(columns: Columns) -> list[int]:
    """Return for each row the first row with its address: itself, unless it is a duplicate, which Envoy drops.

    Raises ValueError naming field and row for impossible columns.
    """
