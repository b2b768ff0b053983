"""Prometheus' text format 0.0.4: samples come in any order, their families are told one after the other."""

import re
from collections.abc import Iterable, Iterator
from itertools import accumulate

from eastgate.fastpath.loop.histogram import BOUNDS, Durations

from .stat import Stat

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PIECE_BYTES = 65536
# How Envoy writes them: no exponent.
_BOUNDS = (*(f"{bound:.32g}" for bound in BOUNDS), "+Inf")
_FOREIGN = re.compile(r"[^a-zA-Z0-9_:]")
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def family_name(text: str) -> str:
    """The text as a metric's name: what no name may hold becomes an underscore."""
    name = _FOREIGN.sub("_", text)
    return f"_{name}" if name[:1].isdigit() else name


def _histogram_text(name: str, labels: str, durations: Durations) -> str:
    head = f'{name}_bucket{labels[:-1]},le="' if labels else f'{name}_bucket{{le="'
    lines = [f'{head}{bound}"}} {count}\n' for bound, count in zip(_BOUNDS, accumulate(durations.counts), strict=True)]
    lines.append(f"{name}_sum{labels} {durations.sum_ms}\n{name}_count{labels} {sum(durations.counts)}\n")
    return "".join(lines)


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
            text += f"# TYPE {name} {stat.kind}\n".encode()
        labels = self._label_text(stat.labels)
        if stat.durations is None:
            text += f"{name}{labels} {stat.value}\n".encode("utf-8", "backslashreplace")
        else:
            text += _histogram_text(name, labels, stat.durations).encode("utf-8", "backslashreplace")

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
