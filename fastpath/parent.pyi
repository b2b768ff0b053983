def end_with(process: int) -> bool:
    """From now on this process ends when its parent, `process`, does; return False when that has happened already.

    Ask for the parent before anything else is done, or a parent that ended meanwhile is not noticed. Raises OSError.
    """
