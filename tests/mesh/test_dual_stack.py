"""IPv4 and IPv6 side by side: what is read of both families, and what proxies of either and of both are sent."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from eastgate.mesh.assignments import assignment
from eastgate.mesh.endpoints import ClusterKey
from eastgate.mesh.errors import MeshError
from eastgate.mesh.importing import collect, mesh_text
from eastgate.mesh.mesh_file import MeshFile, parse
from eastgate.mesh.model import Mesh
from eastgate.mesh.node_view import NodeRefusedError, NodeView, node_view
from eastgate.mesh.scope import scope_of
from eastgate.xds.resources import Locality
from envoy_data_plane.envoy.config.core.v3 import Address
from envoy_data_plane.envoy.config.listener.v3 import Listener

from ..support.gateway_process import run_command
from .sidecars import applied, clusters, listeners, routes, sidecar

ON = "options: {istio_dual_stack: true}\n"
MESH = """\
kind: Mesh
clusters: {a: {network: na}}
"""
V4, V6, DUAL = "10.1.0.9", "fd00::9", "10.1.0.9,fd00::9"


def pod(name: str, *addresses: str, app: str = "web") -> str:
    ips = ", ".join(f"{{ip: '{one}'}}" for one in addresses)
    return f"""---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {{app: {app}, security.istio.io/tlsMode: istio}}}}
spec: {{}}
status: {{podIP: '{addresses[0]}', podIPs: [{ips}], conditions: [{{type: Ready, status: 'True'}}]}}
"""


def service(name: str, spec: str, port: str = "{name: tcp, port: 5432}") -> str:
    return f"""---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec: {{selector: {{app: web}}, ports: [{port}], {spec}}}
"""


PODS = pod("web-1", "10.1.0.1", "fd00::1") + pod("web-2", "10.1.0.2", "fd00::2") + pod("client", V4, V6, app="client")
BOTH = "clusterIP: 10.9.0.1, clusterIPs: [10.9.0.1, 'fd00:9::1'], ipFamilies: [IPv4, IPv6]"
SERVICES = (
    service("both", BOTH)
    + service("web", "clusterIP: 10.9.0.2, clusterIPs: [10.9.0.2, 'fd00:9::2']", "{name: http, port: 80}")
    + service("four", "clusterIP: 10.9.0.3, ipFamilies: [IPv4]")
    + service("six", "clusterIP: 'fd00:9::4', clusterIPs: ['fd00:9::4'], ipFamilies: [IPv6]")
    + service("pods", "clusterIP: None, clusterIPs: [None], ipFamilies: [IPv4, IPv6]", "{name: tcp, port: 9000}")
)


def read(*documents: str, options: str = ON) -> MeshFile:
    text = MESH.replace("kind: Mesh\n", f"kind: Mesh\n{options}", 1)
    return parse(text + "".join(documents or (PODS, SERVICES)), "mesh.yaml")


def client(mesh: Mesh, addresses: str = DUAL, **metadata: Any) -> NodeView:
    return sidecar(mesh, "client", INSTANCE_IPS=addresses, **metadata)


def host(address: Address | None) -> str:
    assert address
    assert address.socket_address
    return address.socket_address.address


def where(listener: Listener) -> list[str]:
    return [host(listener.address), *(host(one.address) for one in listener.additional_addresses)]


def reached(mesh: Mesh, node: NodeView, name: str) -> list[list[str]]:
    """Addresses of each endpoint of a service."""
    found = next(one for one in scope_of(mesh, node).services if one.name == name)
    sent = assignment(mesh, node, ClusterKey(found, found.ports[0]))
    endpoints = [one.endpoint for group in sent.endpoints for one in group.lb_endpoints]
    return [[host(one.address), *(host(more.address) for more in one.additional_addresses)] for one in endpoints if one]


def sources(mesh: Mesh, node: NodeView, cluster: str) -> list[str]:
    bind = clusters(mesh, node)[cluster].upstream_bind_config
    assert bind
    assert bind.source_address
    extra = [one.address.address for one in bind.extra_source_addresses if one.address]
    return [bind.source_address.address, *extra]


def test_a_proxy_of_both_families_listens_over_both() -> None:
    mesh = read().mesh
    found = {name: where(one) for name, one in listeners(mesh, client(mesh)).items()}
    assert found == {
        "virtualOutbound": ["0.0.0.0", "::"],
        "virtualInbound": ["0.0.0.0", "::"],
        "0.0.0.0_80": ["0.0.0.0", "::"],
        "10.9.0.1_5432": ["10.9.0.1", "fd00:9::1"],
        "10.9.0.3_5432": ["10.9.0.3"],
        "fd00:9::4_5432": ["fd00:9::4"],
        # A headless service is its pods' addresses, each by itself.
        **{f"{one}_9000": [one] for one in ("10.1.0.1", "10.1.0.2", "fd00::1", "fd00::2")},
    }


@pytest.mark.parametrize("options", [ON, ""])
@pytest.mark.parametrize(("own", "wildcard", "address"), [(V4, "0.0.0.0", "10.9.0.1"), (V6, "::", "fd00:9::1")])
def test_a_proxy_of_one_family_listens_over_it(options: str, own: str, wildcard: str, address: str) -> None:
    mesh = read(options=options).mesh
    found = listeners(mesh, client(mesh, own))
    for name in ("virtualOutbound", "virtualInbound", f"{wildcard}_80", f"{address}_5432"):
        assert len(where(found[name])) == 1
    assert where(found["virtualOutbound"]) == where(found["virtualInbound"]) == [wildcard]
    # Where a service has no address of its family istiod sends the one that there is.
    assert {"10.9.0.3_5432", "fd00:9::4_5432"} <= set(found)


def test_without_the_switch_the_first_family_counts() -> None:
    mesh = read(options="").mesh
    found = {name: where(one) for name, one in listeners(mesh, client(mesh)).items()}
    assert found["virtualOutbound"] == found["virtualInbound"] == found["0.0.0.0_80"] == ["0.0.0.0"]
    assert found["10.9.0.1_5432"] == ["10.9.0.1"]


@pytest.mark.parametrize(("text", "on"), [("'true'", True), ("'false'", False)])
def test_the_switch_is_istios_own(text: str, on: bool) -> None:
    config = f"meshConfig: {{defaultConfig: {{proxyMetadata: {{ISTIO_DUAL_STACK: {text}}}}}}}\n"
    file = read(options=config)
    assert file.mesh.dual_stack is on
    assert not file.findings
    # What istiod itself has been told counts before what proxies have.
    assert read(options=config + "options: {istio_dual_stack: true}\n").mesh.dual_stack
    assert not read(options=config + "options: {istio_dual_stack: false}\n").mesh.dual_stack


def test_what_else_proxies_are_started_with_is_named() -> None:
    config = "meshConfig: {defaultConfig: {concurrency: 2, proxyMetadata: {ISTIO_META_DNS_CAPTURE: 'true'}}}\n"
    found = "\n".join(read(options=config).findings)
    assert "concurrency" in found
    assert "ISTIO_META_DNS_CAPTURE" in found


def test_a_pod_of_both_families_is_one_endpoint_of_a_service_of_both() -> None:
    mesh = read().mesh
    for own in (V4, V6, DUAL):
        node = client(mesh, own)
        assert reached(mesh, node, "both") == [["10.1.0.1", "fd00::1"], ["10.1.0.2", "fd00::2"]]
        assert reached(mesh, node, "four") == [["10.1.0.1"], ["10.1.0.2"]]
        assert reached(mesh, node, "six") == [["fd00::1"], ["fd00::2"]]


def test_without_the_switch_each_of_its_addresses_is_an_endpoint() -> None:
    mesh = read(options="").mesh
    node = client(mesh)
    assert reached(mesh, node, "both") == [["10.1.0.1"], ["fd00::1"], ["10.1.0.2"], ["fd00::2"]]
    assert reached(mesh, node, "six") == [["fd00::1"], ["fd00::2"]]


def test_a_host_is_asked_for_by_its_addresses() -> None:
    mesh = read().mesh
    domains = {own: routes(mesh, client(mesh, own))["80"].virtual_hosts for own in (V4, V6, DUAL)}
    found = {own: [name for one in hosts for name in one.domains if name[:1] in "1["] for own, hosts in domains.items()}
    assert found == {V4: ["10.9.0.2"], V6: ["[fd00:9::2]"], DUAL: ["10.9.0.2", "[fd00:9::2]"]}


@pytest.mark.parametrize("options", [ON, ""])
def test_inbound_connections_come_from_an_address_of_their_family(options: str) -> None:
    mesh = read(options=options).mesh

    def found(name: str, own: str) -> list[str]:
        return sources(mesh, sidecar(mesh, "web-1", INSTANCE_IPS=own), name)

    for name in ("InboundPassthroughCluster", "inbound|5432||"):
        assert found(name, "10.1.0.1") == ["127.0.0.6"]
        assert found(name, "fd00::1") == ["::6"]
    assert found("InboundPassthroughCluster", "10.1.0.1,fd00::1") == ["127.0.0.6", "::6"]
    # istiod asks for its switch here, and not there.
    assert found("inbound|5432||", "10.1.0.1,fd00::1") == (["127.0.0.6", "::6"] if options else ["127.0.0.6"])


def test_without_interception_both_loopbacks_are_bound() -> None:
    mesh = read().mesh
    for own, expected in ((DUAL, ["127.0.0.1", "::1"]), (V4, ["127.0.0.1"]), (V6, ["::1"])):
        found = listeners(mesh, client(mesh, own, INTERCEPTION_MODE="NONE"))
        assert {name: where(one) for name, one in found.items()} == {
            f"{expected[0]}_{port}": expected for port in (80, 5432, 9000)
        }


INGRESS = """{workloadSelector: {labels: {app: web}}, ingress: [
  {port: {number: 19432, protocol: TCP}, defaultEndpoint: "0.0.0.0:5432"},
  {port: {number: 19433, protocol: TCP}, defaultEndpoint: "[::]:5432"}]}"""


def test_a_port_of_a_sidecar_leads_to_the_pod_in_the_family_that_it_names() -> None:
    mesh = read(PODS, SERVICES, applied("Sidecar", INGRESS)).mesh

    def dialled(name: str, own: str) -> str:
        made = clusters(mesh, sidecar(mesh, "web-1", INSTANCE_IPS=own))[name].load_assignment
        assert made
        endpoint = made.endpoints[0].lb_endpoints[0].endpoint
        assert endpoint
        return host(endpoint.address)

    assert dialled("inbound|19432||", "10.1.0.1,fd00::1") == "10.1.0.1"
    assert dialled("inbound|19433||", "10.1.0.1,fd00::1") == "fd00::1"
    # A pod without one of this family has its loopback.
    assert dialled("inbound|19433||", "10.1.0.1") == "::1"
    assert dialled("inbound|19432||", "fd00::1") == "127.0.0.1"


def slices(name: str, family: str, *endpoints: tuple[str, str]) -> str:
    listed = ", ".join(
        f"{{addresses: ['{address}'], targetRef: {{kind: Pod, name: {of}}}, conditions: {{ready: true}}}}"
        for of, address in endpoints
    )
    return f"""---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-{family.lower()}, namespace: shop, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: {family}
ports: [{{name: tcp, port: 5432}}]
endpoints: [{listed}]
"""


@pytest.mark.parametrize("reverse", [False, True])
def test_slices_of_both_families_name_one_pod(reverse: bool) -> None:
    client_pod = pod("client", V4, V6, app="client")
    parts = [slices("both", "IPv4", ("web-1", "10.1.0.1")), slices("both", "IPv6", ("web-1", "fd00::1"))]
    documents = (client_pod, service("both", BOTH), *(parts[::-1] if reverse else parts))
    mesh = read(*documents).mesh
    assert reached(mesh, client(mesh), "both") == [["10.1.0.1", "fd00::1"]]
    assert [one.name for one in mesh.workloads] == ["client", "web-1"]
    without = read(*documents, options="").mesh
    assert reached(without, client(without), "both") == [["10.1.0.1"], ["fd00::1"]]


def test_a_service_entry_has_a_listener_for_each_address_and_pods_with_all_of_theirs() -> None:
    entry = applied(
        "ServiceEntry",
        "{hosts: [db.example], addresses: [10.8.0.1, 'fd00:8::1', 'fd00:8::2/128'], location: MESH_INTERNAL,"
        " resolution: STATIC, ports: [{number: 5433, name: tcp, protocol: TCP}],"
        " workloadSelector: {labels: {app: web}}}",
    )
    both, first = [["10.1.0.1", "fd00::1"], ["10.1.0.2", "fd00::2"]], [["10.1.0.1"], ["10.1.0.2"]]
    for options, expected in ((ON, both), ("", first)):
        mesh = read(PODS, entry, options=options).mesh
        node = client(mesh)
        assert {"10.8.0.1_5433", "fd00:8::1_5433", "fd00:8::2_5433"} <= set(listeners(mesh, node))
        assert reached(mesh, node, "db.example") == expected


def test_a_name_is_looked_up_in_the_families_of_the_proxy() -> None:
    entry = applied(
        "ServiceEntry", "{hosts: [db.example], resolution: DNS, ports: [{number: 5433, name: tcp, protocol: TCP}]}"
    )
    name = "outbound|5433||db.example"

    def family(own: str, options: str = ON) -> str:
        mesh = read(PODS, entry, options=options).mesh
        found = clusters(mesh, client(mesh, own))[name].dns_lookup_family
        assert found is not None
        return found.name

    assert [family(V4), family(V6), family(DUAL), family(DUAL, "")] == ["V4_ONLY", "V6_ONLY", "ALL", "V4_ONLY"]
    mesh = read(PODS, entry).mesh
    assert where(listeners(mesh, client(mesh, V6))["::_5433"]) == ["::"]
    assert where(listeners(mesh, client(mesh))["0.0.0.0_5433"]) == ["0.0.0.0", "::"]


def test_a_gateway_of_both_families_listens_over_both() -> None:
    gateway = applied(
        "Gateway",
        "{selector: {app: client}, servers: [{port: {number: 15443, name: tls, protocol: TLS}, hosts: ['*.local'],"
        " tls: {mode: AUTO_PASSTHROUGH}}]}",
    )
    for options, expected in ((ON, ["0.0.0.0", "::"]), ("", ["0.0.0.0"])):
        mesh = read(PODS, SERVICES, gateway, options=options).mesh
        node = replace(client(mesh), type="router")
        assert where(listeners(mesh, node)["0.0.0.0_15443"]) == expected


def test_a_mesh_file_says_both_addresses_itself() -> None:
    mesh = parse(
        f"""{ON}kind: Mesh
clusters:
  a:
    addresses: {{web.shop: [10.9.0.1, "fd00:9::1"], one.shop: 10.9.0.2}}
    workloads:
      - {{name: web-1, namespace: shop, address: 10.1.0.1, additional_addresses: ["fd00::1"], labels: {{app: web}}}}
      - {{name: client, namespace: shop, address: 10.1.0.9, additional_addresses: ["fd00::9"]}}
services:
  - {{name: web, namespace: shop, selector: {{app: web}}, ports: [{{name: tcp, port: 5432}}]}}
  - {{name: one, namespace: shop, selector: {{app: web}}, ports: [{{name: tcp, port: 5433}}]}}
  - {{name: auto, namespace: shop, selector: {{app: web}}, families: [IPv6, IPv4], ports: [{{name: tcp, port: 5434}}]}}
""",
        "mesh.yaml",
    ).mesh
    node = client(mesh)
    assert [reached(mesh, node, name) for name in ("web", "one")] == [[["10.1.0.1", "fd00::1"]], [["10.1.0.1"]]]
    found = listeners(mesh, node)
    assert where(found["10.9.0.1_5432"]) == ["10.9.0.1", "fd00:9::1"]
    assert where(found["2001:2::f0f0:3_5434"]) == ["2001:2::f0f0:3", "240.240.0.3"]


REFUSED = {
    "one family twice": (
        service("x", "clusterIP: 10.9.0.1, clusterIPs: [10.9.0.1, 10.9.0.2]"),
        "clusterIPs 10.9.0.1 and 10.9.0.2 are both IPv4: there is at most one of each family",
    ),
    "another first one": (
        service("x", "clusterIP: 10.9.0.1, clusterIPs: ['fd00::1', 10.9.0.1]"),
        "clusterIPs begin with fd00::1, and clusterIP is 10.9.0.1",
    ),
    "None and an address": (
        service("x", "clusterIP: None, clusterIPs: [None, 10.9.0.1]"),
        "a headless service has None alone",
    ),
    "families in another order": (
        service("x", "clusterIP: 10.9.0.1, clusterIPs: [10.9.0.1, 'fd00::1'], ipFamilies: [IPv6, IPv4]"),
        "clusterIPs have 10.9.0.1 where ipFamilies have IPv6",
    ),
    "a family twice": (service("x", "ipFamilies: [IPv4, IPv4]"), "ipFamilies name IPv4 twice"),
    "an unknown family": (service("x", "ipFamilies: [IPv5]"), "ipFamilies"),
    "one stack with two": (
        service("x", "ipFamilyPolicy: SingleStack, ipFamilies: [IPv4, IPv6]"),
        "ipFamilyPolicy is SingleStack, and there are two families",
    ),
    "IPv4 in IPv6": (
        service("x", "clusterIP: '::ffff:10.9.0.1'"),
        "'::ffff:10.9.0.1' is an IPv4 address in the clothes of IPv6: write 10.9.0.1",
    ),
    "a zone": (pod("x", "fe80::1%eth0"), "'fe80::1%eth0' has a zone"),
    "a pod's family twice": (pod("x", "fd00::1", "fd00::2"), "podIPs fd00::1 and fd00::2 are both IPv6"),
    "a slice of the other family": (
        slices("x", "IPv6", ("web-1", "10.1.0.1")),
        "10.1.0.1 in a slice of addressType IPv6",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_kubernetes_would_not_have_is_refused_with_its_line(case: str) -> None:
    document, cause = REFUSED[case]
    with pytest.raises(MeshError, match=r"mesh\.yaml:[0-9]+: ") as error:
        read(document)
    assert cause in str(error.value)


@pytest.mark.parametrize("spec", ["ipFamilies: [IPv4, IPv6]", "ipFamilyPolicy: RequireDualStack"])
def test_families_without_an_address_are_those_of_the_endpoints(spec: str) -> None:
    mesh = read(PODS, service("planned", spec)).mesh
    node = client(mesh)
    assert reached(mesh, node, "planned") == [["10.1.0.1", "fd00::1"], ["10.1.0.2", "fd00::2"]]
    # As istiod has it, which knows no address to listen at.
    assert where(listeners(mesh, node)["0.0.0.0_5432"]) == ["0.0.0.0"]


def test_both_addresses_of_an_endpoint_are_foretold(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text(MESH.replace("kind: Mesh\n", f"kind: Mesh\n{ON}", 1) + PODS + SERVICES)
    asked = ["mesh", "endpoints", str(file), "--client", "a/client", "--cluster", "both.shop"]
    rows = json.loads(run_command(*asked, "--json").stdout)["endpoints"]
    found = {one["stands_for"]: (one["address"], one["additional_addresses"], one["share"]) for one in rows}
    assert found == {
        "a/web-1": ("10.1.0.1:5432", ["[fd00::1]:5432"], 0.5),
        "a/web-2": ("10.1.0.2:5432", ["[fd00::2]:5432"], 0.5),
    }
    assert "10.1.0.1:5432,[fd00::1]:5432  a/web-1" in run_command(*asked).stdout


@pytest.mark.parametrize(
    ("told", "expected"),
    [("", V4), (f"{V4},{V6}", DUAL), (f"{V6}, {V4}", f"{V6},{V4}"), (f"{V6},web", V4), ("fd00::9%,", V4)],
)
def test_a_proxys_addresses_are_those_that_it_names_if_all_are_addresses(told: str, expected: str) -> None:
    mesh = read().mesh
    assert ",".join(client(mesh, told).addresses) == expected


def test_a_node_without_an_address_is_refused() -> None:
    metadata = {"CLUSTER_ID": "a", "INSTANCE_IPS": "none"}
    with pytest.raises(NodeRefusedError, match="'nowhere' is no address, and INSTANCE_IPS has none in its place"):
        node_view("sidecar~nowhere~client.shop~shop.svc.cluster.local", metadata, Locality(), read().mesh)


def test_imported_clusters_keep_both_families() -> None:
    objects = [one for one in yaml.safe_load_all(PODS + SERVICES) if one]
    variable = {"name": "ISTIO_DUAL_STACK", "value": "true"}
    istiod: Any = {"spec": {"template": {"spec": {"containers": [{"image": "pilot:1.31.0", "env": [variable]}]}}}}
    config = {"defaultConfig": {"concurrency": 2, "proxyMetadata": {"ISTIO_DUAL_STACK": "true"}}}
    one_by_one = {
        "configmap": {"data": {"mesh": yaml.safe_dump(config)}},
        "deployment": istiod,
    }

    def kubectl(words: Sequence[str]) -> str:
        if "--all-namespaces" not in words:
            return json.dumps(one_by_one[words[1]])
        return json.dumps({"items": [one for one in objects if words[1] == f"{one['kind'].lower()}s"]})

    made, _ = mesh_text([collect(kubectl, "a")])
    file = parse(made, "imported.yaml")
    assert not file.findings
    read_alone = read().mesh
    assert file.mesh.dual_stack
    for name in ("both", "four", "six", "pods"):
        assert reached(file.mesh, client(file.mesh), name) == reached(read_alone, client(read_alone), name)
    imported, own = (listeners(mesh, client(mesh)) for mesh in (file.mesh, read_alone))
    assert {name: where(one) for name, one in imported.items()} == {name: where(one) for name, one in own.items()}
    istiod["spec"]["template"]["spec"]["containers"][0]["env"].clear()
    assert not parse(mesh_text([collect(kubectl, "a")])[0], "imported.yaml").mesh.dual_stack
