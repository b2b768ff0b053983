from collections.abc import Sequence

def ring_size(weights: Sequence[float], minimum: int, maximum: int) -> tuple[int, int]:
    """(size as Envoy's gauge has it, entries) of the ring of these normalised weights, each above 0, at most 1."""
