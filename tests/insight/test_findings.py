"""The rules: a seeded cluster for each, found by that rule alone, and clean clusters, in which none finds anything."""

from dataclasses import replace
from typing import Any

import pytest
from eastgate.insight.cluster_model import ClusterModel, Ejection, Endpoint, NodeModel, compile_model
from eastgate.insight.findings import Finding, cluster_findings
from eastgate.xds.resources import Locality

from ..support.dumps import NAME, endpoint, gateway, locality, places
from .models import compiled, model, recorded

ECHO = "outbound|80||echo-tcp.default.svc.cluster.local"
SURE = {"max_ejection_percent": 100}
LOCAL = locality("tokyo", places(4))
GATEWAYS = [gateway("192.0.2.6:15443"), gateway("192.0.2.7:15443")]
REMOTE = locality("osaka", GATEWAYS, priority=1)


def node(region: str = "tokyo") -> NodeModel:
    return NodeModel("sidecar~10.0.0.9~a.b~c", "sidecar", "here", "net", "", Locality(region))


def found(*entries: Any, who: NodeModel | None = None, **settings: Any) -> tuple[Finding, ...]:
    settings = {"outlier": SURE, **settings}
    return cluster_findings(compiled(*entries, **settings), who or node())


def rules(findings: tuple[Finding, ...]) -> set[str]:
    return {one.rule for one in findings}


CLEAN: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "failover": ((LOCAL, REMOTE), {}),
    "local only, no rule": ((LOCAL,), {"outlier": None, "weighted": False}),
    "distribute": (
        (locality("tokyo", places(4), weight=80), locality("osaka", GATEWAYS, weight=20)),
        {"outlier": None},
    ),
    "distribute with outlier detection": (
        (locality("tokyo", places(4), weight=80), locality("osaka", GATEWAYS, weight=20)),
        {},
    ),
    "no mesh member anywhere": (
        (locality("tokyo", [endpoint("10.0.0.1:80", tls=False)]), locality("osaka", [])),
        {"outlier": None},
    ),
    "ten endpoints suffice for 10 %": ((locality("tokyo", places(10)),), {"outlier": {}}),
}

SEEDED: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "no-outlier-detection": ((LOCAL, REMOTE), {"outlier": None}),
    "no-outlier-detection ": ((LOCAL, locality("osaka", GATEWAYS)), {"outlier": None, "weighted": False}),
    "one-priority": ((LOCAL, locality("osaka", GATEWAYS)), {}),
    "empty-locality": ((LOCAL, locality("osaka", GATEWAYS)), {"who": node("")}),
    "never-ejected": ((LOCAL, REMOTE), {"outlier": {}}),
    # 50 % of 6 are 3 of the 4 local ones; with 1 of 4 left P0 has 35 %.
    "ejection-cap": ((LOCAL, REMOTE), {"outlier": {"max_ejection_percent": 50}}),
    "duplicate-address": (
        (LOCAL, REMOTE, locality("osaka/b", [gateway("192.0.2.6:15443", weight=15)], priority=1)),
        {},
    ),
    "zero-weight": ((LOCAL, locality("tokyo/b", places(1, network=1), weight=0), REMOTE), {}),
    "locality-weights-ignored": (
        (locality("tokyo", places(4), weight=80), locality("osaka", GATEWAYS, weight=20)),
        {"weighted": False},
    ),
    "partial-distribute": ((LOCAL, locality("nagoya", [], weight=7), REMOTE), {}),
    "remote-without-mtls": ((LOCAL, locality("nagoya", [], priority=1), REMOTE), {}),
    "priority-gap": ((LOCAL, locality("osaka", GATEWAYS, priority=2)), {}),
    "single-gateway": ((locality("osaka", [gateway()]),), {}),
    "gateway-without-tls": (
        (LOCAL, locality("osaka", [gateway(tls=False), gateway("192.0.2.7:15443")], priority=1)),
        {},
    ),
    "gateway-hostname": (
        (LOCAL, locality("osaka", [gateway("ew.example.com:15443"), gateway("192.0.2.7:15443")], priority=1)),
        {},
    ),
    "panic-threshold": ((LOCAL, REMOTE), {"panic": None}),
    "panic": ((locality("tokyo", places(4, unhealthy=3)),), {"panic": 50}),
    "none-healthy": ((locality("tokyo", places(4, unhealthy=4)),), {}),
}


@pytest.mark.acceptance(feature="doctor")
@pytest.mark.parametrize("name", CLEAN)
def test_clean_cluster_has_no_finding(name: str) -> None:
    entries, settings = CLEAN[name]
    assert found(*entries, **settings) == ()


@pytest.mark.acceptance(feature="doctor")
@pytest.mark.parametrize("name", SEEDED)
def test_seeded_cluster_is_found_by_its_rule_alone(name: str) -> None:
    entries, settings = SEEDED[name]
    findings = found(*entries, **settings)
    assert rules(findings) == {name.strip()}
    for one in findings:
        assert one.cluster == NAME
        assert one.severity in ("error", "warning")
        assert all((one.evidence, one.cause, one.fix))


def test_active_checks_take_failing_endpoints_out_as_well() -> None:
    entries, settings = SEEDED["no-outlier-detection"]
    checked = replace(model(*entries, **settings), health_checked=True)
    assert rules(cluster_findings(compile_model(checked), node())) == set()
    # They do not make Istio give priorities.
    entries, settings = SEEDED["no-outlier-detection "]
    checked = replace(model(*entries, **settings), health_checked=True)
    assert rules(cluster_findings(compile_model(checked), node())) == {"no-outlier-detection"}


@pytest.mark.acceptance(feature="doctor")
def test_sni_cluster_that_holds_a_gateway() -> None:
    name = "outbound_.80_._.echo.default.svc.cluster.local"
    cluster = ClusterModel(name, endpoints=(Endpoint("192.0.2.6:15443", workload=";;;;there"),), panic_threshold=0)
    assert rules(cluster_findings(compile_model(cluster))) == {"sni-cluster-holds-gateway"}


def test_endpoint_of_weight_0() -> None:
    findings = found(locality("tokyo", [endpoint("10.0.0.1:80", weight=0), *places(3)]))
    assert "10.0.0.1:80: weight 0" in [one.evidence for one in findings if one.rule == "zero-weight"]


def test_evidence_is_in_numbers() -> None:
    def evidence(name: str) -> str:
        entries, settings = SEEDED[name]
        return found(*entries, **settings)[0].evidence

    assert evidence("never-ejected") == "max_ejection_percent 10 of 6 endpoints: 1 of 6 would be 17 %"
    # 3 of 4 ejected leave 140 * 1 / 4 = 35 %.
    assert "at most 3 ejected at once, P0 has 4; with all of them failing it still gets 35 %" in evidence(
        "ejection-cap"
    )
    assert evidence("duplicate-address") == (
        "192.0.2.6:15443 2 times (weights 1 at P1 osaka, 15 at P1 osaka/b): 1 kept, 15 of 16 lost"
    )


def test_settings_that_the_dump_does_not_hold() -> None:
    cluster = ClusterModel("outbound|80||a.b", endpoints=(Endpoint("10.0.0.1:80"),), configured=False)
    assert rules(cluster_findings(compile_model(cluster))) == {"settings-unknown"}


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        # No DestinationRule: half of the traffic leaves through the gateway all the time.
        ("1-default", {"no-outlier-detection"}),
        ("2-failover", {"never-ejected"}),
        ("4-none-ready", {"never-ejected"}),
        ("8-cluster-local", set()),
        # minHealthPercent becomes the panic threshold; the rule has no failover.
        ("10-min-health-percent", {"never-ejected"}),
    ],
)
def test_recorded_stages(stage: str, expected: set[str]) -> None:
    cluster = recorded(stage, "anthos-sidecar", ECHO)
    assert rules(cluster_findings(compile_model(cluster), node())) - {"panic-threshold", "one-priority"} == expected


@pytest.mark.parametrize(
    ("percent", "always", "endpoints", "limit"),
    [
        (10, False, 9, 0),
        (10, False, 10, 1),
        (10, True, 3, 1),
        (50, False, 3, 1),
        (100, False, 7, 7),
        (200, False, 5, 5),
    ],
)
def test_ejections_allowed_at_once(percent: int, always: bool, endpoints: int, limit: int) -> None:
    assert Ejection(percent, always).limit(endpoints) == limit


def test_chosen_weights_are_told_from_made_up_ones() -> None:
    assert found(LOCAL, locality("osaka", GATEWAYS))  # sums of the endpoints: nobody chose them
    weights = [entry.weight for entry in model(LOCAL, locality("osaka", GATEWAYS)).localities]
    assert weights == [4, 2]
