"""Who stands behind a Service of Kubernetes, where, and for whom: slices, readiness, nodes, injection."""

import json
from typing import Any

import pytest
from eastgate.mesh.control_plane import resources
from eastgate.mesh.errors import MeshError
from eastgate.mesh.importing import ClusterObjects, mesh_text
from eastgate.mesh.kubernetes_pods import REGION_KEYS
from eastgate.mesh.mesh_file import parse
from eastgate.mesh.messages import EDS
from eastgate.mesh.model import Mesh
from eastgate.mesh.node_view import node_view
from eastgate.mesh.scenario import workload_named
from eastgate.trial.prediction import predicted
from eastgate.xds.resources import Locality

MESH = "kind: Mesh\nclusters: {west: {}}\n"
Object = dict[str, Any]


def pod(name: str, address: str, *, app: str = "web", node: str = "n1", ready: str = "True") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": app, "security.istio.io/tlsMode": "istio"}},
        "spec": {"nodeName": node},
        "status": {"podIP": address, "conditions": [{"type": "Ready", "status": ready}]},
    }


def service(annotations: Object | None = None, **spec: Any) -> Object:
    ports = [{"name": "tcp", "port": 80, "targetPort": "http"}]
    spec = {"clusterIP": "10.0.0.1", "ports": ports, "selector": {"app": "web"}, **spec}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "annotations": annotations},
        "spec": spec,
    }


def part(*endpoints: Object, name: str = "a", **changes: Any) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "tcp", "port": 9090}],
        "endpoints": list(endpoints),
        **changes,
    }


CLIENT = pod("client", "10.1.0.9", app="client")
MEMBER = {"addresses": ["10.1.0.1"], "targetRef": {"kind": "Pod", "name": "web-1"}}
NUMBERED = [{"name": "tcp", "port": 80, "targetPort": 8080}]


def read(*objects: Object) -> Mesh:
    return parse(MESH + "---\n" + "\n---\n".join(map(json.dumps, [*objects, CLIENT])), "x").mesh


def shares(mesh: Mesh) -> dict[str, tuple[str, float]]:
    rows = predicted(mesh, workload_named(mesh, "west/client"), gateway=False)
    return {row.address: (row.health, row.share) for row in rows if row.address}


def test_a_slice_says_where_its_endpoints_listen() -> None:
    """A target port that is a name is known to pods alone, and one that is a number is not asked."""
    assert shares(read(service(), part(MEMBER))) == {"10.1.0.1:9090": ("HEALTHY", 1.0)}
    assert shares(read(service(ports=NUMBERED), part(MEMBER))) == {"10.1.0.1:9090": ("HEALTHY", 1.0)}
    old = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "web"},
        "subsets": [{"addresses": [{"ip": "10.1.0.2"}], "ports": [{"name": "tcp", "port": 9191}]}],
    }
    assert shares(read(service(), old)) == {"10.1.0.2:9191": ("HEALTHY", 1.0)}


def test_a_port_of_another_name_is_not_the_services() -> None:
    assert shares(read(service(), part(MEMBER, ports=[{"name": "metrics", "port": 9090}]))) == {}


def test_what_was_imported_listens_there_too() -> None:
    made, _ = mesh_text([ClusterObjects("west", [service(), part(MEMBER), CLIENT])])
    assert shares(parse(made, "x").mesh) == {"10.1.0.1:9090": ("HEALTHY", 1.0)}


def test_one_pod_with_addresses_of_two_families_is_read() -> None:
    other = part({**MEMBER, "addresses": ["fd00::1"]}, name="b", addressType="IPv6")
    assert set(shares(read(service(), part(MEMBER), other))) == {"10.1.0.1:9090", "[fd00::1]:9090"}


def test_addresses_that_are_names_are_left_alone_as_istiod_does() -> None:
    assert shares(read(service(), part({"addresses": ["db.example.com"]}, addressType="FQDN"))) == {}
    with pytest.raises(MeshError, match=r"^x:\d+: .*'db.example.com' does not appear to be an IPv4 or IPv6 address"):
        read(service(), part({"addresses": ["db.example.com"]}))


@pytest.mark.parametrize(
    ("conditions", "health"),
    [
        ({}, "HEALTHY"),
        ({"ready": None}, "HEALTHY"),
        ({"ready": True, "terminating": True}, "HEALTHY"),
        ({"ready": False, "terminating": False}, "UNHEALTHY"),
        ({"ready": False, "terminating": True}, ""),
        ({"ready": False}, ""),
    ],
)
def test_conditions_of_an_endpoint(conditions: Object, health: str) -> None:
    found = shares(read(service(), part({**MEMBER, "conditions": conditions})))
    assert [one for one, _ in found.values()] == ([health] if health else [])


def test_a_slice_says_of_a_pod_of_the_file_whether_it_is_ready() -> None:
    """Of a service without a selector; the pod's own word counts for the services that select it."""
    away = service(selector={}), part({**MEMBER, "conditions": {"ready": False, "terminating": False}})
    assert shares(read(*away, pod("web-1", "10.1.0.1"))) == {"10.1.0.1:9090": ("UNHEALTHY", 0.0)}
    there = service(selector={}), part({**MEMBER, "conditions": {"ready": True}})
    assert shares(read(*there, pod("web-1", "10.1.0.1", ready="False"))) == {"10.1.0.1:9090": ("HEALTHY", 1.0)}
    made, _ = mesh_text([ClusterObjects("west", [*away, pod("web-1", "10.1.0.1"), CLIENT])])
    assert shares(parse(made, "x").mesh) == {"10.1.0.1:9090": ("UNHEALTHY", 0.0)}


NAMELESS = {"addresses": ["10.1.0.1"]}
PLACES = [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {REGION_KEYS[0]: "r1"}}}]


@pytest.mark.parametrize(
    ("slice_says", "ready", "namespace", "found"),
    [
        (NAMELESS, "True", "default", True),
        (NAMELESS, "False", "default", False),
        (NAMELESS, "True", "other", False),
        (MEMBER, "False", "default", True),
    ],
)
def test_an_address_without_a_name_is_a_ready_pods_of_its_namespace_or_nobodys(
    slice_says: Object, ready: str, namespace: str, found: bool
) -> None:
    """istiod knows nothing of an address whose pod it does not find: no locality, no labels, no mTLS."""
    one = pod("web-1", "10.1.0.1", ready=ready)
    one["metadata"]["namespace"] = namespace
    mesh = read(service(selector={}), part({**slice_says, "conditions": {"ready": True}}), one, *PLACES)
    (row,) = (row for row in predicted(mesh, workload_named(mesh, "west/client"), gateway=False) if row.address)
    assert (row.address, row.health, row.share) == ("10.1.0.1:9090", "HEALTHY", 1.0)
    (workload,) = mesh.behind(mesh.services[0])
    assert (workload.mtls, workload.locality.region, workload.is_bare) == (found, "r1" if found else "", not found)


def test_of_pods_of_one_address_one_stands_behind_it() -> None:
    """Those of a host's network share it."""
    pods = [pod(f"web-{number}", "10.1.0.1") for number in (1, 2)]
    assert shares(read(service(selector={}), part(NAMELESS), *pods)) == {"10.1.0.1:9090": ("HEALTHY", 1.0)}
    strange = [{**one, "metadata": {**one["metadata"], "namespace": "other"}} for one in pods]
    assert shares(read(service(selector={}), part(NAMELESS), *strange)) == {"10.1.0.1:9090": ("HEALTHY", 1.0)}


def test_an_address_of_no_pod_has_neither_a_name_nor_a_place() -> None:
    mesh = read(service(selector={}), part({**NAMELESS, "nodeName": "n1"}), *PLACES)
    (workload,) = mesh.behind(mesh.services[0])
    assert (workload.is_bare, workload.mtls, workload.locality.region) == (True, False, "")
    sent = resources(mesh, node_view("sidecar~10.1.0.9~client.default~x", {"CLUSTER_ID": "west"}, Locality(), mesh))
    assert b";;;;west" in sent[EDS]["outbound|80||web.default.svc.cluster.local"]


def test_a_pod_without_a_named_account_has_the_namespaces_own() -> None:
    one = pod("web-1", "10.1.0.1")
    one["spec"]["serviceAccountName"] = ""
    assert [each.service_account for each in read(service(), one).workloads] == ["default", "default"]


def test_unready_endpoints_that_are_published_count_as_ready() -> None:
    unready = pod("web-1", "10.1.0.1", ready="False")
    assert shares(read(service(ports=NUMBERED), unready)) == {"10.1.0.1:8080": ("UNHEALTHY", 0.0)}
    published = service(ports=NUMBERED, publishNotReadyAddresses=True)
    assert shares(read(published, unready)) == {"10.1.0.1:8080": ("HEALTHY", 1.0)}


def test_a_local_traffic_policy_keeps_clients_on_their_node() -> None:
    pods = pod("web-1", "10.1.0.1"), pod("web-2", "10.1.0.2", node="n2")
    assert set(shares(read(service(ports=NUMBERED), *pods))) == {"10.1.0.1:8080", "10.1.0.2:8080"}
    assert set(shares(read(service(ports=NUMBERED, internalTrafficPolicy="Local"), *pods))) == {"10.1.0.1:8080"}


def test_nodes_of_two_clusters_may_have_one_name() -> None:
    """Both on one network, so that the other cluster's pod would be dialled."""
    local = service(ports=NUMBERED, internalTrafficPolicy="Local")
    far = pod("web-1", "10.2.0.1")
    far["metadata"]["annotations"] = {"eastgate/clusters": "east"}
    for one in (near := pod("web-1", "10.1.0.1"), client := pod("client", "10.1.0.9", app="client")):
        one["metadata"]["annotations"] = {"eastgate/clusters": "west"}
    mesh = parse(
        MESH.replace("}}", "}, east: {}}") + "---\n" + "\n---\n".join(map(json.dumps, [local, near, far, client])), "x"
    )
    assert set(shares(mesh.mesh)) == {"10.1.0.1:8080"}


ANNOTATION = "networking.istio.io/traffic-distribution"


@pytest.mark.parametrize(
    ("own", "namespace", "spec", "found"),
    [
        ("preferclose", "", None, "PreferClose"),
        ("", "PREFERSAMENODE", None, "PreferSameNode"),
        ("any", "PreferClose", None, ""),
        ("PreferSameNode", "", "PreferSameZone", "PreferSameZone"),
        ("PreferSameNode", "", "SomethingElse", "PreferSameNode"),
    ],
)
def test_traffic_distribution_is_the_specs_the_services_or_the_namespaces_word(
    own: str, namespace: str, spec: str | None, found: str
) -> None:
    place = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "default", "annotations": {ANNOTATION: namespace}},
    }
    mesh = read(place, service({ANNOTATION: own}, trafficDistribution=spec))
    assert mesh.services[0].traffic_distribution == found


@pytest.mark.parametrize(
    ("template", "injected"),
    [
        ({}, True),
        ({"annotations": {"sidecar.istio.io/inject": "false"}}, False),
        ({"labels": {"app": "web", "sidecar.istio.io/inject": "false"}}, False),
        ({"hostNetwork": True}, False),
    ],
)
def test_which_pods_of_a_deployment_get_a_sidecar(template: Object, injected: bool) -> None:
    metadata = {"labels": {"app": "web"}, **template}
    spec = {"template": {"metadata": metadata, "spec": {"hostNetwork": "hostNetwork" in template}}}
    mesh = read({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec})
    assert [one.mtls for one in mesh.workloads if one.name == "web-0"] == [injected]


def test_more_replicas_than_any_cluster_has_are_refused() -> None:
    spec = {"replicas": 2_000_000}
    with pytest.raises(MeshError, match=r"^x:\d+: spec.replicas: input should be less than or equal to 100000"):
        read({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec})


@pytest.mark.parametrize("address", ["<none>", "10.0.0.300", "web"])
def test_an_address_that_is_none_is_refused_with_its_line(address: str) -> None:
    with pytest.raises(MeshError, match=r"^x:\d+: status.podIP: .* does not appear to be an IPv4 or IPv6 address"):
        read(pod("web-1", address))
    with pytest.raises(MeshError, match=r"^x:\d+: spec.clusterIP: .* does not appear to be an IPv4 or IPv6 address"):
        read(service(clusterIP=address))
