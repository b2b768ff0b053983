"""Prometheus' text format 0.0.4: samples come in any order, their families are told one after the other."""

import re
from collections.abc import Iterable, Iterator

from .stats import Stat

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PIECE_BYTES = 65536
_FOREIGN = re.compile(r"[^a-zA-Z0-9_:]")
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def family_name(text: str) -> str:
    """The text as a metric's name: what no name may hold becomes an underscore."""
    name = _FOREIGN.sub("_", text)
    return f"_{name}" if name[:1].isdigit() else name


class Exposition:
    """Text by family. Holds the text alone: a large mesh has a hundred thousand samples."""

    def __init__(self) -> None:
        self._families: dict[str, bytearray] = {}
        self._labels: dict[tuple[tuple[str, str], ...], str] = {}

    def add(self, stat: Stat) -> None:
        """Take up one sample."""
        text = self._families.get(stat.family)
        name = family_name(stat.family)
        if text is None:
            text = self._families[stat.family] = bytearray()
            if stat.help:
                text += f"# HELP {name} {stat.help}\n".encode()
            text += f"# TYPE {name} {'gauge' if stat.gauge else 'counter'}\n".encode()
        text += f"{name}{self._label_text(stat.labels)} {stat.value}\n".encode("utf-8", "backslashreplace")

    def pieces(self) -> Iterator[bytes]:
        """The whole text; what was given out is forgotten."""
        waiting = bytearray()
        while self._families:
            waiting += self._families.pop(next(iter(self._families)))
            while len(waiting) >= PIECE_BYTES:
                yield bytes(waiting[:PIECE_BYTES])
                del waiting[:PIECE_BYTES]
        yield bytes(waiting)

    def _label_text(self, labels: tuple[tuple[str, str], ...]) -> str:
        if not labels:
            return ""
        text = self._labels.get(labels)
        if text is None:
            pairs = ",".join(f'{key}="{value.translate(_ESCAPES)}"' for key, value in labels)
            # Neighbours share theirs: all counters of a cluster.
            self._labels = {labels: f"{{{pairs}}}"}
            text = self._labels[labels]
        return text


def as_prometheus(stats: Iterable[Stat]) -> bytes:
    """All of it at once."""
    text = Exposition()
    for stat in stats:
        text.add(stat)
    return b"".join(text.pieces())
