"""ServiceEntries: how their hosts are reached, for each resolution, and by whom they are seen."""

import json
from typing import Any

import pytest
from eastgate.mesh.control_plane import resources
from eastgate.mesh.errors import MeshError
from eastgate.mesh.importing import ClusterObjects, mesh_text
from eastgate.mesh.mesh_file import MeshFile, parse
from eastgate.mesh.messages import EDS
from eastgate.mesh.model import Mesh
from eastgate.mesh.service_entries import service_of
from envoy_data_plane.envoy.config.cluster.v3 import Cluster, ClusterDiscoveryType
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment

from .meaning import meaning
from .sidecars import MESH, applied, clusters, listeners, read, routes, sidecar

TLS = "ports: [{number: 443, name: tls, protocol: TLS}]"
NAME = "outbound|443||api.example.com"


def entry(spec: str, **place: Any) -> Mesh:
    return read(applied("ServiceEntry", spec, **place)).mesh


def cluster(mesh: Mesh, name: str = NAME) -> Cluster:
    return clusters(mesh, sidecar(mesh, "client"))[name]


def addresses(assignment: ClusterLoadAssignment | None) -> list[tuple[str, int, int]]:
    """Address, port and weight of all endpoints."""
    assert assignment
    found = []
    for one in (each for group in assignment.endpoints for each in group.lb_endpoints):
        assert one.endpoint
        assert one.endpoint.address
        where = one.endpoint.address.socket_address
        assert where
        found.append((where.address, where.port_value or 0, one.load_balancing_weight or 0))
    return found


def istio(found: Cluster) -> dict[str, Any]:
    metadata: dict[str, Any] = meaning(found.metadata)["filter_metadata"]["istio"]
    return metadata


def test_a_host_outside_is_looked_up_by_the_proxy_and_never_with_mesh_tls() -> None:
    mesh = entry(f"{{hosts: [api.example.com], {TLS}, resolution: DNS}}")
    found = cluster(mesh)
    assert found.type == ClusterDiscoveryType.STRICT_DNS
    assert found.eds_cluster_config is None
    assert addresses(found.load_assignment) == [("api.example.com", 443, 1)]
    assert not found.transport_socket_matches
    assert not found.transport_socket
    assert istio(found)["external"] is True
    assert NAME not in resources(mesh, sidecar(mesh, "client"))[EDS]
    assert cluster(entry(f"{{hosts: [api.example.com], {TLS}, resolution: DNS_ROUND_ROBIN}}")).type == (
        ClusterDiscoveryType.LOGICAL_DNS
    )


def test_without_an_address_a_tls_port_is_told_by_server_name() -> None:
    mesh = entry(f"{{hosts: [api.example.com], {TLS}, resolution: DNS}}")
    place = listeners(mesh, sidecar(mesh, "client"))["0.0.0.0_443"]
    (chain,) = place.filter_chains
    assert chain.filter_chain_match
    assert chain.filter_chain_match.server_names == ["api.example.com"]
    assert place.default_filter_chain
    assert place.default_filter_chain.name == "PassthroughFilterChain"


def test_an_address_is_a_place_and_a_range_is_matched() -> None:
    port = "{number: 3306, name: tcp, protocol: TCP}"
    mesh = entry(f"{{hosts: [db.example.com], addresses: [10.8.0.1, 10.8.1.0/24], ports: [{port}]}}")
    found = listeners(mesh, sidecar(mesh, "client"))
    assert "10.8.0.1_3306" in found
    (chain,) = found["0.0.0.0_3306"].filter_chains
    assert chain.filter_chain_match
    (prefix,) = chain.filter_chain_match.prefix_ranges
    assert (prefix.address_prefix, prefix.prefix_len) == ("10.8.1.0", 24)
    assert cluster(mesh, "outbound|3306||db.example.com").type == ClusterDiscoveryType.ORIGINAL_DST


ENDPOINTS = """{hosts: [vm.shop.internal], location: MESH_INTERNAL, resolution: STATIC,
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}],
  endpoints: [{address: 10.7.0.1, weight: 3, serviceAccount: vm, ports: {http: 9090}}, {address: 10.7.0.2}]}"""


def test_endpoints_have_weights_ports_and_accounts() -> None:
    mesh = entry(ENDPOINTS)
    name = "outbound|80||vm.shop.internal"
    node = sidecar(mesh, "client")
    sent = ClusterLoadAssignment.parse(resources(mesh, node)[EDS][name])
    assert addresses(sent) == [("10.7.0.1", 9090, 3), ("10.7.0.2", 8080, 1)]
    found = cluster(mesh, name)
    assert [one.name for one in found.transport_socket_matches] == ["tlsMode-istio", "tlsMode-disabled"]
    assert "external" not in istio(found)
    # HTTP hosts share the port.
    hosts = [one.name for one in routes(mesh, node)["80"].virtual_hosts]
    assert "vm.shop.internal:80" in hosts


def test_a_label_says_where_an_endpoint_is_that_has_no_locality() -> None:
    first = "{address: 10.7.0.1, labels: {istio-locality: r1.z1}}"
    second = "{address: 10.7.0.2, locality: r2, labels: {istio-locality: r1}}"
    mesh = entry(f"{{hosts: [api.example.com], {TLS}, resolution: STATIC, endpoints: [{first}, {second}]}}")
    sent = ClusterLoadAssignment.parse(resources(mesh, sidecar(mesh, "client"))[EDS][NAME])
    found = [(one.locality.region, one.locality.zone) for one in sent.endpoints if one.locality]
    assert found == [("r1", "z1"), ("r2", "")]


def test_pods_may_be_selected() -> None:
    spec = f"{{hosts: [api.example.com], {TLS}, resolution: STATIC, workloadSelector: {{labels: {{app: web}}}}}}"
    mesh = entry(spec)
    sent = ClusterLoadAssignment.parse(resources(mesh, sidecar(mesh, "client"))[EDS][NAME])
    assert addresses(sent) == [("10.1.0.1", 443, 1), ("10.1.0.2", 443, 1)]


def test_an_entry_is_seen_where_it_is_exported_and_a_service_of_kubernetes_hides_it() -> None:
    spec = f"{{hosts: [api.example.com], {TLS}, resolution: DNS, exportTo: ['.']}}"
    mesh = entry(spec, namespace="other")
    assert NAME not in clusters(mesh, sidecar(mesh, "client"))
    hidden = entry(
        "{hosts: [web.shop.svc.cluster.local], ports: [{number: 80, name: tcp, protocol: TCP}], resolution: DNS}"
    )
    assert cluster(hidden, "outbound|80||web.shop.svc.cluster.local").type == ClusterDiscoveryType.EDS


def test_a_route_may_lead_to_an_entry() -> None:
    route = "{hosts: [data.shop.svc.cluster.local], tcp: [{route: [{destination: {host: api.example.com}}]}]}"
    entries = applied("ServiceEntry", f"{{hosts: [api.example.com], {TLS}, resolution: DNS}}")
    file = read(entries, applied("VirtualService", route))
    assert not file.findings
    place = listeners(file.mesh, sidecar(file.mesh, "client"))["10.9.0.3_5432"]
    packed = place.filter_chains[0].filters[-1].typed_config
    assert packed
    # The only port that it has, whatever the listener's.
    assert NAME.encode() in packed.value


@pytest.mark.parametrize(
    ("spec", "cause"),
    [
        ("{hosts: []}", "hosts"),
        (f"{{hosts: ['*.a.b'], {TLS}, resolution: DNS}}", "has no address that DNS knows"),
        (f"{{hosts: [a.b], {TLS}, endpoints: [{{address: 10.0.0.1}}]}}", "go where they wanted to"),
        (
            f"{{hosts: [a.b], {TLS}, resolution: STATIC, endpoints: [{{address: 10.0.0.1, ports: {{x: 1}}}}]}}",
            "a port 'x'",
        ),
    ],
)
def test_what_istiod_refuses_is_refused_with_its_cause(spec: str, cause: str) -> None:
    with pytest.raises(MeshError, match=cause):
        entry(spec)


STATIC = "hosts: [api.example.com], location: MESH_INTERNAL, resolution: STATIC"


def two(first: str, second: str, **place: Any) -> Mesh:
    """An older entry and a younger one."""
    return read(
        applied("ServiceEntry", f"{{{STATIC}, {first}}}", name="a")
        + applied("ServiceEntry", f"{{{STATIC}, {second}}}", name="b", **place)
    ).mesh


def behind(mesh: Mesh, port: int = 443) -> set[tuple[str, int]]:
    sent = resources(mesh, sidecar(mesh, "client"))[EDS].get(f"outbound|{port}||api.example.com", b"")
    return {(address, number) for address, number, _ in addresses(ClusterLoadAssignment.parse(sent))}


def test_entries_of_one_host_and_namespace_are_one_service() -> None:
    http = "ports: [{number: 80, name: http, protocol: TCP}], endpoints: [{address: 1.1.1.2, ports: {http: 8080}}]"
    same = two(f"{TLS}, endpoints: [{{address: 1.1.1.1}}]", f"{TLS}, endpoints: [{{address: 1.1.1.2}}]")
    assert behind(same) == {("1.1.1.1", 443), ("1.1.1.2", 443)}
    apart = two(f"{TLS}, endpoints: [{{address: 1.1.1.1}}]", http)
    assert (behind(apart), behind(apart, 80)) == ({("1.1.1.1", 443)}, {("1.1.1.2", 8080)})


FIRST, SECOND = f"{TLS}, endpoints: [{{address: 1.1.1.1}}]", f"{TLS}, endpoints: [{{address: 1.1.1.2}}]"


def test_of_two_namespaces_a_client_has_its_own_entry_and_others_the_older() -> None:
    """The clients of this mesh are in shop."""
    older = two(f"{FIRST}, exportTo: ['*']", SECOND, namespace="other")
    assert behind(older) == {("1.1.1.1", 443)}
    elsewhere = read(
        applied("ServiceEntry", f"{{{STATIC}, {FIRST}}}", name="a", namespace="other"),
        applied("ServiceEntry", f"{{{STATIC}, {SECOND}}}", name="b"),
    ).mesh
    assert behind(elsewhere) == {("1.1.1.2", 443)}
    neither = two(FIRST, SECOND, namespace="zoo")
    away = sidecar(neither, "client", NAMESPACE="away")
    sent = ClusterLoadAssignment.parse(resources(neither, away)[EDS][NAME])
    assert addresses(sent) == [("1.1.1.1", 443, 1)]


def test_what_is_meant_for_a_namespace_comes_before_what_all_see() -> None:
    mesh = read(
        applied("ServiceEntry", f"{{{STATIC}, {FIRST}}}", name="a", namespace="other"),
        applied("ServiceEntry", f"{{{STATIC}, {SECOND}, exportTo: [shop]}}", name="b", namespace="more"),
    ).mesh
    assert behind(mesh) == {("1.1.1.2", 443)}


WEB = "hosts: [web.shop.svc.cluster.local], resolution: STATIC"
HTTP = "ports: [{number: 80, name: http, protocol: HTTP}]"


def behind_web(mesh: Mesh, **metadata: Any) -> set[tuple[str, int]]:
    sent = resources(mesh, sidecar(mesh, "client", **metadata))[EDS]["outbound|80||web.shop.svc.cluster.local"]
    return {(address, number) for address, number, _ in addresses(ClusterLoadAssignment.parse(sent))}


def test_an_entry_for_a_service_of_kubernetes_adds_its_endpoints_to_ports_of_one_name() -> None:
    pods = {("10.1.0.1", 8080), ("10.1.0.2", 8080)}
    mesh = entry(f"{{{WEB}, {HTTP}, endpoints: [{{address: 1.1.1.1}}]}}")
    assert behind_web(mesh) == {*pods, ("1.1.1.1", 80)}
    other = entry(f"{{{WEB}, {HTTP.replace('http,', 'more,')}, endpoints: [{{address: 1.1.1.1}}]}}")
    assert behind_web(other) == pods


def test_clients_of_an_entrys_namespace_have_it_before_a_service_of_kubernetes() -> None:
    mesh = entry(f"{{{WEB}, {HTTP}, endpoints: [{{address: 1.1.1.1}}]}}", namespace="away")
    assert behind_web(mesh) == {("10.1.0.1", 8080), ("10.1.0.2", 8080)}
    assert behind_web(mesh, NAMESPACE="away") == {("1.1.1.1", 80)}


def test_a_sidecar_that_names_both_has_the_one_of_kubernetes() -> None:
    hosts = "{egress: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [away/*]}, {hosts: [shop/*]}]}"
    mesh = read(
        applied("ServiceEntry", f"{{{WEB}, {HTTP}, endpoints: [{{address: 1.1.1.1}}]}}", namespace="away"),
        applied("Sidecar", hosts),
    ).mesh
    assert behind_web(mesh) == {("10.1.0.1", 8080), ("10.1.0.2", 8080)}


def test_endpoints_show_a_name_only_with_an_account_and_nobody_says_whether_they_are_ready() -> None:
    one = "{hosts: [api.example.com], location: MESH_INTERNAL, resolution: STATIC"
    mesh = entry(f"{one}, {TLS}, endpoints: [{{address: 1.1.1.1}}]}}")
    (socket, _) = cluster(mesh).transport_socket_matches
    assert "match_subject_alt_names" not in str(meaning(socket))
    sent = meaning(ClusterLoadAssignment.parse(resources(mesh, sidecar(mesh, "client"))[EDS][NAME]))
    assert "health_status" not in sent["endpoints"][0]["lb_endpoints"][0]
    named = entry(f"{one}, {TLS}, endpoints: [{{address: 1.1.1.1, serviceAccount: vm}}, {{address: 1.1.1.2}}]}}")
    assert "spiffe://cluster.local/ns/shop/sa/vm" in str(meaning(cluster(named)))
    assert "sa/default" not in str(meaning(cluster(named)))


def test_a_pod_that_is_selected_counts_when_it_is_ready_and_by_its_own_name_for_a_port() -> None:
    ready = "{name: web-1, namespace: shop, address: 10.1.0.1, labels: {app: web}, service_account: web}"
    changed = MESH.replace(ready, ready.replace("labels", "ports: {tls: 8443}, labels"))
    changed = changed.replace("10.1.0.2, labels", "10.1.0.2, ready: false, labels")
    spec = f"{{hosts: [api.example.com], {TLS}, resolution: STATIC, workloadSelector: {{labels: {{app: web}}}}}}"
    mesh = parse(changed + applied("ServiceEntry", spec), "x").mesh
    assert behind(mesh) == {("10.1.0.1", 8443)}


def test_a_name_among_static_endpoints_is_left_out_and_a_socket_refused() -> None:
    mesh = entry(f"{{{STATIC}, {TLS}, endpoints: [{{address: one.example.com}}, {{address: 1.1.1.1}}]}}")
    assert behind(mesh) == {("1.1.1.1", 443)}
    with pytest.raises(MeshError, match=r"unix sockets are not read here: unix:///run/api"):
        entry(f"{{{STATIC}, {TLS}, endpoints: [{{address: 'unix:///run/api'}}]}}")


TWO_CLUSTERS = {"kind": "Mesh", "clusters": {"west": {}, "east": {}}}
SELECTING = f"{{{STATIC}, {TLS}, workloadSelector: {{labels: {{app: web}}}}}}"


def of_two_clusters(*objects: dict[str, Any]) -> MeshFile:
    """An entry that selects pods, and objects that say in which cluster they are."""
    text = "\n---\n".join(map(json.dumps, [TWO_CLUSTERS, *objects]))
    return parse(text + "\n" + applied("ServiceEntry", SELECTING), "x")


def pod_of(cluster: str, address: str, *, name: str = "web-0", since: str | None = None) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": since}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "labels": {"app": "web"},
            "annotations": {"eastgate/clusters": cluster},
        },
        "spec": {},
        "status": {"podIP": address, "conditions": [ready]},
    }


def pods_behind(mesh: Mesh) -> set[tuple[str, str]]:
    """Cluster and name of everything behind the entry's host."""
    found = service_of(mesh, "west", "api.example.com")
    assert found
    return {(one.cluster, one.name) for one in mesh.behind(found)}


def test_of_pods_with_one_name_in_two_clusters_an_entry_has_the_last_that_became_ready() -> None:
    """istiod keeps the pods that entries select by namespace and name, without their cluster."""
    near, far = pod_of("west", "10.1.0.1"), pod_of("east", "10.2.0.1")
    file = of_two_clusters(near, far)
    assert pods_behind(file.mesh) == {("east", "web-0")}
    assert any("pods named web-0 are in west and east: istiod has only the one" in one for one in file.findings)
    younger = of_two_clusters(pod_of("west", "10.1.0.1", since="2026-11-30T11:00:00Z"), far)
    assert pods_behind(younger.mesh) == {("west", "web-0")}
    made, _ = mesh_text([ClusterObjects("west", [pod_of("west", "10.1.0.1", since="2026-11-30T11:00:00Z")])])
    assert [one.ready_since for one in parse(made, "x").mesh.workloads] == ["2026-11-30T11:00:00Z"]


def test_pods_with_names_of_their_own_are_all_behind_an_entry() -> None:
    file = of_two_clusters(pod_of("west", "10.1.0.1"), pod_of("east", "10.2.0.1", name="web-1"))
    assert pods_behind(file.mesh) == {("west", "web-0"), ("east", "web-1")}
    assert not any("pods named" in one for one in file.findings)


def test_pods_of_two_networks_may_have_one_address() -> None:
    """As clusters that were made with the same settings have it."""
    file = of_two_clusters(pod_of("west", "10.1.0.1"), pod_of("east", "10.1.0.1", name="web-1"))
    assert pods_behind(file.mesh) == {("west", "web-0"), ("east", "web-1")}


@pytest.mark.parametrize(("kind", "found"), [("Deployment", {"west", "east"}), ("StatefulSet", {"east"})])
def test_names_that_kubernetes_will_make_up_are_not_alike(kind: str, found: set[str]) -> None:
    template = {"metadata": {"labels": {"app": "web"}}}
    made = {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"template": template},
    }
    file = of_two_clusters(made)
    assert {cluster for cluster, _ in pods_behind(file.mesh)} == found
    assert any("pods named" in one for one in file.findings) == (kind == "StatefulSet")


def machine(spec: str, **place: Any) -> str:
    return applied("WorkloadEntry", spec, **place)


def test_a_service_of_kubernetes_selects_workload_entries_too() -> None:
    """At their own port of the service port's name, else at its target port; labels of the metadata count as well."""
    mesh = read(
        machine(
            "{address: 10.8.0.1, labels: {app: web}, ports: {http: 9999}, weight: 3, serviceAccount: vm}", name="a"
        ),
        machine("{address: 10.8.0.2, labels: {app: other}}", name="b", more=", labels: {app: web}"),
        machine("{address: 10.8.0.3, labels: {app: other}}", name="c"),
        machine("{address: vm.example.com, labels: {app: web}}", name="d"),
        machine("{address: 10.8.0.5, labels: {app: web}}", name="e", namespace="other"),
        machine("{network: far, labels: {app: web}}", name="f"),
    ).mesh
    pods = {("10.1.0.1", 8080), ("10.1.0.2", 8080)}
    assert behind_web(mesh) == {*pods, ("10.8.0.1", 9999), ("10.8.0.2", 8080)}
    web = service_of(mesh, "a", "web.shop.svc.cluster.local")
    assert web
    assert [(one.name, one.weight, one.mtls) for one in mesh.behind(web) if one.address.startswith("10.8")] == [
        ("a", 3, True),
        ("b", 1, False),
    ]
    # A headless service has pods alone.
    assert {one.address for one in mesh.behind(service_of(mesh, "a", "pods.shop.svc.cluster.local") or web)} == {
        "10.1.0.1",
        "10.1.0.2",
    }


def test_a_target_port_that_is_a_name_is_a_machines_own() -> None:
    named = MESH.replace("ports: [{name: http, port: 80, targetPort: 8080}]", "ports: [{port: 80, targetPort: www}]")
    one = machine("{address: 10.8.0.1, labels: {app: web}, ports: {www: 9999}}", name="a")
    other = machine("{address: 10.8.0.2, labels: {app: web}}", name="b")
    assert behind_web(parse(named + one + other, "x").mesh) == {("10.8.0.1", 9999)}


def test_an_entry_selects_workload_entries_of_all_clusters() -> None:
    mesh = {"kind": "Mesh", "clusters": {"west": {"network": "n"}, "east": {"network": "n"}}}
    of = ', annotations: {eastgate/clusters: "%s"}'
    text = json.dumps(mesh) + "\n" + applied("ServiceEntry", SELECTING)
    text += machine("{address: 10.8.0.1, labels: {app: web}, ports: {tls: 8443}}", name="a", more=of % "west")
    text += machine("{address: 10.8.0.2, labels: {app: web}}", name="b", more=of % "east")
    text += machine("{address: 10.8.0.3, labels: {app: web}}", name="c", more=of % "west,east")
    text += machine("{address: vm.example.com, labels: {app: web}}", name="d")
    found = parse(text, "x").mesh
    for cluster, own in (("west", "west"), ("east", "east")):
        entry_there = service_of(found, cluster, "api.example.com")
        assert entry_there
        assert {(one.name, one.cluster) for one in found.behind(entry_there)} == {
            ("a", "west"),
            ("b", "east"),
            ("c", own),
        }


def test_a_workload_entry_must_be_somewhere_and_is_imported_with_its_labels() -> None:
    with pytest.raises(MeshError, match=r"^mesh.yaml:\d+: spec: an address is missing, or a network"):
        read(machine("{labels: {app: web}}"))
    metadata = {"name": "a", "namespace": "shop", "labels": {"app": "web"}}
    one = {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry", "metadata": metadata}
    here = {**one, "spec": {"address": "10.8.0.1"}}
    there = {**here, "metadata": {**metadata, "labels": {"app": "old"}}}
    made, _ = mesh_text([ClusterObjects("west", [here]), ClusterObjects("east", [there])])
    found = {(*each.clusters,): each.spec for each in parse(made, "x").mesh.resources}
    assert {clusters: spec.labels for clusters, spec in found.items()} == {
        ("west",): {"app": "web"},
        ("east",): {"app": "old"},
    }


CHECKED = ', annotations: {proxy.istio.io/health-checks-enabled: "%s"}'


@pytest.mark.parametrize(
    ("checked", "conditions", "sent"),
    [
        ("true", [{"type": "Healthy", "status": "True"}], True),
        ("true", [{"type": "Healthy", "status": "False"}, {"type": "Healthy", "status": "True"}], False),
        ("true", [{"type": "Ready", "status": "True"}], False),
        # Nobody has probed it yet.
        ("1", None, False),
        ("yes", [{"type": "Healthy", "status": "False"}], True),
        ("false", [{"type": "Healthy", "status": "False"}], True),
    ],
)
def test_a_machine_whose_health_is_checked_counts_while_it_is_healthy(
    checked: str, conditions: list[dict[str, str]] | None, *, sent: bool
) -> None:
    """As istiod's IsWorkloadEntryHealthy, behind Services and ServiceEntries alike."""
    status = f"status: {json.dumps({'conditions': conditions})}\n" if conditions else ""
    one = machine("{address: 10.8.0.1, labels: {app: web}}", name="a", more=CHECKED % checked) + status
    file = read(applied("ServiceEntry", SELECTING), one)
    assert (("10.8.0.1", 8080) in behind_web(file.mesh)) is sent
    selected = service_of(file.mesh, "a", "api.example.com")
    assert selected
    assert any(one.address == "10.8.0.1" for one in file.mesh.behind(selected)) is sent
    assert any("its health is checked" in line for line in file.findings) is not sent


def test_the_health_of_a_machine_is_imported_without_its_times() -> None:
    condition = {"type": "Healthy", "status": "False", "lastProbeTime": "2026-01-01T00:00:00Z", "message": "refused"}
    metadata = {"name": "a", "namespace": "shop", "annotations": {"proxy.istio.io/health-checks-enabled": "true"}}
    one = {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry", "metadata": metadata}
    one = {**one, "spec": {"address": "10.8.0.1"}, "status": {"conditions": [condition]}}
    healthy = {**one, "status": {"conditions": [{**condition, "status": "True"}]}}
    made, _ = mesh_text([ClusterObjects("west", [one]), ClusterObjects("east", [healthy])])
    assert "lastProbeTime" not in made
    assert [sorted(each.clusters) for each in parse(made, "x").mesh.resources] == [["east"]]


def test_localities_that_are_written_otherwise_stay_apart() -> None:
    """A node without a sub zone is in "r1/z1/", an entry's endpoint in "r1/z1": two localities for istiod."""
    placed = MESH.replace("workloads:\n", "nodes: {n: {region: r1, zone: z1}}\n    workloads:\n", 1)
    placed = placed.replace("address: 10.1.0.1,", "address: 10.1.0.1, node: n,", 1)
    for locality, groups in (("r1/z1", 3), ("r1/z1/", 2)):
        one = machine(f"{{address: 10.8.0.1, labels: {{app: web}}, locality: {locality}}}")
        mesh = parse(placed + one, "x").mesh
        sent = resources(mesh, sidecar(mesh, "client"))[EDS]["outbound|80||web.shop.svc.cluster.local"]
        # The second pod has no node.
        assert len(ClusterLoadAssignment.parse(sent).endpoints) == groups


def test_a_pod_and_a_machine_of_one_name_are_both_there_but_not_from_another_cluster() -> None:
    """istiod keeps what it hears of other clusters beside all pods, by name."""
    one = machine(
        "{address: 10.8.0.1, labels: {app: web}}", name="web-0", more=", annotations: {eastgate/clusters: west}"
    )
    text = "\n---\n".join(map(json.dumps, [TWO_CLUSTERS, pod_of("west", "10.1.0.1")]))
    found = parse(text + "\n" + applied("ServiceEntry", SELECTING) + one, "x").mesh
    near, far = (service_of(found, cluster, "api.example.com") for cluster in ("west", "east"))
    assert near
    assert far
    assert {each.address for each in found.behind(near)} == {"10.8.0.1", "10.1.0.1"}
    assert {each.address for each in found.behind(far)} == {"10.8.0.1"}
