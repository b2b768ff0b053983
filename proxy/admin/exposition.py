"""Prometheus' text format 0.0.4: samples come in any order, their families are told one after the other."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from eastgate.fastpath.loop.histogram import BOUNDS, Durations

from .stat import Group, Kind, Names, Stat

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PIECE_BYTES = 65536
# Rows of which the text is made at once.
ROWS = 256
# About as much as a sample's line has.
SAMPLE_BYTES = 100
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


class _Rows:
    """Groups that have the same names: the labels and values of each."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.labels: list[str] = []
        self.values: list[Sequence[int]] = []

    def texts(self, name: str, place: int) -> Iterator[str]:
        """The samples of the family at this place of the names."""
        for start in range(0, len(self.labels), ROWS):
            rows = zip(self.labels[start : start + ROWS], self.values[start : start + ROWS], strict=True)
            yield "".join([f"{name}{labels} {values[place]}\n" for labels, values in rows])


class _Family:
    def __init__(self, name: str, kind: Kind, said: str) -> None:
        self.name = family_name(name)
        self.head = f"# HELP {self.name} {said}\n" if said else ""
        self.head += f"# TYPE {self.name} {kind}\n"
        self.single: list[tuple[str, int | Durations]] = []
        self.rows: list[tuple[_Rows, int]] = []

    def texts(self) -> Iterator[str]:
        yield self.head
        for labels, value in self.single:
            if isinstance(value, Durations):
                yield _histogram_text(self.name, labels, value)
            else:
                yield f"{self.name}{labels} {value}\n"
        for rows, place in self.rows:
            yield from rows.texts(self.name, place)


class Exposition:
    """Samples by family. Holds values and labels alone, and makes the text anew for each who reads it: that of a large
    mesh takes megabytes, of which whoever is slow has one piece.
    """

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}
        self._rows: dict[int, _Rows] = {}
        self._labels: dict[tuple[tuple[str, str], ...], str] = {}
        self._samples = 0

    def add(self, one: Stat | Group) -> None:
        """Take up one sample, or those of a group."""
        labels = self._label_text(one.labels)
        if isinstance(one, Stat):
            self._samples += 1
            family = self._family(one.family, one.kind, one.help)
            family.single.append((labels, one.value if one.durations is None else one.durations))
            return
        self._samples += len(one.values)
        rows = self._rows.get(id(one.names))
        if rows is None:
            # They hold the names, so that nothing else is given their id.
            rows = self._rows[id(one.names)] = _Rows(one.names)
            for place, (name, gauge) in enumerate(zip(one.names.families, one.names.gauges, strict=True)):
                self._family(name, Kind.GAUGE if gauge else Kind.COUNTER, "").rows.append((rows, place))
        rows.labels.append(labels)
        rows.values.append(one.values)

    @property
    def weight(self) -> int:
        """How many bytes the text has, roughly."""
        return SAMPLE_BYTES * self._samples

    def __iter__(self) -> Iterator[bytes]:
        """The whole text, in pieces."""
        waiting = bytearray()
        for family in self._families.values():
            for text in family.texts():
                waiting += text.encode("utf-8", "backslashreplace")
                while len(waiting) >= PIECE_BYTES:
                    yield bytes(waiting[:PIECE_BYTES])
                    del waiting[:PIECE_BYTES]
        yield bytes(waiting)

    def _family(self, name: str, kind: Kind, said: str) -> _Family:
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = _Family(name, kind, said)
        return family

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


def as_prometheus(stats: Iterable[Stat | Group]) -> bytes:
    """All of it at once."""
    text = Exposition()
    for stat in stats:
        text.add(stat)
    return b"".join(text)
