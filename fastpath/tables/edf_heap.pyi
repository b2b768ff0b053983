from collections.abc import Sequence

def replay(weights: Sequence[float], picks: int, *, seed: int) -> list[int]:
    """Start a queue at a random place and return whose turn it was, `picks` times."""
