"""What a command of the lab ends with: the one that was asked for, or one line on stderr and exit code 2."""

import sys
from collections.abc import Callable, Mapping

from .errors import LabError


def run_command(name: str, usage: str, commands: Mapping[str, Callable[[list[str]], None]]) -> int:
    """Run the command that this process was started with; ``name`` is who speaks when it fails."""
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        print(usage, file=sys.stderr)
        return 2
    try:
        commands[sys.argv[1]](sys.argv[2:])
    except LabError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    return 0
