def forbid() -> None:
    """From now on, and for good. What this process starts is not concerned. Raises OSError."""

def is_forbidden() -> bool:
    """Whether there will be no image."""
