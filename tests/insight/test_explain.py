"""Explanations: Envoy's measured oracle table, recorded stages, and a reason for every 0."""

import random
from dataclasses import replace

import pytest
from eastgate.insight.cluster_model import ClusterModel, Endpoint, compile_model, shares_by_priority
from eastgate.insight.explain import availability_of, explain
from eastgate.insight.read_dump import read_document
from eastgate.xds.resources import Locality, LocalityEntry, ZoneAware

from ..oracle import shares as oracle
from ..support import dumps
from ..support.dumps import endpoint, gateway, locality, places
from .models import compiled, model, recorded

ECHO = "outbound|80||echo-tcp.default.svc.cluster.local"


# Real Envoy 1.40, 3 endpoints at P0 and 2 at P1, 4,000 connections a row: 100/0, 92.7/7.3, 47.6/52.4, 0/100, 46.8/53.2
# and, with panic at 50 %, 47.4/52.6.
@pytest.mark.acceptance(feature="explain")
@pytest.mark.parametrize(
    ("down", "down_p1", "panic_percent", "loads"),
    [
        (0, 0, 0, (100, 0)),
        (1, 0, 0, (93, 7)),
        (2, 0, 0, (46, 54)),
        (3, 0, 0, (0, 100)),
        (2, 1, 0, (46, 54)),
        (2, 1, 50, (46, 54)),
    ],
)
def test_loads_are_those_measured_on_envoy(down: int, down_p1: int, panic_percent: int, loads: tuple[int, int]) -> None:
    said = explain(
        compiled(
            locality("a", places(3, unhealthy=down)),
            locality("b", places(2, network=1, unhealthy=down_p1), priority=1),
            panic=panic_percent,
        )
    )
    assert tuple(one.load_percent for one in said.priorities) == loads
    assert sum(one.share for one in said.endpoints if one.priority == 0) == pytest.approx(loads[0] / 100)
    assert not any(one.panic for one in said.priorities)


# The stages' rule is in recordings/README.md: 2 of 2 local, 1 not ready, none, both again, failoverPriority, 80/20.
@pytest.mark.parametrize(
    ("stage", "local", "remote"),
    [
        ("1-default", 0.5, 0.5),
        ("2-failover", 1.0, 0.0),
        ("3-one-not-ready", 0.7, 0.3),
        ("4-none-ready", 0.0, 1.0),
        ("5-ready-again", 1.0, 0.0),
        ("6-failover-priority", 1.0, 0.0),
        ("7-distribute", 0.8, 0.2),
        ("8-cluster-local", 1.0, 0.0),
        # Hidden from EDS, a pod that is not ready does not count as missing.
        ("14-hide-unhealthy-one", 1.0, 0.0),
        ("15-hide-unhealthy-none", 0.0, 1.0),
    ],
)
def test_shares_of_a_recorded_stage(stage: str, local: float, remote: float) -> None:
    found = explain(compile_model(recorded(stage, "anthos-sidecar", ECHO)))
    by_gateway = [one.share for one in found.endpoints if one.address.endswith(":15443")]
    assert sum(by_gateway) == pytest.approx(remote)
    assert sum(one.share for one in found.endpoints) - sum(by_gateway) == pytest.approx(local)


def test_subsets_split_the_endpoints() -> None:
    shares = {}
    for subset in ("anthos", "gke"):
        cluster = recorded("9-subsets", "anthos-sidecar", f"outbound|80|{subset}|echo-tcp.default.svc.cluster.local")
        shares[subset] = {one.address: one.share for one in explain(compile_model(cluster)).endpoints}
    assert shares["anthos"] == {"10.10.2.59:8080": 0.5, "10.10.3.80:8080": 0.5}
    assert shares["gke"] == {"10.100.10.6:15443": 1.0}


def test_arithmetic_stands_beside_the_numbers() -> None:
    said = explain(compile_model(recorded("3-one-not-ready", "anthos-sidecar", ECHO)))
    assert said.priorities[0].arithmetic == ("1 of 2 healthy: 140 % x 1 / 2 = 70 % available", "takes 70 %")
    assert said.priorities[1].arithmetic == (
        "1 of 1 healthy: 140 % x 1 / 1, at most 100: 100 % available",
        "of the 30 % left over it takes 30 %",
    )
    assert said.priorities[1].gateways == ("10.100.10.6:15443",)
    assert any("not ready" in note for note in said.notes)


def test_distribute_shows_the_localities_weights() -> None:
    said = explain(compile_model(recorded("7-distribute", "anthos-sidecar", ECHO)))
    assert {one.locality: (one.weight, one.arithmetic) for one in said.localities} == {
        "tokyo-onprem": (80, "weight 80 x min(1, 140 % x 2 / 2) = 80"),
        "asia-northeast1/asia-northeast1-a": (20, "weight 20 x min(1, 140 % x 1 / 1) = 20"),
    }
    assert sum(one.share for one in said.localities) == pytest.approx(1.0)


def test_loads_are_scaled_when_nobody_has_enough() -> None:
    # 1 of 4 at both: 35 % each, so half each; no panic, since the threshold is 0.
    said = explain(
        compiled(locality("a", places(4, unhealthy=3)), locality("b", places(4, network=1, unhealthy=3), priority=1))
    )
    assert [one.load_percent for one in said.priorities] == [50, 50]
    assert said.priorities[0].arithmetic[1] == "all priorities together have 70 %, scaled to 100: takes 50 %"


def test_degraded_endpoints_come_after_the_healthy_ones_of_all_priorities() -> None:
    # P0: 2 of 4 healthy 70 %, 1 degraded 35 %; P1: 1 of 7 healthy 20 %; the 10 % left go to P0's degraded endpoint.
    mixed = [
        *places(2),
        endpoint("10.9.0.1:80", health="DEGRADED"),
        endpoint("10.9.0.2:80", health="UNHEALTHY"),
    ]
    said = explain(compiled(locality("a", mixed), locality("b", places(7, network=1, unhealthy=6), priority=1)))
    assert [one.arithmetic for one in said.priorities] == [
        (
            "2 of 4 healthy: 140 % x 2 / 4 = 70 % available, and 1 degraded: 140 % x 1 / 4 = 35 % in reserve",
            "takes 70 %; 10 % more on degraded endpoints, which the healthy of all priorities leave over",
        ),
        ("1 of 7 healthy: 140 % x 1 / 7 = 20 % available", "of the 30 % left over it takes 20 %"),
    ]
    assert [one.share for one in said.endpoints[:3]] == pytest.approx([0.35, 0.35, 0.1])


def test_loads_that_are_all_cut_to_0_end_at_p0() -> None:
    # 1 % x 9 / 10 is 0; 90 % healthy is no panic.
    said = explain(
        compiled(
            locality("a", places(10, unhealthy=1)),
            locality("b", places(10, network=1, unhealthy=1), priority=1),
            factor=1,
            panic=50,
        )
    )
    assert [one.load_percent for one in said.priorities] == [100, 0]
    assert "cut to 0 %" in said.priorities[0].arithmetic[1]
    assert sum(one.share for one in said.endpoints if one.priority == 0) == pytest.approx(1.0)


def test_panic_says_that_health_is_ignored() -> None:
    said = explain(compiled(locality("a", places(4, unhealthy=3)), panic=50))
    assert said.priorities[0].panic
    assert said.priorities[0].arithmetic[1].startswith("panic: ")
    assert [one.reason for one in said.endpoints] == ["panic: health is ignored"] * 3 + [""]
    assert said.localities[0].arithmetic == "weight 4, ignored in panic"


def test_nothing_healthy_is_refused() -> None:
    said = explain(compiled(locality("a", places(2, unhealthy=2))))
    assert said.refused
    assert said.priorities[0].load_percent == 0
    assert said.priorities[0].arithmetic[1] == "nobody to pick: connections are refused"
    assert [one.share for one in said.endpoints] == [0, 0]


def test_every_zero_has_its_reason() -> None:
    said = explain(
        compiled(
            locality(
                "a",
                [
                    endpoint("10.0.0.1:80"),
                    endpoint("10.0.0.2:80", health="UNHEALTHY"),
                    endpoint("10.0.0.3:80", health="DRAINING"),
                    endpoint("10.0.0.4:80", health="DEGRADED"),
                    endpoint("10.0.0.5:80"),
                    endpoint("10.0.0.6:80"),
                    endpoint("10.0.0.7:80"),
                ],
            ),
            locality("b", [endpoint("10.0.0.8:80")], weight=0),
            locality("c", [endpoint("10.0.0.1:80"), endpoint("10.0.0.9:80")], priority=1),
        )
    )
    # 5 of 7 healthy at P0 (the draining one is not counted): 140 * 5 / 7 = 100.
    assert {one.address: one.reason for one in said.endpoints[1:4]} == {
        "10.0.0.2:80": "unhealthy",
        "10.0.0.3:80": "draining",
        "10.0.0.4:80": "degraded: the healthy ones suffice",
    }
    assert said.endpoints[7].reason == "its locality has no weight"
    assert said.endpoints[8].reason == "repeats the address of an endpoint at P0 a: only the first counts"
    assert said.endpoints[9].reason == "P1 has no load"
    assert all(bool(one.reason) == (one.share == 0) for one in said.endpoints)
    assert said.priorities[0].arithmetic[0] == (
        "5 of 7 healthy, 1 draining and not counted: 140 % x 5 / 7, at most 100: 100 % available,"
        " and 1 degraded: 140 % x 1 / 7 = 20 % in reserve"
    )


def test_ejected_endpoint_says_who_put_it_out() -> None:
    cluster = ClusterModel(
        "c",
        endpoints=(
            Endpoint("10.0.0.1:80", failed="outlier", health="HEALTHY"),
            Endpoint("10.0.0.2:80", failed="active check"),
            Endpoint("10.0.0.3:80"),
        ),
        panic_threshold=0,
    )
    said = explain(compile_model(cluster))
    assert [(one.health, one.reason) for one in said.endpoints] == [
        ("EJECTED", "ejected by outlier detection"),
        ("FAILED_CHECK", "fails its active health check"),
        ("UNKNOWN", ""),
    ]


def test_least_request_says_at_equal_load() -> None:
    said = explain(compiled(locality("a", places(2)), policy="LEAST_REQUEST"))
    assert any("at equal load" in note for note in said.notes)


def test_warming_cluster_is_said_to_refuse() -> None:
    warming = replace(model(locality("a", places(2))), warming=True)
    assert any("refused until" in note for note in explain(compile_model(warming)).notes)


def test_gateway_of_one_pod_needs_no_note() -> None:
    assert explain(compiled(locality("a", [gateway(weight=1)]))).notes == ()


def test_policy_without_shares_is_an_error() -> None:
    with pytest.raises(ValueError, match="NO_SUCH"):
        compile_model(model(locality("a", places(2)), policy="NO_SUCH"))


@pytest.mark.parametrize("seed", range(40))
def test_shares_are_the_oracles(seed: int) -> None:
    rng = random.Random(seed)
    zones = [Locality("r", f"z{n}") for n in range(rng.randint(1, 4))]
    endpoints = tuple(
        Endpoint(
            f"10.0.0.{rng.randint(0, 30)}:80",
            rng.randint(0, 2),
            rng.choice(zones),
            rng.randint(1, 5),
            rng.choice(("HEALTHY", "HEALTHY", "UNHEALTHY", "DRAINING", "DEGRADED")),
            rng.choice(("", "", "", "outlier")),
        )
        for _ in range(rng.randint(1, 25))
    )
    weights = {(priority, zone): rng.randint(0, 4) for priority in range(3) for zone in zones}
    cluster = ClusterModel(
        "c",
        panic_threshold=rng.choice((0, 50)),
        locality_weighted=rng.random() < 0.5,
        weighted_priority_health=rng.random() < 0.3,
        endpoints=endpoints,
        localities=tuple(LocalityEntry(zone, priority, weight or None) for (priority, zone), weight in weights.items()),
    )
    expected = oracle.Cluster(
        [
            oracle.Endpoint(
                one.address,
                one.priority,
                one.locality,
                one.weight,
                ("UNKNOWN", "HEALTHY", "UNHEALTHY", "DRAINING", "TIMEOUT", "DEGRADED").index(one.health),
                bool(one.failed),
            )
            for one in endpoints
        ],
        weights,
        oracle.Settings(
            panic_threshold=cluster.panic_threshold,
            locality_weighted=cluster.locality_weighted,
            weighted_priority_health=cluster.weighted_priority_health,
        ),
    ).shares()
    found = compile_model(cluster)
    said = explain(found)
    assert [one.share for one in said.endpoints] == pytest.approx([float(share) for share in expected])
    sums = shares_by_priority(found)
    for priority, available in zip(said.priorities, availability_of(found), strict=True):
        # The arithmetic shown is that of the table.
        assert min(100, sum(available)) == priority.availability_percent
        assert 100 * sums.get(priority.priority, 0.0) == pytest.approx(priority.load_percent)
    assert all(one.share > 0 or one.reason for one in said.endpoints)


def test_random_says_that_weights_do_not_count() -> None:
    said = explain(compiled(locality("a", places(3, weight=7)), policy="RANDOM"))
    assert any("weights of endpoints count nowhere" in note for note in said.notes)
    # P0 takes 70 %, draws of 0 to 69 in each hundred, and has a hundred endpoints.
    half = explain(
        compiled(
            locality("a", places(200, unhealthy=100)), locality("b", places(9, network=1), priority=1), policy="RANDOM"
        )
    )
    missed = [one for one in half.endpoints if one.share == 0 and one.health == "HEALTHY" and one.priority == 0]
    assert len(missed) == 30
    assert {one.reason for one in missed} == {"no draw that leads to its priority leads to its place in the list"}


@pytest.mark.parametrize("policy", ["RING_HASH", "MAGLEV"])
def test_hashing_policies_show_the_shares_of_their_tables(policy: str) -> None:
    cluster = compiled(locality("a", places(4)), policy=policy)
    said = explain(cluster)
    assert any("read off the" in note for note in said.notes)
    entries = cluster.table.hash_entries()[0]
    if policy == "MAGLEV":
        expected = [entries.count(row) / 65537 for row in range(4)]  # type: ignore[arg-type]
    else:
        expected = [0.0] * 4
        before = entries[-1][0] - (1 << 64)  # type: ignore[index]
        for value, row in entries:  # type: ignore[misc]
            expected[row] += (value - before) / (1 << 64)
            before = value
    assert [one.share for one in said.endpoints] == pytest.approx(expected)
    assert sum(expected) == pytest.approx(1)


def test_hashing_policies_say_what_degraded_endpoints_and_localities_are_to_them() -> None:
    places_of = [endpoint("10.0.0.1:80"), *(endpoint(f"10.0.0.{n}:80", health="DEGRADED") for n in range(2, 6))]
    said = explain(compiled(locality("a", places_of), policy="MAGLEV"))
    assert [one.share for one in said.endpoints] == pytest.approx([1.0, 0, 0, 0, 0])
    assert {one.reason for one in said.endpoints[1:]} == {"degraded: never used by MAGLEV"}
    assert "MAGLEV never uses degraded endpoints: its healthy ones take that too" in said.priorities[0].arithmetic[1]
    partly = explain(
        compiled(
            locality("a", places(2), weight=1),
            locality("b", places(2, network=1, unhealthy=2), weight=3),
            locality("c", places(4, network=2, unhealthy=3), weight=1),
            policy="MAGLEV",
            weighted=True,
        )
    )
    assert [one.arithmetic for one in partly.localities] == [
        "weight 1 of 5, whatever its health",
        "weight 3 of 5, whatever its health, and nobody to take it: the others of the priority do",
        "weight 1 of 5, whatever its health",
    ]
    # Both have a fifth: the table is filled by the two that are left, half each.
    assert [one.share for one in partly.localities] == pytest.approx([0.5, 0, 0.5], abs=1e-4)


def test_hashes_that_find_nobody_are_not_a_refusal_of_all() -> None:
    degraded = [endpoint(f"10.0.0.{n}:80", health="DEGRADED") for n in range(1, 3)]
    said = explain(
        compiled(
            locality("a", degraded), locality("b", places(4, network=1, unhealthy=3), priority=1), policy="RING_HASH"
        )
    )
    assert not said.refused
    # P1: 140 / 4 = 35 %; the rest would be P0's degraded ones'.
    assert sum(one.share for one in said.endpoints) == pytest.approx(0.35)
    assert "nobody takes that: those connections are refused" in said.priorities[0].arithmetic[1]


def zoned_document(*, name_local: bool) -> object:
    """A dump of a proxy in r/a: three of its twelve endpoints there, and half of the proxies like it."""
    upstream = [locality("r/a", places(3)), locality("r/b", places(9, network=1))]
    proxies = [locality("r/a", places(2, network=2)), locality("r/b", places(2, network=3))]
    document = dumps.config_dump(
        [dumps.cluster(ECHO, weighted=False), dumps.cluster("proxies", weighted=False)],
        [dumps.assignment(*upstream, name=ECHO), dumps.assignment(*proxies, name="proxies")],
        node={"id": "router~10.0.0.1~p.n~d", "locality": {"region": "r", "zone": "a"}},
    )
    if name_local:
        document["configs"][0]["bootstrap"]["cluster_manager"] = {"local_cluster_name": "proxies"}
    return document


def test_zone_aware_routing_is_explained_from_the_local_cluster_of_the_dump() -> None:
    plain = explain(compile_model(read_document(zoned_document(name_local=False), "d").clusters[ECHO]))
    assert sum(one.share for one in plain.endpoints[:3]) == pytest.approx(0.25)
    assert not any("zone" in note for note in plain.notes)
    proxy = read_document(zoned_document(name_local=True), "d")
    said = explain(compile_model(proxy.clusters[ECHO]))
    # A quarter of the cluster for half of the proxies.
    assert sum(one.share for one in said.endpoints[:3]) == pytest.approx(0.5)
    assert "zone-aware routing: 50.0% of P0's connections stay in r/a" in said.notes
    small = replace(proxy.clusters[ECHO], zone_aware=ZoneAware(min_cluster_size=13))
    assert any(note.startswith("zone-aware routing does nothing here") for note in explain(compile_model(small)).notes)
    forced = explain(compile_model(replace(proxy.clusters[ECHO], zone_aware=ZoneAware(force_min_size=3))))
    assert {one.reason for one in forced.endpoints[3:]} == {"zone-aware routing sends nothing to its zone"}
    # The local cluster itself knows no zones.
    assert proxy.clusters["proxies"].census is None
