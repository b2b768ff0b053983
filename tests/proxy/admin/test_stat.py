"""What of the stats is asked for."""

from collections.abc import Iterator

import pytest
from eastgate.fastpath.loop.histogram import counted
from eastgate.proxy.admin.stat import TYPES, Choice, Group, Kind, Stat, names_of, one_by_one, shorts
from eastgate.proxy.patterns import Pattern

NAMES = names_of("envoy_cluster", (shorts("cx_total", "cx.destroy", gauges=("cx_active",)),))
FEW = Group("cluster.a.", (("cluster_name", "a"),), NAMES, (3, 0, 0))


def names(choice: Choice, *counted: Stat | Group) -> list[str]:
    return [stat.name for stat in one_by_one(choice.of(counted))]


def test_kinds_of_stats_are_told_apart() -> None:
    every = [Stat("a", 1, "a"), Stat("b", 0, "b", gauge=True), Stat("c", 2, "c", durations=counted([0, 0]))]
    assert {kind: names(Choice(kinds=kinds), *every) for kind, kinds in TYPES.items()} == {
        "All": ["a", "b", "c"],
        "Counters": ["a"],
        "Gauges": ["b"],
        "Histograms": ["c"],
        "TextReadouts": [],
    }


def test_used_histograms_are_those_with_values() -> None:
    every = [Stat(name, value, name, durations=counted([0] * value)) for name, value in (("a", 0), ("b", 1))]
    assert names(Choice(used_only=True), *every) == ["b"]


def test_a_group_is_its_counters() -> None:
    assert list(FEW.stats()) == [
        Stat("cluster.a.cx_total", 3, "envoy_cluster_cx_total", FEW.labels),
        Stat("cluster.a.cx.destroy", 0, "envoy_cluster_cx_destroy", FEW.labels),
        Stat("cluster.a.cx_active", 0, "envoy_cluster_cx_active", FEW.labels, gauge=True),
    ]
    with pytest.raises(ValueError):
        list(Group("a.", (), NAMES, (1,)).stats())


def test_a_group_of_which_all_is_chosen_stays_one() -> None:
    assert list(Choice().of((FEW, None))) == [FEW, None]


@pytest.mark.parametrize(
    "choice",
    [
        Choice(used_only=True),
        Choice(kinds=TYPES["Counters"]),
        Choice(kinds=TYPES["Gauges"]),
        Choice(kinds=TYPES["Histograms"]),
        Choice(lambda name: name.endswith("l")),
        Choice(lambda name: name.endswith("l"), lambda begin, ends: begin == "cluster.b."),
    ],
)
def test_of_a_group_the_same_is_chosen_as_of_its_counters(choice: Choice) -> None:
    groups = (FEW, Group("cluster.b.", (), NAMES, (0, 2, 0)))

    def by_hand() -> Iterator[Stat]:
        for group in groups:
            if choice.may_match is not None and "cluster.b" not in group.prefix:
                continue
            for stat in group.stats():
                used = stat.value or stat.kind is Kind.GAUGE or not choice.used_only
                if used and stat.kind in choice.kinds and (choice.matches is None or choice.matches(stat.name)):
                    yield stat

    assert list(one_by_one(choice.of(groups))) == list(by_hand())


@pytest.mark.parametrize(
    "expression",
    [
        "^cluster",
        "cx_active$",
        "^cx_total",
        r"\Acluster",
        r"active\z",
        "(?i)CX_TOTAL",
        "^cluster.*total$",
        r"cluster\.a\.cx\b",
        "^(server|cluster)[^a-z]",
        "nothing",
        "",
    ],
)
def test_a_question_to_all_names_at_once_misses_none(expression: str) -> None:
    pattern = Pattern(expression)
    choice = Choice(pattern.found_in, pattern.may_be_found_in)
    one_at_a_time = [stat.name for stat in FEW.stats() if pattern.found_in(stat.name)]
    assert names(choice, FEW) == one_at_a_time


def test_names_that_cannot_match_are_asked_once() -> None:
    pattern = Pattern(r"^(server\.state|listener_manager\.workers_started)")
    asked: list[str] = []
    assert list(Choice(lambda name: not asked.append(name), pattern.may_be_found_in).of((FEW,))) == [None]
    assert asked == []
