"""Kubernetes objects beside a Mesh document, in folders, in lists; and running clusters as a mesh file."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from eastgate.mesh.errors import MeshError
from eastgate.mesh.importing import ClusterObjects, collect, mesh_text
from eastgate.mesh.kubernetes import GATEWAY_PORT, NETWORK, NODE_SELECTOR, KubernetesService
from eastgate.mesh.mesh_file import load, parse
from eastgate.mesh.specs import GROUPS
from eastgate.mesh.split_horizon import NetworkGateway
from eastgate.xds.resources import Locality

MESH = "kind: Mesh\nclusters: {west: {}, east: {}}\n"
Object = dict[str, Any]


def meta(name: str, labels: Object | None = None) -> Object:
    return {"name": name, "namespace": "shop", "labels": labels or {}}


def pod(name: str, address: str, node: str, **labels: str) -> Object:
    ready = [{"type": "Ready", "status": "True"}]
    ports = [{"name": "front", "containerPort": 9000}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta(name, {"app": "web", **labels}),
        "spec": {"nodeName": node, "containers": [{"name": "web", "ports": ports}], "initContainers": None},
        "status": {"podIP": address, "phase": "Running", "conditions": ready},
    }


def cluster(network: str, region: str, address: str) -> list[Object]:
    zone = {"topology.kubernetes.io/region": region, "topology.kubernetes.io/zone": f"{region}a"}
    gateway = {"type": "LoadBalancer", "clusterIP": "10.0.0.9", "ports": [{"name": "tls", "port": 15443}]}
    ports = [{"name": "tcp", "port": 80, "targetPort": "front"}]
    web = {"selector": {"app": "web"}, "clusterIP": "10.0.0.1", "ports": ports}
    system = {"labels": {"topology.istio.io/network": network}}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system", **system}},
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": zone}},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta("web"), "spec": web},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "ewgw", "namespace": "istio-system", **system},
            "spec": gateway,
            "status": {"loadBalancer": {"ingress": [{"ip": address}]}},
        },
    ]


INJECTED = {"security.istio.io/tlsMode": "istio"}
WEST = [
    *cluster("net-w", "us-west-2", "192.0.2.1"),
    pod("web-1", "10.1.0.1", "n1", **INJECTED),
]
EAST = [*cluster("net-e", "us-east-1", "192.0.2.2"), pod("web-1", "10.2.0.1", "n1")]


def text(objects: Sequence[Object]) -> str:
    return "\n---\n".join(json.dumps(one) for one in objects)


def test_a_folder_for_each_cluster(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text(MESH)
    for name, objects in (("west", WEST), ("east", EAST)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "all.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    mesh = load(tmp_path).mesh
    assert mesh.gateways == (
        NetworkGateway("net-e", "192.0.2.2", 15443, "east"),
        NetworkGateway("net-w", "192.0.2.1", 15443, "west"),
    )
    found = {one.cluster: one for one in mesh.workloads}
    assert {name: (one.network, one.mtls, one.ready) for name, one in found.items()} == {
        "west": ("net-w", True, True), "east": ("net-e", False, True),
    }  # fmt: skip
    assert found["west"].locality == Locality("us-west-2", "us-west-2a")
    web = next(one for one in mesh.services if one.name == "web")
    assert (web.clusters, web.addresses) == ({"west", "east"}, {"west": ("10.0.0.1",), "east": ("10.0.0.1",)})
    assert all(web.selects(one) for one in found.values())


def test_a_wrong_object_is_one_line_with_its_place() -> None:
    bad = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ports:\n    - {port: eighty}\n"
    with pytest.raises(MeshError, match=r"^mesh.yaml:9: spec.ports.0.port: input should be a valid integer"):
        parse(MESH + bad, "mesh.yaml")


def test_a_deployment_stands_for_pods_that_are_not_there() -> None:
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta("web"),
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"nodeSelector": {"topology.kubernetes.io/region": "us-west-2"}},
            },
        },
    }
    alone = parse(MESH + "---\n" + text([*cluster("n", "us-west-2", "192.0.2.1"), deployment]), "x").mesh
    assert [(one.cluster, one.name) for one in alone.workloads] == [
        ("east", "web-0"), ("east", "web-1"), ("west", "web-0"), ("west", "web-1"),
    ]  # fmt: skip
    assert all(one.mtls and one.locality.region == "us-west-2" for one in alone.workloads)
    beside = parse(MESH + "---\n" + text([*WEST, deployment]), "x").mesh
    assert [one.name for one in beside.workloads] == ["web-1", "web-1"]


def node(name: str, labels: Object, taints: Sequence[Object] = (), external: str = "") -> Object:
    addresses = [{"type": "InternalIP", "address": "10.0.0.7"}, {"type": "ExternalIP", "address": external}]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": list(taints)},
        "status": {"addresses": addresses},
    }


def daemon_set(**spec: Any) -> Object:
    template = {"metadata": {"labels": {"app": "log"}}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": meta("log"),
        "spec": {"selector": {"matchLabels": {"app": "log"}}, "template": template},
    }


CONTROL = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
UNREACHABLE = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}


@pytest.mark.parametrize(
    ("spec", "pods"),
    [
        ({}, ["log-a"]),
        ({"nodeSelector": {"disk": "ssd"}}, ["log-a"]),
        ({"nodeSelector": {"disk": "tape"}}, []),
        ({"tolerations": [{"operator": "Exists"}]}, ["log-a", "log-b"]),
        ({"tolerations": [{"key": CONTROL["key"], "operator": "Exists", "effect": "NoSchedule"}]}, ["log-a", "log-b"]),
        ({"tolerations": [{"key": CONTROL["key"], "value": "no"}]}, ["log-a"]),
        ({"tolerations": [{"key": CONTROL["key"], "operator": "Exists", "effect": "NoExecute"}]}, ["log-a"]),
    ],
)
def test_a_daemon_set_stands_for_a_pod_on_each_node_that_takes_it(spec: Object, pods: list[str]) -> None:
    nodes = [node("a", {"disk": "ssd"}, [UNREACHABLE]), node("b", {}, [CONTROL])]
    mesh = parse("kind: Mesh\nclusters: {west: {}}\n---\n" + text([*nodes, daemon_set(**spec)]), "x").mesh
    assert [one.name for one in mesh.workloads] == pods
    assert all(one.name == f"log-{one.node}" and one.mtls for one in mesh.workloads)


def affinity(*terms: Object) -> Object:
    """A spec that requires one of these terms."""
    required = {"nodeSelectorTerms": list(terms)}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


def wants(key: str, operator: str, *values: str, of: str = "matchExpressions") -> Object:
    return {of: [{"key": key, "operator": operator, "values": list(values)}]}


SSD = wants("disk", "In", "ssd", "nvme")
CPUS_4 = {"key": "cpus", "operator": "Gt", "values": ["4"]}


@pytest.mark.parametrize(
    ("terms", "on"),
    [
        ([SSD], "a"),
        ([wants("disk", "NotIn", "ssd")], "bc"),
        ([wants("disk", "Exists")], "ab"),
        ([wants("disk", "DoesNotExist")], "c"),
        ([wants("cpus", "Gt", "4")], "a"),
        ([wants("cpus", "Lt", "5")], "b"),
        ([wants("metadata.name", "In", "c", of="matchFields")], "c"),
        ([SSD, wants("disk", "DoesNotExist")], "ac"),
        ([{"matchExpressions": [*SSD["matchExpressions"], {**CPUS_4, "values": ["8"]}]}], ""),
        ([{**SSD, **wants("metadata.name", "NotIn", "a", of="matchFields")}], ""),
        ([{}], ""),
        ([], ""),
    ],
)
def test_a_daemon_set_is_on_nodes_that_its_affinity_requires(terms: list[Object], on: str) -> None:
    nodes = [
        node("a", {"disk": "ssd", "cpus": "8"}),
        node("b", {"disk": "tape", "cpus": "4"}),
        node("c", {"cpus": "?"}),
    ]
    objects = [*nodes, daemon_set(**affinity(*terms))]
    mesh = parse("kind: Mesh\nclusters: {west: {}}\n---\n" + text(objects), "x").mesh
    assert "".join(one.node for one in mesh.workloads) == on


ZONE = "topology.kubernetes.io/zone"


@pytest.mark.parametrize(
    ("spec", "zone"),
    [
        ({}, ""),
        ({"nodeSelector": {"disk": "ssd"}}, "z1"),
        (affinity(wants(ZONE, "In", "z2")), "z2"),
        (affinity(wants(ZONE, "In", "z3")), ""),
        ({"tolerations": [{"operator": "Exists"}], **affinity(wants(ZONE, "In", "z3"))}, "z3"),
    ],
)
def test_a_deployments_pods_are_in_the_only_locality_that_takes_them(spec: Object, zone: str) -> None:
    nodes = [node("a", {ZONE: "z1", "disk": "ssd"}), node("b", {ZONE: "z2"}), node("c", {ZONE: "z3"}, [CONTROL])]
    made = {**daemon_set(**spec), "kind": "Deployment"}
    mesh = parse("kind: Mesh\nclusters: {west: {}}\n---\n" + text([*nodes, made]), "x").mesh
    assert [one.locality.zone for one in mesh.workloads] == [zone]


WRONG = [wants("cpus", "Gt", "many"), wants("cpus", "Lt", "1", "2"), wants("cpus", "Near", "1")]


@pytest.mark.parametrize("asked", WRONG)
def test_an_affinity_that_kubernetes_refuses_is_refused(asked: Object) -> None:
    with pytest.raises(MeshError, match=r"^x:\d+: spec.template.spec.affinity"):
        parse("kind: Mesh\nclusters: {west: {}}\n---\n" + text([daemon_set(**affinity(asked))]), "x")


@pytest.mark.parametrize(
    ("taint", "effect", "spec", "there"),
    [
        ("unschedulable", "NoSchedule", {}, True),
        ("memory-pressure", "NoSchedule", {}, True),
        ("not-ready", "NoExecute", {}, True),
        ("not-ready", "NoSchedule", {}, False),
        ("out-of-service", "NoExecute", {}, False),
        ("network-unavailable", "NoSchedule", {}, False),
        ("network-unavailable", "NoSchedule", {"hostNetwork": True}, True),
        ("out-of-service", "PreferNoSchedule", {}, True),
        ("unschedulable", "NoSchedule", {"nodeName": "b"}, False),
    ],
)
def test_taints_of_a_nodes_state_and_daemon_sets(taint: str, effect: str, spec: Object, there: bool) -> None:
    one = node("a", {}, [{"key": f"node.kubernetes.io/{taint}", "effect": effect}])
    mesh = parse("kind: Mesh\nclusters: {west: {}}\n---\n" + text([one, daemon_set(**spec)]), "x").mesh
    assert bool(mesh.workloads) == there


def test_a_daemon_set_whose_pods_or_nodes_are_not_told() -> None:
    there = {**pod("log-x", "10.1.0.3", "n1"), "metadata": meta("log-x", {"app": "log"})}
    mesh = parse("kind: Mesh\nclusters: {west: {}}\n---\n" + text([node("a", {}), there, daemon_set()]), "x").mesh
    assert [one.name for one in mesh.workloads] == ["log-x"]
    found = parse("kind: Mesh\nclusters: {west: {}}\n---\n" + text([daemon_set()]), "x")
    assert not found.mesh.workloads
    assert found.findings == ("x:4: DaemonSet shop/log: no Node of west is in the files: its pods are not known",)


def gateway_on_nodes(selector: str, **changes: Any) -> Object:
    port = {"name": "tls", "port": 15443, "nodePort": 32443}
    labels = {NETWORK: "net-w"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**meta("ewgw", labels), "annotations": {NODE_SELECTOR: selector}},
        "spec": {"type": "NodePort", "ports": [port], **changes},
    }


@pytest.mark.parametrize(
    ("selector", "changes", "ways"),
    [
        ('{"edge": "yes"}', {}, [("192.0.2.7", 32443)]),
        ("{}", {}, [("192.0.2.7", 32443), ("192.0.2.8", 32443)]),
        ("no JSON", {}, [("192.0.2.7", 32443), ("192.0.2.8", 32443)]),
        ('{"edge": "yes"}', {"externalIPs": ["192.0.2.9"]}, [("192.0.2.9", 32443)]),
        ('{"edge": "yes"}', {"ports": [{"name": "tls", "port": 15443}]}, "no nodePort for port 15443 in the file"),
        ('{"edge": "no"}', {}, "no chosen node has an ExternalIP"),
        ('{"edge": "yes"}', {"type": "ClusterIP"}, "has no address outside"),
    ],
)
def test_a_gateway_at_ports_of_nodes_that_an_annotation_chooses(selector: str, changes: Object, ways: Any) -> None:
    nodes = [node("a", {"edge": "yes"}, external="192.0.2.7"), node("b", {}, external="192.0.2.8"), node("c", {})]
    objects = [*nodes, gateway_on_nodes(selector, **changes)]
    found = parse("kind: Mesh\nclusters: {west: {}}\n---\n" + text(objects), "x")
    if isinstance(ways, str):
        assert not found.mesh.gateways
        assert any(ways in line for line in found.findings)
        return
    assert [(one.address, one.port) for one in found.mesh.gateways] == ways
    made, _ = mesh_text([ClusterObjects("west", objects)])
    assert parse(made, "x").mesh.gateways == found.mesh.gateways


@pytest.mark.parametrize(
    ("said", "is_told"),
    [
        ("{west: {network: net-w}}", True),
        ("{west: {network: net-w, gateways: [{address: 192.0.2.1}]}}", False),
        ("{west: {network: net-w}, east: {network: net-e, gateways: [{address: 192.0.2.2}]}}", True),
    ],
)
def test_a_gateway_whose_address_stands_in_the_mesh_document_is_no_dead_end(said: str, is_told: bool) -> None:
    """The Service in a repository has none: a cloud gives it."""
    found = parse(f"kind: Mesh\nclusters: {said}\n---\n" + text([gateway_on_nodes("{}", type="LoadBalancer")]), "x")
    assert any("nobody goes through it" in line for line in found.findings) == is_told
    _, told = mesh_text([ClusterObjects("west", [gateway_on_nodes("{}", type="LoadBalancer")])])
    assert any("nobody goes through it" in line for line in told)


def test_slices_say_who_stands_behind_a_service_without_selector() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": meta("db"), "spec": {"ports": [{"port": 5432}]}}
    part = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": meta("db-1", {"kubernetes.io/service-name": "db"}),
        "endpoints": [
            {"addresses": ["10.9.0.1"], "conditions": {"ready": False, "terminating": False}},
            {"addresses": ["10.9.0.2"]},
            # Not ready, and not a word of ending: istiod takes it for an end.
            {"addresses": ["10.9.0.3"], "conditions": {"ready": False}},
        ],
    }
    mesh = parse(MESH + "---\n" + text([service, part]), "x").mesh
    (db,) = mesh.services
    behind = [(one.address, one.ready, one.mtls) for one in mesh.workloads if one.cluster == "west" and db.selects(one)]
    assert behind == [("10.9.0.1", False, False), ("10.9.0.2", True, False)]


def test_a_gateway_of_the_gateway_api_is_a_way_into_its_network() -> None:
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "ew", "namespace": "istio-system", "labels": {"topology.istio.io/network": "net-e"},
                     "annotations": {"eastgate/clusters": "east"}},
        "spec": {
            "gatewayClassName": "istio-east-west",
            "addresses": [{"type": "IPAddress", "value": "192.0.2.7"}],
            "listeners": [{"name": "tls", "port": 15443, "protocol": "TLS", "tls": {"mode": "Passthrough"}}],
        },
    }  # fmt: skip
    mesh = parse(MESH + "---\n" + text([gateway]), "x").mesh
    assert mesh.gateways == (NetworkGateway("net-e", "192.0.2.7", 15443, "east"),)
    (made,) = mesh.resources
    assert (made.kind, made.clusters) == ("Gateway", {"east"})


RULE = {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "spec": {"host": "web"}}


def rule(name: str, created: str) -> Object:
    return {**RULE, "metadata": {"name": name, "namespace": "shop", "creationTimestamp": created, "uid": "x"}}


def test_clusters_become_a_file_that_says_the_same() -> None:
    old, young = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
    west = ClusterObjects("west", [*WEST, rule("a", old), rule("b", young), rule("c", old)])
    east = ClusterObjects("east", [*EAST, rule("a", young), rule("b", old)])
    made, findings = mesh_text([west, east])
    assert findings == ()
    mesh = parse(made, "x").mesh
    assert {(one.cluster, one.network, one.mtls) for one in mesh.workloads} == {
        ("west", "net-w", True), ("east", "net-e", False),
    }  # fmt: skip
    assert {one.address for one in mesh.gateways} == {"192.0.2.1", "192.0.2.2"}
    assert mesh.services[0].addresses == {"west": ("10.0.0.1",), "east": ("10.0.0.1",)}
    # The two rules are of another order of age there: once for each cluster.
    assert [(one.name, sorted(one.clusters)) for one in mesh.resources] == [
        ("a", ["west"]), ("a", ["east"]), ("c", ["west"]), ("b", ["west"]), ("b", ["east"]),
    ]  # fmt: skip


def test_a_policy_that_is_tried_only_is_imported_as_one() -> None:
    """In one cluster it is in force, in the other it is not."""
    spec = {"action": "DENY", "rules": [{}]}
    policy = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "spec": spec}
    metadata = {"name": "deny", "namespace": "shop"}
    tried = {**policy, "metadata": {**metadata, "annotations": {"istio.io/dry-run": "true", "other": "x"}}}
    enforced = {**policy, "metadata": metadata}
    made, _ = mesh_text([ClusterObjects("west", [*WEST, tried]), ClusterObjects("east", [*EAST, enforced])])
    found = {(*one.clusters,): one.annotations.get("istio.io/dry-run") for one in parse(made, "x").mesh.resources}
    assert found == {("west",): "true", ("east",): None}
    alike, _ = mesh_text([ClusterObjects("west", [*WEST, tried]), ClusterObjects("east", [*EAST, tried])])
    (one,) = parse(alike, "x").mesh.resources
    assert one.clusters == {"west", "east"}


def test_kubectl_is_asked_for_no_secret_and_istiod_for_its_name() -> None:
    asked: list[str] = []
    env = [{"name": "CLUSTER_ID", "value": "west"}, {"name": "PILOT_ENABLE_METADATA_EXCHANGE", "value": "false"}]
    istiod = {"spec": {"template": {"spec": {"containers": [{"image": "docker.io/istio/pilot:1.29.5", "env": env}]}}}}
    networks = {"networks": {"net-w": {"endpoints": [{"fromRegistry": "west"}]}}}
    config = {"data": {"mesh": "rootNamespace: istio-system\n", "meshNetworks": yaml.safe_dump(networks)}}

    def kubectl(words: Sequence[str]) -> str:
        asked.append(words[1])
        if words[1].startswith("gateways.gateway"):
            raise MeshError("kubectl", 0, 'error: the server doesn\'t have a resource type "gateways"')
        single = {"configmap": config, "deployment": istiod}
        return json.dumps(single.get(words[1], {"items": []}))

    found = collect(kubectl, "")
    assert (found.name, found.mesh_networks) == ("west", networks["networks"])
    assert found.options == {"metadata_exchange": False, "send_unhealthy_endpoints": False}
    assert not any("secret" in kind for kind in asked)
    # Every kind that is applied.
    plural = {kind: re.sub("([^a])y$", r"\1ie", kind.lower()) + "s" for kind in GROUPS}
    assert {f"{plural[kind]}.{group}" for kind, group in GROUPS.items()} <= set(asked)


def test_what_kubectl_says_is_one_line() -> None:
    def kubectl(words: Sequence[str]) -> str:
        raise MeshError("kubectl --context x", 0, 'error: context "x" does not exist')

    with pytest.raises(MeshError, match=r'^kubectl --context x: error: context "x" does not exist$'):
        collect(kubectl, "")


@pytest.mark.parametrize(
    ("label", "port"), [(None, 15443), ("x", 15443), ("²", 15443), ("9" * 5000, 15443), ("80", 80), ("81", None)]
)
def test_port_of_a_gateway_is_what_its_label_says(label: str | None, port: int | None) -> None:
    """Of the ports that it has; what is no number says nothing, as in Istio."""
    labels = {NETWORK: "net-w", **({GATEWAY_PORT: label} if label is not None else {})}
    spec = {"ports": [{"name": "tls", "port": 15443}, {"name": "tcp", "port": 80}]}
    assert KubernetesService.model_validate({"metadata": meta("ewgw", labels), "spec": spec}).gateway_port() == port
