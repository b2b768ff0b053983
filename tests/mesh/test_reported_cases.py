"""Small files after public reports: what istiod makes of them, as decided by a real one (tests/lab/real/sets)."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from eastgate.mesh.control_plane import resources
from eastgate.mesh.endpoints import ClusterKey, groups
from eastgate.mesh.errors import MeshError
from eastgate.mesh.listeners import gateway_listeners
from eastgate.mesh.mesh_file import MeshFile, load, parse
from eastgate.mesh.messages import CDS, EDS
from eastgate.mesh.model import Mesh
from eastgate.mesh.node_view import NodeView, node_view
from eastgate.mesh.outbound import outbound
from eastgate.mesh.scope import scope_of
from eastgate.mesh.split_horizon import NetworkGateway, Seen
from eastgate.xds.resources import Locality
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import TcpProxy

FOLDER = Path(__file__).parents[1] / "data/mesh/cases"
NETWORKS = {"west": "net-w", "east": "net-e"}
WEST = Locality("us-west-2", "us-west-2a")
V1, V2, GATEWAY = "10.1.0.1:8080", "10.2.0.2:8080", "192.0.2.2:15443"
SNI_V2 = "outbound_.80_.v2_.web.shop.svc.cluster.local"


def case(name: str) -> MeshFile:
    return load(FOLDER / f"{name}.yaml")


def sidecar(mesh: Mesh, namespace: str = "shop", labels: Mapping[str, str] | None = None) -> NodeView:
    metadata = {"CLUSTER_ID": "west", "NETWORK": "net-w", "NAMESPACE": namespace, "LABELS": labels or {}}
    return node_view(f"sidecar~10.9.9.9~x.{namespace}~{namespace}.svc.cluster.local", metadata, WEST, mesh)


def router(mesh: Mesh, cluster: str, namespace: str = "istio-system") -> NodeView:
    network = NETWORKS[cluster]
    metadata = {"CLUSTER_ID": cluster, "NETWORK": network, "REQUESTED_NETWORK_VIEW": network, "NAMESPACE": namespace,
                "LABELS": {"istio": "eastwestgateway"}}  # fmt: skip
    return node_view(f"router~10.9.9.8~gw.{namespace}~{namespace}.svc.cluster.local", metadata, WEST, mesh)


def endpoints(mesh: Mesh, node: NodeView, subset: str = "", *, sni_dnat: bool = False) -> dict[str, tuple[int, int]]:
    """Address -> priority and weight."""
    service = next(one for one in mesh.services if one.name in ("web", "helloworld"))
    found = {}
    for group in groups(mesh, node, ClusterKey(service, service.ports[0], subset, sni_dnat)):
        for candidate in group.candidates:
            seen = candidate.endpoint
            assert isinstance(seen, Seen)
            where = seen.gateway or seen.member
            assert where
            port = seen.gateway.port if seen.gateway else 8080
            found[f"{where.address}:{port}"] = (group.priority, candidate.weight)
    return found


def chains(mesh: Mesh, node: NodeView) -> set[str]:
    found = [chain.filter_chain_match for one in gateway_listeners(mesh, node) for chain in one.filter_chains]
    return {name for match in found if match for name in match.server_names}


def test_the_services_rule_wins_over_the_roots_for_gateways_and_clients_of_the_root_namespace() -> None:
    mesh = case("03-root-ns-catchall-mesh").mesh
    for node in (router(mesh, "east"), router(mesh, "west")):
        assert SNI_V2 in chains(mesh, node)
    for namespace in ("istio-system", "shop", "elsewhere"):
        assert "outbound|80|v2|web.shop.svc.cluster.local" in resources(mesh, sidecar(mesh, namespace))[CDS]
    assert endpoints(mesh, router(mesh, "east"), "v2", sni_dnat=True) == {"10.2.0.2:8080": (0, 1)}


def test_a_private_rule_of_the_root_namespace_is_for_clients_there() -> None:
    text = (FOLDER / "03-root-ns-catchall-mesh.yaml").read_text()
    text = text.replace('host: "*.local"', 'host: "*.local"\n  exportTo: ["."]')
    mesh = parse(text, "x").mesh
    name = "outbound|80|v2|web.shop.svc.cluster.local"
    assert [name in resources(mesh, sidecar(mesh, place))[CDS] for place in ("istio-system", "shop")] == [False, True]


def test_two_rules_of_one_host_are_merged() -> None:
    mesh = case("04-two-drs-one-host-mesh").mesh
    sent = resources(mesh, sidecar(mesh))
    assert {f"outbound|80|{one}|web.shop.svc.cluster.local" for one in ("", "v1", "v2")} <= set(sent[CDS])
    # The younger rule's policy, which only it has, is inherited by the older one's subset: priorities.
    assert endpoints(mesh, sidecar(mesh), "v1") == {V1: (0, 1), GATEWAY: (1, 1)}


def test_of_two_policies_the_older_counts_whole() -> None:
    text = (FOLDER / "04-two-drs-one-host-mesh.yaml").read_text()
    own = "  host: web\n  trafficPolicy: {loadBalancer: {simple: RANDOM}}\n"
    for created, priorities in (("2020-01-01T00:00:00Z", [0, 0]), ("", [0, 0])):
        aged = text.replace("metadata: {name: web, ", f'metadata: {{creationTimestamp: "{created}", name: web, ', 1)
        mesh = parse(aged.replace("  host: web\n", own), "x").mesh
        assert [priority for priority, _ in endpoints(mesh, sidecar(mesh), "v1").values()] == priorities


def test_a_workload_selector_is_for_clients_that_it_fits() -> None:
    mesh = case("06-workload-selector-mesh").mesh
    assert endpoints(mesh, sidecar(mesh, labels={"app": "batch"})) == {GATEWAY: (0, 2)}
    assert endpoints(mesh, sidecar(mesh, labels={"app": "client"})) == {V1: (0, 1), GATEWAY: (1, 2)}
    assert endpoints(mesh, sidecar(mesh, "elsewhere", {"app": "batch"})) == {V1: (0, 1), GATEWAY: (1, 2)}


def test_a_network_label_of_a_pod_counts_before_its_clusters_network() -> None:
    mesh = case("08-network-label-mesh").mesh
    assert endpoints(mesh, sidecar(mesh)) == {V1: (0, 1), "10.1.7.7:8080": (0, 1), GATEWAY: (0, 1)}


def test_a_namespaces_network_counts_before_mesh_networks() -> None:
    mesh = case("22-network-precedence-mesh").mesh
    assert endpoints(mesh, sidecar(mesh)) == {GATEWAY: (0, 1)}


def test_mesh_networks_of_helm() -> None:
    mesh = case("09-mesh-networks-helm-form").mesh
    assert mesh.gateways == (NetworkGateway("network1", "192.0.2.1", 443), NetworkGateway("network2", "192.0.2.2", 443))
    assert {one.network for one in mesh.workloads} == {"network1", "network2"}


def test_mesh_networks_in_snake_case_name_services_that_may_be_missing() -> None:
    file = case("09-mesh-networks-snake")
    assert {one.network for one in file.mesh.workloads} == {"network1", "network2"}
    service = "istio-eastwestgateway.istio-system.svc.cluster.local"
    assert sum(f"no service {service} with an address outside" in line for line in file.findings) == 2


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("fromRegistry: cluster1", "fromregistry: cluster1", ":5: meshNetworks.network1.endpoints.0.fromregistry"),
        ("meshNetworks:\n", "meshNetworks:\n  networks: {}\n", ":4: meshNetworks.network1"),
    ],
)
def test_what_mesh_networks_say_and_nobody_reads_is_told(old: str, new: str, found: str) -> None:
    text = (FOLDER / "09-mesh-networks-helm-form.yaml").read_text()
    assert parse(text, "x").findings == ()
    assert f"x{found} is not honoured" in parse(text.replace(old, new), "x").findings


def test_a_misspelt_field_of_a_network_is_told_with_its_line() -> None:
    text = (FOLDER / "22-network-precedence-mesh.yaml").read_text()
    (found,) = parse(text.replace("fromRegistry", "fromregistry"), "x").findings
    assert found == "x:5: meshNetworks.networks.legacy-east.endpoints.0.fromregistry is not honoured"


CONFIG_MAP = """
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio-canary, namespace: istio-system}
data: {%s: "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"}
"""


def test_the_config_map_of_an_istiod_is_not_called_without_effect() -> None:
    text = (FOLDER / "22-network-precedence-mesh.yaml").read_text()
    for key in ("mesh", "meshNetworks"):
        (found,) = parse(text + CONFIG_MAP % key, "x").findings
        assert "ConfigMap: not read: give its mesh to the Mesh document as meshConfig" in found
    (found,) = parse(text + CONFIG_MAP % "nginx.conf", "x").findings
    assert found.endswith("ConfigMap: without effect on where TCP connections go")


SERVICE = """
---
apiVersion: v1
kind: Service
metadata: {name: istio-eastwestgateway, namespace: istio-system, annotations: {eastgate/clusters: cluster2}}
spec: {ports: [{name: tls, port: 443}]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.9}]}}
"""


def test_mesh_networks_find_their_gateways_by_service() -> None:
    mesh = parse((FOLDER / "09-mesh-networks-snake.yaml").read_text() + SERVICE, "x").mesh
    assert mesh.gateways == (NetworkGateway("network2", "192.0.2.9", 443, "cluster2"),)


def test_a_gateways_name_is_resolved_or_refused() -> None:
    mesh = load(FOLDER / "10-hostname-gateway-mesh.yaml", resolve=lambda name: ["192.0.2.8", "192.0.2.7"]).mesh
    assert [one.address for one in mesh.gateways] == ["192.0.2.1", "192.0.2.7", "192.0.2.8"]
    with pytest.raises(MeshError, match=r"mesh.yaml:14: gateway k8s-istiosys.* cannot be resolved"):
        load(FOLDER / "10-hostname-gateway-mesh.yaml", resolve=lambda name: [])


def test_a_gateways_name_is_left_out_where_istiod_does_not_resolve() -> None:
    text = (FOLDER / "10-hostname-gateway-mesh.yaml").read_text()
    text = text.replace("kind: Mesh\n", "kind: Mesh\noptions: {resolve_hostname_gateways: false}\n", 1)
    file = parse(text, "x", resolve=lambda name: ["192.0.2.7"])
    assert [one.address for one in file.mesh.gateways] == ["192.0.2.1"]
    assert any("is a name, and left out" in line for line in file.findings)


def test_a_repositorys_usual_files_are_read_with_one_finding_for_each_kind() -> None:
    kinds = [line.split(": ", 1)[1] for line in case("11-real-world-paste-mesh").findings]
    for kind in ("IstioOperator", "Gateway", "EnvoyFilter"):
        assert sum(line.startswith(f"{kind}:") for line in kinds) == 1, kinds
    # These are applied.
    assert not [line for line in kinds if line.startswith(("ServiceEntry:", "Sidecar:", "AuthorizationPolicy:"))]
    assert sum("http routes have no effect" in line for line in kinds) == 1


def test_a_list_of_kubectl_is_read() -> None:
    (rule,) = [one for one in case("12-kubectl-list-mesh").mesh.resources if one.kind == "DestinationRule"]
    assert (rule.name, rule.created) == ("web", "2026-01-07T10:00:00Z")


def test_inherited_outlier_detection_is_no_doubt() -> None:
    assert not [line for line in case("13-doubts-inherited-mesh").findings if "does nothing" in line]


def test_passthrough_servers_lead_to_istiod() -> None:
    mesh = case("17-expose-istiod-mesh").mesh
    made = {one.name: one for one in gateway_listeners(mesh, router(mesh, "west"))}
    (chain,) = made["0.0.0.0_15012"].filter_chains
    proxy = chain.filters[-1].typed_config.unpack()
    assert isinstance(proxy, TcpProxy)
    assert (proxy.cluster, chain.filter_chain_match) == ("outbound|15012||istiod.istio-system.svc.cluster.local", None)
    assert "0.0.0.0_15017" in made


@pytest.mark.parametrize(("weights", "sent"), [((9, 1), [9, 1]), ((90, 20), [90, 20]), ((9, None), [9])])
def test_any_weights_are_sent_as_they_are(weights: tuple[int, int | None], sent: list[int]) -> None:
    text = (FOLDER / "21-weights-mesh.yaml").read_text()
    text = text.replace("weight: 9}", f"weight: {weights[0]}}}")
    text = text.replace(", weight: 1}", f", weight: {weights[1]}}}" if weights[1] is not None else "}")
    mesh = parse(text, "x").mesh
    node = sidecar(mesh)
    (listener,) = [one for one in outbound(mesh, node, scope_of(mesh, node)).listeners if one.name.endswith("_80")]
    proxy = listener.filter_chains[0].filters[-1].typed_config.unpack()
    assert isinstance(proxy, TcpProxy)
    assert proxy.weighted_clusters
    assert [one.weight for one in proxy.weighted_clusters.clusters] == sent


def test_weights_of_nothing_are_refused() -> None:
    text = (FOLDER / "21-weights-mesh.yaml").read_text().replace(", weight: 9", "").replace(", weight: 1", "")
    with pytest.raises(MeshError, match=r"spec\.tcp\.0: the weights of a route sum to 0"):
        parse(text, "x")
    with pytest.raises(MeshError, match=r"spec\.http\.0: the weights of a route sum to 0"):
        parse(text.replace("tcp:\n    - route", "http:\n    - route"), "x")


def test_a_weight_that_no_message_holds_is_refused() -> None:
    text = (FOLDER / "21-weights-mesh.yaml").read_text()
    parse(text.replace("weight: 9}", "weight: 2147483647}"), "x")
    with pytest.raises(MeshError, match=r"route.0.weight: input should be less than or equal to 2147483647"):
        parse(text.replace("weight: 9}", "weight: 2147483648}"), "x")


def test_one_subset_without_tls_empties_only_that_subset() -> None:
    mesh = case("30-subset-tls-disable-mesh").mesh
    assert endpoints(mesh, sidecar(mesh)) == {V1: (0, 1), GATEWAY: (0, 2)}
    assert endpoints(mesh, router(mesh, "east"), "v2", sni_dnat=True) == {V2: (0, 1)}
    assert "outbound_.80_.legacy_.web.shop.svc.cluster.local" in chains(mesh, router(mesh, "east"))


def test_only_the_subset_with_tls_keeps_its_endpoints() -> None:
    text = (FOLDER / "30-subset-tls-disable-mesh.yaml").read_text()
    text = text.replace("  subsets:\n", "  trafficPolicy: {tls: {mode: DISABLE}}\n  subsets:\n")
    mutual = "labels: {version: v2}, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}\n    - name: legacy"
    text = text.replace("labels: {version: v2}}\n    - name: legacy", mutual)
    mesh = parse(text, "x").mesh
    assert endpoints(mesh, router(mesh, "east"), sni_dnat=True) == {}
    assert endpoints(mesh, router(mesh, "east"), "v2", sni_dnat=True) == {V2: (0, 1)}


def test_a_port_without_mtls_empties_the_gateways_cluster() -> None:
    mesh = case("32-peer-auth-port-mesh").mesh
    raw = resources(mesh, router(mesh, "east"))[EDS]["outbound_.80_._.web.shop.svc.cluster.local"]
    assert not [one for part in ClusterLoadAssignment.parse(raw).endpoints for one in part.lb_endpoints]
    assert endpoints(mesh, sidecar(mesh)) == {V1: (0, 1)}
