"""Where tables for people go."""

import sys

from rich.console import Console


def output_console() -> Console:
    """Standard output; where that is no terminal tables are wide, and sentences one line each.

    What stands between two colons is a part of an address, and no name of an emoji.
    """
    terminal = sys.stdout.isatty()
    width = None if terminal else 200
    return Console(width=width, markup=False, highlight=False, emoji=False, soft_wrap=not terminal)
