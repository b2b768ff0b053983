def offset_and_skip(key: bytes, size: int) -> tuple[int, int]:
    """The first place that an endpoint of this key looks at in a table, and in what steps it goes on."""
