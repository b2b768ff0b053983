"""Locality priorities and weights against the numbers that istio's own tests assert."""

from typing import Any

import pytest
from eastgate.mesh.locality import (
    Candidate,
    Group,
    LocalitySetting,
    apply,
    distribute,
    matches,
    parse_locality,
    zone_aware,
)
from eastgate.xds.resources import Locality

from .istio_vectors import of_kind


def vectors(*kinds: str) -> Any:
    return pytest.mark.parametrize("vector", of_kind(*kinds), ids=lambda vector: vector["id"])


def group(text: str | None, weight: int | None = 1) -> Group:
    return Group(parse_locality(text or ""), (Candidate(1, {}, text),), weight)


def rules(entries: list[dict[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((entry["from"], entry["to"]) for entry in entries)


@vectors("distribute")
def test_distribute_sets_weights_and_empties_what_no_rule_names(vector: dict[str, Any]) -> None:
    given, expected = vector["input"], vector["expected"]
    groups = distribute(
        [group(entry["locality"], entry["weight"]) for entry in given["localities"]],
        parse_locality(given["proxy_locality"]),
        [(rule["from"], rule["to"]) for rule in given["distribute"]],
    )
    assert [g.weight or 0 for g in groups] == expected["weights"]
    assert [i for i, g in enumerate(groups) if not g.candidates] == expected["emptied_indexes"]
    assert [g.priority for g in groups] == expected["priorities"]


@vectors("failover")
def test_failover_priorities(vector: dict[str, Any]) -> None:
    given = vector["input"]
    absent = given.get("setting", "given") is None
    setting = None if absent else LocalitySetting(failover=rules(given["failover"]))
    groups = apply(
        [group(text) for text in given["localities"]],
        parse_locality(given["proxy_locality"]),
        {},
        setting,
        outlier_detection=given["outlier_detection"],
    )
    assert [g.priority for g in groups] == vector["expected"]["priorities"]


@pytest.mark.parametrize(
    "vector", [v for v in of_kind("zone_aware") if "localities" in v["input"]], ids=lambda vector: vector["id"]
)
def test_zone_aware_orders_regions_only(vector: dict[str, Any]) -> None:
    given = vector["input"]
    groups = zone_aware(
        [group(text) for text in given["localities"]],
        parse_locality(given["proxy_locality"]),
        rules(given["failover"]),
    )
    assert [g.priority for g in groups] == vector["expected"]["priorities"]


@vectors("failover_priority", "failover_priority_then_failover")
def test_failover_priority_splits_and_orders_by_labels(vector: dict[str, Any]) -> None:
    given, expected = vector["input"], vector["expected"]
    groups = [
        Group(
            parse_locality(entry["locality"]),
            tuple(Candidate(e["weight"], e["labels"], e["address"]) for e in entry["endpoints"]),
            sum(e["weight"] for e in entry["endpoints"]),
        )
        for entry in given["groups"]
    ]
    setting = LocalitySetting(
        failover_priority=tuple(given["failoverPriority"]), failover=rules(given.get("failover", []))
    )
    got = apply(
        groups,
        parse_locality(given.get("proxy_locality", "")),
        given["proxy_labels"],
        setting,
        outlier_detection=True,
    )
    if "groups" in expected:
        assert [
            {
                "locality": str(g.locality),
                "priority": g.priority,
                "weight": g.weight,
                "addresses": [c.endpoint for c in g.candidates],
            }
            for g in got
        ] == expected["groups"]
    else:
        assert [g.priority for g in got] == expected["priorities"]
        assert [g.weight for g in got] == expected["weights"]


def test_patterns_cover_by_part() -> None:
    (vector,) = of_kind("locality_match")
    for case in vector["cases"]:
        assert matches(parse_locality(case["locality"]), case["rule"]) is case["match"], case


def test_failover_needs_outlier_detection_unless_forced() -> None:
    groups = [group("r1"), group("r2")]
    proxy = Locality("r1")
    assert [g.priority for g in apply(groups, proxy, {}, LocalitySetting(), outlier_detection=False)] == [0, 0]
    forced = LocalitySetting(forced=True)
    assert [g.priority for g in apply(groups, proxy, {}, forced, outlier_detection=False)] == [0, 1]


def test_distribute_wins_over_failover() -> None:
    setting = LocalitySetting(distribute=(("r1", {"r1": 80, "r2": 20}),), failover=(("r1", "r2"),))
    got = apply([group("r1"), group("r2")], Locality("r1"), {}, setting, outlier_detection=True)
    assert [(g.weight, g.priority) for g in got] == [(80, 0), (20, 0)]


def test_group_without_endpoints_takes_part_in_no_ranking() -> None:
    empty = Group(Locality("r3"), (), None)
    setting = LocalitySetting(failover_priority=("zone",))
    got = apply([group("r1"), empty], Locality("r1"), {"zone": "z"}, setting, outlier_detection=True)
    assert [g.priority for g in got] == [0, 0]
