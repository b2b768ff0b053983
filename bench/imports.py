"""CPU time of what a gateway imports, by room and library: `PYTHON -P bench/imports.py [ROUNDS]`.

PYTHON is the interpreter to be measured: that of a fresh environment with a wheel in it, as the finder of an editable
install costs time of its own. Each round is a process; shown is the median of rounds, in milliseconds. A module's own
time is without that of the modules which it imports.
"""

import gc
import importlib.machinery as machinery
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

ROUNDS = 7
# The first that fits.
GROUPS = (
    ("admin, history, insight, h11", ("eastgate.proxy.admin", "eastgate.proxy.history", "eastgate.insight", "h11")),
    ("rest of proxy", ("eastgate.proxy", "eastgate.commands")),
    ("xds", ("eastgate.xds",)),
    ("fastpath", ("eastgate.fastpath",)),
    ("click", ("click",)),
    ("gRPC", ("grpc",)),
    ("uvloop", ("uvloop",)),
)
STEPS = (
    (machinery.FileFinder, "find_spec"),
    (machinery.SourceFileLoader, "exec_module"),
    (machinery.ExtensionFileLoader, "create_module"),
    (machinery.ExtensionFileLoader, "exec_module"),
)


def group(module: str) -> str:
    return next((name for name, heads in GROUPS if module.startswith(heads)), "Python's own")


def timed(step: Callable[..., Any], spent: Counter[str], inner: list[float]) -> Callable[..., Any]:
    """The step, which adds its own time to its module's."""

    def run(loader: object, what: Any, *more: Any) -> Any:
        begin = time.thread_time()
        inner.append(0.0)
        try:
            return step(loader, what, *more)
        finally:
            took = time.thread_time() - begin
            name = what if isinstance(what, str) else getattr(what, "name", None) or what.__name__
            spent[group(name)] += took - inner.pop()
            inner[-1] += took

    return run


def one_round() -> dict[str, float]:
    """In this process, which must have imported nothing of it."""
    spent: Counter[str] = Counter()
    inner = [0.0]
    for kind, name in STEPS:
        setattr(kind, name, timed(getattr(kind, name), spent, inner))
    # As `commands/lazy` does.
    gc.disable()
    import eastgate.commands.cli
    import eastgate.commands.gateway
    import eastgate.proxy.app  # noqa: F401
    import uvloop  # noqa: F401

    return {name: seconds * 1000 for name, seconds in spent.items()}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    command = (sys.executable, "-P", __file__, "--one")
    seen = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(rounds)]
    medians = {name: statistics.median(one[name] for one in seen) for name in seen[0]}
    for name, took in sorted(medians.items(), key=lambda one: -one[1]):
        print(f"{name:30} {took:6.1f} ms {took / sum(medians.values()):5.0%}")
    print(f"{'all':30} {sum(medians.values()):6.1f} ms")


if __name__ == "__main__":
    if sys.argv[1:] == ["--one"]:
        print(json.dumps(one_round()))
    else:
        main()
