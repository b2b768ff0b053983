"""`eastgate` with faults to be had: `FILE A,B ...`. SIGUSR2 has those of the functions A, B that FILE names raise.

A function is `module:name` or `module:Class.name`. Further arguments are those of `eastgate`. Says on stderr what
raises now.
"""

import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eastgate.commands.cli import main

raising: list[str] = []


def faulty(path: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, or a fault."""

    def called(*arguments: Any, **keywords: Any) -> Any:
        if path in raising:
            raise LookupError("injected")
        return function(*arguments, **keywords)

    return called


def patch(path: str) -> None:
    module, _, name = path.partition(":")
    owner: Any = importlib.import_module(module)
    *classes, attribute = name.split(".")
    for one in classes:
        owner = getattr(owner, one)
    setattr(owner, attribute, faulty(path, getattr(owner, attribute)))


if __name__ == "__main__":
    chosen = Path(sys.argv.pop(1))

    def switch(*_: object) -> None:
        raising[:] = chosen.read_text().split()
        os.write(2, f"raising: {' '.join(raising)}\n".encode())

    for each in sys.argv.pop(1).split(","):
        patch(each)
    signal.signal(signal.SIGUSR2, switch)
    main()
