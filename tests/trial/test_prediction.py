"""What a proxy of a mesh file would have, and what a change moves."""

from pathlib import Path

import pytest
from eastgate.mesh.mesh_file import load, parse
from eastgate.mesh.scenario import workload_named
from eastgate.trial.prediction import Predicted, clients, moved, moved_text, pairs, predicted

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


REFUSED = "no endpoints: connections are refused: "
NO_MTLS = (
    "the pods take no mTLS: a PeerAuthentication (portLevelMtls) or the DestinationRule's tls is DISABLE for this port,"
    " or the pods have no sidecar; emptied: us-east-1/us-east-1a"
)
DISTRIBUTED = "a distribute rule names none of the localities where the endpoints are, and so istiod removed them"
NAMELESS = f"{DISTRIBUTED}; emptied: (no locality)"
TYPO = f"{DISTRIBUTED}; emptied: (no locality), us-east-1/us-east-1a"
NO_SUCH_LABELS = "no endpoint of the service has the labels of subset east"


def test_a_cluster_without_endpoints_is_told() -> None:
    (one,) = rows("west/ewgw", f"outbound_.80_.v2_.{HOST}", gateway=True)
    cause = "no endpoint of the service in this gateway's network has the labels of subset v2"
    assert (one.address, one.share, one.why) == ("", 0.0, f"{REFUSED}{cause}")


@pytest.mark.parametrize(
    ("case", "name", "cluster", "why"),
    [
        ("14-distribute-no-locality-mesh", "cloud/client", "outbound|5432||db.shop", NAMELESS),
        ("14-distribute-no-locality-typo", "cloud/client", "outbound|80||web.shop", TYPO),
        ("15-empty-subset-mesh", "west/client", "outbound|80|east|web.shop", NO_SUCH_LABELS),
        ("32-peer-auth-port-mesh", "east/ewgw", "outbound_.80_._.web.shop", NO_MTLS),
    ],
)
def test_what_emptied_a_cluster_stands_beside_it(case: str, name: str, cluster: str, why: str) -> None:
    """Reported cases, in the words that doctor has for a dump of the same proxy."""
    mesh = load(FILE.with_name(f"{case}.yaml")).mesh
    found = predicted(mesh, workload_named(mesh, name), gateway="ewgw" in name)
    assert [one.why for one in found if one.cluster.startswith(cluster)] == [f"{REFUSED}{why}"]


def test_a_service_without_pods_says_that_istiod_knows_none() -> None:
    text = FILE.read_text().replace("selector: {app: web}", "selector: {app: nothing}")
    mesh = parse(text, "x").mesh
    found = predicted(mesh, workload_named(mesh, "west/client"), gateway=False)
    (whole,) = (one for one in found if one.cluster == f"outbound|80||{HOST}")
    assert whole.why.startswith(f"{REFUSED}istiod knows no endpoint: no pod is selected")


def test_workloads_without_an_address_count_as_if_they_had_one() -> None:
    """The demo's get theirs when it runs, and a Deployment's pods when they start."""
    demo = load(Path(__file__).parents[2] / "mesh" / "demo.yaml").mesh
    found = predicted(demo, workload_named(demo, "anthos/client"), gateway=False)
    assert sorted((one.address, one.stands_for, one.share) for one in found) == [
        ("echo-1:8080", "anthos/echo-1", 0.25),
        ("echo-2:8080", "anthos/echo-2", 0.25),
        ("gateway of gke:15443", "gateway of gke", 0.25),
        ("gateway of gke:15443", "gateway of gke", 0.25),
    ]
    assert all(one.why.endswith("; not there yet, as if it had an address") for one in found)


DEPLOYED = """kind: Mesh
clusters: {west: {network: w, gateways: [{address: 192.0.2.1}]}, east: {network: e, gateways: [{address: 192.0.2.2}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}], selector: {app: web}}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, annotations: {eastgate/clusters: "%s"}},
 spec: {replicas: 3, template: {metadata: {labels: {app: web}}}}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: client}, spec: {template: {metadata: {labels: {app: c}}}}}
"""


def test_a_repository_of_deployments_alone_is_predicted() -> None:
    """Its pods count on both sides of a gateway, and what did not change does not move."""
    both, away = (parse(DEPLOYED % clusters, "x").mesh for clusters in ("west,east", "east"))
    found = predicted(both, workload_named(both, "west/client-0"), gateway=False)
    shares = {one.stands_for: one.share for one in found}
    assert shares == {**{f"west/web-{at}": pytest.approx(1 / 6) for at in range(3)}, "gateway of east": 0.5}
    assert moved(both, parse(DEPLOYED % "west,east", "x").mesh) == ()
    (change,) = [one for one in moved(both, away) if one.client == "west/default/client-0"]
    assert change.after == {"gateway of east": 1.0}


ENTRIES = """
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: one, namespace: shop}
spec: {hosts: [one.example], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: several, namespace: shop}
spec:
  hosts: [several.example]
  resolution: DNS
  ports: [{number: 443, name: tls, protocol: TLS}]
  endpoints: [{address: x.example, weight: 3}, {address: y.example, ports: {tls: 8443}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: anywhere, namespace: shop}
spec: {hosts: [anywhere.example], resolution: NONE, ports: [{number: 443, name: tls, protocol: TLS}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: fixed, namespace: shop}
spec:
  hosts: [fixed.example]
  resolution: STATIC
  ports: [{number: 443, name: tls, protocol: TLS}]
  endpoints: [{address: 192.0.2.8}]
"""


def test_services_beside_those_of_kubernetes_are_not_told_to_be_refused() -> None:
    """Their endpoints are names, whatever the client dialled, or in the cluster itself: EDS has nothing of them."""
    mesh = parse(FILE.read_text() + ENTRIES, "x").mesh
    found: dict[str, dict[str, float]] = {}
    reasons = {}
    for one in predicted(mesh, workload_named(mesh, "west/client"), gateway=False):
        found.setdefault(one.cluster, {})[one.address] = pytest.approx(one.share)
        reasons[one.address] = one.why
    assert found["outbound|443||one.example"] == {"one.example:443": 1.0}
    assert found["outbound|443||several.example"] == {"x.example:443": 0.75, "y.example:8443": 0.25}
    assert found["outbound|443||anywhere.example"] == {"original destination": 1.0}
    assert found["outbound|443||fixed.example"] == {"192.0.2.8:443": 1.0}
    assert reasons["x.example:443"].endswith("; a name, as if it had one address")
    assert reasons["original destination"] == "goes where the client wanted to go"
    assert "a name" not in reasons["192.0.2.8:443"]


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


TWINS = """\
kind: Mesh
clusters:
  west:
    network: w
    gateways: [{address: 192.0.2.1}]
    workloads:
      - {name: web-w, address: 10.1.0.1, labels: {app: web}}
      - {name: client-5f, address: 10.1.0.9, labels: {app: client, pod-template-hash: 5f}}
      - {name: gate, address: 10.1.0.3, labels: {gateway: east-west}}
  east:
    network: e
    gateways: [{address: 192.0.2.2}]
    workloads: [{name: web-e, address: 10.1.0.1, labels: {app: web}}]
services:
  - {name: web, ports: [{name: tcp, port: 80, targetPort: 8080}], selector: {app: web}}
  - {name: peers, headless: true, ports: [{name: tcp, port: 80}], selector: {app: web}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gate}
spec:
  selector: {gateway: east-west}
  servers: [{port: {number: 15443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}, hosts: ["*.local"]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec: {hosts: [api.example.com], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}
"""
WEB = "outbound|80||web.default.svc.cluster.local"
SNI = "outbound_.80_._.web.default.svc.cluster.local"


def test_pods_of_two_networks_may_have_one_address() -> None:
    mesh = parse(TWINS, "x").mesh
    found = predicted(mesh, workload_named(mesh, "west/client-5f"), gateway=False)
    assert {one.address: one.stands_for for one in found if one.cluster == WEB} == {
        "10.1.0.1:8080": "west/web-w",
        "192.0.2.2:15443": "gateway of east",
    }


@pytest.mark.parametrize(
    ("old", "new", "afar"),
    [
        ("", "", {"east/web-v1": "net-e", "east/web-v2": "net-e"}),
        # One of the pods is in the client's network, by its label.
        ("{app: web, version: v2}", "{app: web, topology.istio.io/network: net-w}", {"east/web-v1": "net-e"}),
        ("network: net-e\n", "network: net-w\n", {}),
        ("network: net-e\n", "network: net-e\n    gateways: [{address: 192.0.2.2}]\n", {}),
        ("    network: net-e\n", "", {}),
    ],
)
def test_pods_of_a_network_without_a_gateway_are_named(old: str, new: str, afar: dict[str, str]) -> None:
    """istiod sends their addresses, which may lead nowhere from here."""
    text = (FILE.parent / "16-remote-pods-direct-mesh.yaml").read_text()
    mesh = parse(text.replace(old, new), "x").mesh
    found = predicted(mesh, workload_named(mesh, "west/client"), gateway=False)
    said = {one.stands_for: one.why.rpartition("; ")[2] for one in found if "no gateway is known" in one.why}
    assert said == {name: f"a pod of network {network}, to which no gateway is known" for name, network in afar.items()}


def test_where_the_control_plane_sends_no_endpoints_nobody_is_refused() -> None:
    mesh = parse(TWINS, "x").mesh
    found = {one.cluster: one for one in predicted(mesh, workload_named(mesh, "west/client-5f"), gateway=False)}
    peers, api = found["outbound|80||peers.default.svc.cluster.local"], found["outbound|443||api.example.com"]
    assert (peers.address, peers.share) == ("original destination", 1.0)
    assert (api.address, api.share) == ("api.example.com:443", 1.0)
    assert not any("refused" in one.why for one in (peers, api))


def test_a_client_of_another_name_is_compared_with_the_one_like_it() -> None:
    renamed = TWINS.replace("client-5f", "client-7c").replace("pod-template-hash: 5f", "pod-template-hash: 7c")
    old, new = parse(TWINS, "x").mesh, parse(renamed.replace("name: web-w, ", "name: web-w, ready: false, "), "x").mesh
    changes = {(one.client, one.cluster): one.points for one in moved(old, new)}
    assert changes["west/default/client-7c", WEB] == pytest.approx(50)
    other = parse(renamed.replace("app: client", "app: other"), "x").mesh
    assert [one.name for one, was in pairs(old, other) if not was] == ["client-7c"]


def test_what_comes_or_goes_moves_all_of_it() -> None:
    old, new = parse(TWINS, "x").mesh, parse(TWINS.replace("name: web,", "name: webs,"), "x").mesh
    points = {one.cluster: one.points for one in moved(old, new, ("west/client-5f",))}
    assert points == {WEB: 100.0, WEB.replace("web.", "webs."): 100.0}


def test_a_gateway_is_who_a_gateway_selects_and_its_hosts_count() -> None:
    old, new = parse(TWINS, "x").mesh, parse(TWINS.replace('"*.local"', '"*.global"'), "x").mesh
    changes = {(one.client, one.cluster): dict(one.after) for one in moved(old, new)}
    assert changes["west/default/gate", SNI] == {"refused": 1.0}
