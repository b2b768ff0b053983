"""How much traffic a finding puts at risk: what the order of a report comes from."""

from dataclasses import replace

import pytest
from eastgate.insight.at_risk import AtRisk, Risks, endpoint_shares
from eastgate.insight.cluster_model import ChainModel, ClusterModel, Endpoint, ProxyModel
from eastgate.insight.findings import Finding
from eastgate.xds.resources import Locality

NEAR, OTHER, FAR = (
    Endpoint("10.0.0.1:80", 0, Locality("a"), 1, connects=8),
    Endpoint("10.1.0.1:80", 1, Locality("b"), 1),
    Endpoint("10.2.0.1:80", 1, Locality("c"), 1),
)
USED = ClusterModel("used", endpoints=(NEAR, OTHER, FAR))
IDLE = ClusterModel("idle", endpoints=(NEAR._replace(connects=0),))
UNROUTED = ClusterModel("unrouted", endpoints=(NEAR,))
CHAINS = (ChainModel("l", "", ("used", "idle")),)
PROXY = ProxyModel("x", {one.name: one for one in (USED, IDLE, UNROUTED)}, chains=CHAINS)


def finding(rule: str, cluster: str, *addresses: str, severity: str = "error") -> Finding:
    return Finding(rule, severity, cluster, "", "", "", addresses=addresses)


@pytest.mark.parametrize(
    ("found", "now", "reached"),
    [
        # 8 connects and none, two clusters: (8 + 1) / (8 + 2) and (0 + 1) / (8 + 2).
        (finding("none-healthy", "used"), 0.9, 0.9),
        (finding("none-healthy", "idle"), 0.1, 0.1),
        # Nothing is wrong yet, and all of it may be.
        (finding("one-priority", "used"), 0.0, 0.9),
        # P1 gets nothing now, and half of P1 is this endpoint's once P0 is down.
        (finding("single-gateway", "used", FAR.address), 0.0, 0.45),
        (finding("single-gateway", "used", NEAR.address), 0.9, 0.9),
        (finding("none-healthy", "unrouted"), 0.0, 0.0),
        (finding("same-match", ""), 1.0, 1.0),
        (finding("not-honoured", "", severity="warning"), 0.0, 0.0),
    ],
)
def test_parts_of_a_proxys_connections(found: Finding, now: float, reached: float) -> None:
    risk = Risks(PROXY).of(found)
    assert (risk.now, risk.reached) == (pytest.approx(now), pytest.approx(reached))


def test_http_routes_count_and_without_any_route_all_clusters_do() -> None:
    routed = replace(PROXY, chains=(), http_clusters=frozenset({"idle"}))
    assert Risks(routed).of(finding("none-healthy", "idle")) == AtRisk(1.0, 1.0)
    bare = replace(PROXY, chains=())
    # 16 connects in three clusters: (8 + 1) / (16 + 3).
    assert Risks(bare).of(finding("none-healthy", "unrouted")).now == pytest.approx(9 / 19)


def test_a_cluster_without_shares_may_be_at_risk_as_a_whole() -> None:
    assert endpoint_shares(replace(USED, subset_fallback="NO_FALLBACK"), [FAR.address]) == (1.0, 1.0)
