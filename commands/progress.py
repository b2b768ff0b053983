"""How far a command is, on stderr: a bar on a terminal, and some lines elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Of a long way, so many lines go to a file.
LINES = 10


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """Tells how many are done of how many, and which was the last."""
    if not sys.stderr.isatty():
        yield lambda done, total, name: _line(what, done, total, name)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total, name: bar.update(task, completed=done, total=total, description=f"{what}: {name}")


def reading(path: str) -> Callable[[int, int], None]:
    """Says how far a large mesh file, or one of a folder, has been read."""
    return _percent(f"reading {path}", " of {total:,} bytes")


def predicting(what: str) -> Callable[[int, int], None]:
    """Says how far a prediction for a large mesh is."""
    return _percent(f"predicting {what}")


def _percent(doing: str, of: str = "") -> Callable[[int, int], None]:
    """``of``: what may follow the percentage, with the field {total}."""
    from eastgate.mesh.documents import now_and_then

    def tell(done: int, total: int) -> None:
        sys.stderr.write(f"eastgate: {doing}: {100 * done // total} %{of.format(total=total)}\n")

    return now_and_then(tell)


def _line(what: str, done: int, total: int, name: str) -> None:
    if done == total or done % max(1, total // LINES) == 0:
        sys.stderr.write(f"eastgate: {what}: {done} of {total} ({name})\n")
