"""What of the stats is asked for."""

from eastgate.fastpath.loop.histogram import counted
from eastgate.proxy.admin.stat import TYPES, Stat, select


def test_kinds_of_stats_are_told_apart() -> None:
    every = [Stat("a", 1, "a"), Stat("b", 0, "b", gauge=True), Stat("c", 2, "c", durations=counted([0, 0]))]

    def names(kind: str) -> list[str]:
        return [stat.name for stat in select(every, kinds=TYPES[kind]) if stat is not None]

    assert {kind: names(kind) for kind in TYPES} == {
        "All": ["a", "b", "c"],
        "Counters": ["a"],
        "Gauges": ["b"],
        "Histograms": ["c"],
        "TextReadouts": [],
    }


def test_used_histograms_are_those_with_values() -> None:
    every = [Stat(name, value, name, durations=counted([0] * value)) for name, value in (("a", 0), ("b", 1))]
    assert [stat.name for stat in select(every, used_only=True) if stat is not None] == ["b"]
