"""What a proxy of a mesh file would have, and what a change moves."""

from pathlib import Path

import pytest
from eastgate.mesh.mesh_file import load, parse
from eastgate.mesh.scenario import workload_named
from eastgate.trial.prediction import Predicted, clients, moved, moved_text, predicted

FILE = Path(__file__).parents[1] / "data/mesh/cases/04-two-drs-one-host-mesh.yaml"
OLD = load(FILE).mesh
FAILOVER = "failover: [{from: us-west-2, to: us-east-1}]"
NEW = parse(
    FILE.read_text().replace(FAILOVER, 'distribute: [{from: "us-west-2/*", to: {"us-east-1/*": 100}}]'), "new"
).mesh
HOST = "web.shop.svc.cluster.local"


def rows(name: str, cluster: str, *, gateway: bool = False) -> list[Predicted]:
    found = predicted(OLD, workload_named(OLD, name), gateway=gateway)
    return [one for one in found if one.cluster == cluster]


def test_a_client_has_shares_with_their_reasons() -> None:
    far, near = sorted(rows("west/client", f"outbound|80|v1|{HOST}"), key=lambda one: one.share)
    assert (near.address, near.stands_for, near.priority, near.share) == ("10.1.0.1:8080", "west/web-v1", 0, 1.0)
    assert (far.address, far.stands_for, far.priority, far.share) == ("192.0.2.2:15443", "gateway of east", 1, 0.0)
    assert "100 % available" in near.why
    assert far.why == "P1 has no load"


def test_a_gateway_has_pods_of_its_own_network_only() -> None:
    found = rows("east/ewgw", f"outbound_.80_._.{HOST}", gateway=True)
    assert {one.address: one.share for one in found} == {"10.2.0.1:8080": 0.5, "10.2.0.2:8080": 0.5}


def test_a_cluster_without_endpoints_is_told() -> None:
    (one,) = rows("west/ewgw", f"outbound_.80_.v2_.{HOST}", gateway=True)
    assert (one.address, one.share, one.why) == ("", 0.0, "no endpoints: connections are refused")


def test_a_file_without_addresses_says_that_it_has_none() -> None:
    """The demo's workloads get theirs when it runs."""
    demo = load(Path(__file__).parents[2] / "mesh" / "demo.yaml").mesh
    (one,) = predicted(demo, workload_named(demo, "anthos/client"), gateway=False)
    assert one.why == "no endpoints: connections are refused; 7 workloads have no address in this file"


def test_a_change_is_told_in_points_for_each_client_and_gateway() -> None:
    changes = {(one.client, one.cluster): one for one in moved(OLD, NEW)}
    client = changes["west/shop/client", f"outbound|80||{HOST}"]
    assert dict(client.before) == {"west/web-v1": 1.0, "gateway of east": 0.0}
    assert dict(client.after) == {"gateway of east": 1.0}
    assert client.points == pytest.approx(100)
    # The rule counts at the gateway too: it empties the locality of its own pods.
    gateway = changes["west/istio-system/ewgw", f"outbound_.80_._.{HOST}"]
    assert dict(gateway.after) == {"refused": 1.0}
    assert moved(OLD, OLD) == ()


def test_changes_are_a_table_for_github() -> None:
    head, rule, *lines = moved_text(moved(OLD, NEW, ("west/client",)), markdown=True).splitlines()
    assert head == "| client | cluster | before | after | moved |"
    assert rule == "|---|---|---|---|---:|"
    name = f"outbound\\|80\\|\\|{HOST}"
    assert f"| west/shop/client | {name} | west/web-v1 100.0% | gateway of east 100.0% | 100.0 points |" in lines
    assert moved_text((), markdown=True) == "No shares change.\n"


def test_an_unknown_client_is_named() -> None:
    with pytest.raises(LookupError, match="means no workloads"):
        clients(OLD, ("west/nobody",))
