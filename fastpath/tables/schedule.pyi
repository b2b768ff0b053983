from collections.abc import Sequence

def spread(shares: Sequence[float], phases: Sequence[float], *, limit: int = 256) -> list[int]:
    """Return the shortest exact cycle as indices into `shares`, or [] when it takes more than `limit` turns."""

def alias_cells(shares: Sequence[float]) -> list[tuple[int, int]]:
    """Return the alias table of `shares`, which sum to 1: (part of 2^32 that is the cell's own, other entry) each."""
