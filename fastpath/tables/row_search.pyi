from collections.abc import Iterable

from .cluster_table import Columns

def find_rows(columns: Columns, wanted: Iterable[tuple[bytes, int, int]]) -> dict[tuple[bytes, int, int], int]:
    """(address, port, family) -> its first row, of those in `wanted` that are there. Addresses are 16 bytes as in
    columns: Unix sockets, whose bytes are an index there, cannot be asked for."""
