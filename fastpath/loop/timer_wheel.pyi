from collections.abc import Sequence

def replay(steps: Sequence[tuple[str, int] | tuple[str, int, int]], *, start: int = 0) -> list[tuple[int, int]]:
    """Drive a wheel through `steps` and return what fired as (tick, timer) pairs, in order."""
