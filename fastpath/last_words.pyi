def arm(text: str) -> None:
    """Have `text` said, behind the signal and the time in seconds since 1970, when a fatal signal comes.

    Raises ValueError for a text that is too long, or no line.
    """
