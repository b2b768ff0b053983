"""Where tables for people go."""

import sys

from rich.console import Console


def output_console() -> Console:
    """Standard output; where that is no terminal tables are wide, and sentences one line each."""
    terminal = sys.stdout.isatty()
    return Console(width=None if terminal else 200, markup=False, highlight=False, soft_wrap=not terminal)
