"""Differences in shares: numbers from the tables, and one sentence per cluster."""

from dataclasses import replace

import pytest
from eastgate.insight.cluster_model import ChainModel, ClusterModel, ProxyModel
from eastgate.insight.read_dump import read_document
from eastgate.insight.traffic_diff import ClusterChange, Difference, difference

from ..support import dumps
from .models import model

A, B, C = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"


def proxy(*clusters: ClusterModel, chains: tuple[ChainModel, ...] = ()) -> ProxyModel:
    return ProxyModel("x", {one.name: one for one in clusters}, chains=chains)


def changed(before: ClusterModel, after: ClusterModel) -> ClusterChange:
    (change,) = difference(proxy(before), proxy(after)).clusters
    return change


def at(*addresses: str, priority: int = 0, where: str = "r1", **rest: object) -> dumps.Json:
    return dumps.locality(where, [dumps.endpoint(one, **rest) for one in addresses], priority=priority)  # type: ignore[arg-type]


def test_endpoint_that_leaves_gives_its_share_to_the_others() -> None:
    change = changed(model(at(A, B)), model(at(B)))
    # A 50 -> 0, B 50 -> 100: 50 points move.
    assert change.moved == pytest.approx(50.0)
    assert [(one.address, one.points, one.present) for one in change.endpoints] == [
        (A, -50.0, (True, False)),
        (B, 50.0, (True, True)),
    ]
    assert change.sentence == (
        f"{dumps.NAME}: 50.0 points of its connections move; {A} removed, it had 50 %; {B} 50 % -> 100 %"
    )


def test_failure_that_sends_traffic_to_the_next_priority_names_both() -> None:
    before = model(at(A, B, C), at("10.1.0.1:80", priority=1, where="r2"), outlier={})
    sick = [dumps.endpoint(A, health="UNHEALTHY"), dumps.endpoint(B), dumps.endpoint(C)]
    after = model(dumps.locality("r1", sick), at("10.1.0.1:80", priority=1, where="r2"), outlier={})
    change = changed(before, after)
    # floor(140 * 2 / 3) = 93.
    assert [(number, round(old), round(new)) for number, old, new in change.priorities] == [(0, 100, 93), (1, 0, 7)]
    # A's 33.3 go, 13.2 each of which to B and C: 93 / 2 - 100 / 3; and 7 to P1.
    assert change.moved == pytest.approx(100 / 3)
    assert "P0 100 % -> 93 %, P1 0 % -> 7 %" in change.sentence
    assert f"{A} 33.3 % -> 0 % (health HEALTHY -> UNHEALTHY)" in change.sentence


def test_changed_weight_priority_and_locality_are_facts() -> None:
    before = model(at(A), at(B, where="r2"))
    after = model(at(A, weight=3), at(B, where="r3", priority=1))
    facts = {one.address: one.facts for one in changed(before, after).endpoints}
    assert facts == {A: ("weight 1 -> 3",), B: ("priority 0 -> 1", "locality r2 -> r3")}


def test_setting_that_moves_nothing_is_told_as_such() -> None:
    change = changed(model(at(A, B)), model(at(A, B), panic=50))
    assert (change.moved, change.endpoints) == (0.0, ())
    assert change.sentence == f"{dumps.NAME}: no connection moves; panic threshold 0 -> 50"


def test_weight_of_a_locality_moves_shares() -> None:
    def weighted(weight: int) -> ClusterModel:
        return model(
            dumps.locality("r1", [dumps.endpoint(A)], weight=weight),
            dumps.locality("r2", [dumps.endpoint(B)], weight=1),
        )

    before, after = weighted(1), weighted(3)
    change = changed(before, after)
    assert change.moved == pytest.approx(25.0)
    assert change.settings == ("weight of r1 at P0 1 -> 3",)


def test_cluster_that_stops_serving_loses_everything_and_gets_it_back() -> None:
    whole, dead = model(at(A)), model(at(A, health="UNHEALTHY"))
    gone = changed(whole, dead)
    assert (gone.serves, gone.moved) == ((True, False), pytest.approx(100.0))
    assert gone.sentence.startswith(f"{dumps.NAME}: no endpoint takes connections any more: all are refused")
    assert changed(dead, whole).sentence.startswith(f"{dumps.NAME}: connections are served again")


def test_clusters_come_and_go_and_the_most_moved_is_first() -> None:
    one, two = model(at(A)), replace(model(at(A, B)), name="two")
    three = replace(model(at(A, B, C)), name="three")
    found = difference(proxy(one, two), proxy(two, three))
    assert [(each.name, each.kind) for each in found.clusters] == [(dumps.NAME, "removed"), ("three", "added")]
    assert found.clusters[1].sentence == "three: added, with 3 endpoints"
    assert found.clusters[0].sentence == f"{dumps.NAME}: removed, with 1 endpoint"
    more = difference(proxy(two, three), proxy(replace(two, endpoints=two.endpoints[:1]), three, one))
    assert [each.name for each in more.clusters] == ["two", dumps.NAME]


def test_policy_without_shares_is_told() -> None:
    change = changed(model(at(A), policy="SUBSET"), model(at(A, B), policy="SUBSET"))
    assert change.moved is None
    assert "its shares are not known" in change.sentence
    assert f"{B} added with -" in change.sentence


def test_repeated_address_counts_once() -> None:
    before = model(at(A, B), at(A, where="r2"))
    assert difference(proxy(before), proxy(before)) == Difference((), ())
    # The second entry of A never got anything, so taking it away changes nothing.
    assert difference(proxy(before), proxy(model(at(A, B)))) == Difference((), ())


def test_chains_come_go_and_lead_elsewhere() -> None:
    before = (ChainModel("l", "a", ("x",)), ChainModel("l", "b", ("x",)), ChainModel("l", "", ("d",)))
    after = (ChainModel("l", "a", ("y",)), ChainModel("l", "c", ("z",)), ChainModel("l", "", ("d",)))
    found = difference(proxy(chains=before), proxy(chains=after)).chains
    assert [one.sentence for one in found] == [
        "listener l: chain a leads to y, no longer to x",
        "listener l: chain b removed, to x",
        "listener l: chain c added, to z",
    ]


def test_recorded_stages_differ_as_their_story_says() -> None:
    def stage(name: str) -> ProxyModel:
        return read_document(dumps.recorded_dump(name, "anthos-gateway"), name)

    assert difference(stage("1-default"), stage("1-default")) == Difference((), ())
    found = difference(stage("2-failover"), stage("4-none-ready"))
    assert found.clusters
    assert found.clusters[0].moved is not None
    assert found.clusters[0].moved > 0
