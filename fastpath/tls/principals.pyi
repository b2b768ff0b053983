MANY: str
"""Stands for all beyond the limit."""

def interned(name: bytes) -> tuple[str, int]:
    """The name as it is kept, and where: for tests."""
