from collections.abc import Iterable
from typing import NamedTuple

BOUNDS: tuple[float, ...]

class Durations(NamedTuple):
    """Milliseconds: their sum, and how many there are in each bucket; see BOUNDS. The last bucket has no bound."""

    sum_ms: int
    counts: tuple[int, ...]

def counted(durations_ns: Iterable[int]) -> Durations:
    """Durations of these, for tests of the buckets."""
