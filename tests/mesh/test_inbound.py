"""What arrives at a sidecar: which chains there are for each mode and kind of port."""

import pytest
from eastgate.mesh.inbound import matches
from eastgate.mesh.model import Mesh
from eastgate.mesh.node_view import NodeView
from envoy_data_plane.envoy.config.listener.v3 import Listener

from .sidecars import applied, clusters, kind_of, listeners, peer_authentication, read, sidecar

MESH_HTTP = "istio-http/1.0,istio-http/1.1,istio-h2"
ALL = f"istio,istio-peer-exchange,{MESH_HTTP}"
RAW_HTTP = "raw_buffer[http/1.1,h2c] http"
MATRIX = {
    ("PERMISSIVE", 5432): [f"tls[{ALL}] tcp +mtls", "tls tcp", "raw_buffer tcp"],
    ("PERMISSIVE", 8080): [f"tls[{ALL}] http +mtls", "raw_buffer http"],
    ("PERMISSIVE", 8081): [f"tls[{ALL}] http +mtls", "raw_buffer http"],
    ("PERMISSIVE", 7000): [
        f"tls[{MESH_HTTP}] http +mtls",
        RAW_HTTP,
        "tls[istio-peer-exchange,istio] tcp +mtls",
        "raw_buffer tcp",
        "tls tcp",
    ],
    ("STRICT", 5432): ["tls tcp +mtls"],
    ("STRICT", 8080): ["tls http +mtls"],
    ("STRICT", 7000): [f"tls[{MESH_HTTP}] http +mtls", "tls tcp +mtls"],
    ("DISABLE", 5432): ["raw_buffer tcp"],
    ("DISABLE", 8080): ["raw_buffer http"],
    ("DISABLE", 7000): [RAW_HTTP, "raw_buffer tcp"],
}


def chains(mesh: Mesh, node: NodeView, port: int | None) -> list[str]:
    """Chains of one port in their order; None: those for ports that nobody names."""
    inbound = listeners(mesh, node)["virtualInbound"]
    found = [(one.filter_chain_match, one) for one in inbound.filter_chains]
    return [kind_of(one) for match, one in found if match and match.destination_port == port]


def filter_names(listener: Listener) -> list[str]:
    return [one.name.rpartition(".")[2] for one in listener.listener_filters]


@pytest.mark.parametrize(("mode", "port"), MATRIX)
def test_matrix_of_modes_and_kinds_of_ports(mode: str, port: int) -> None:
    mesh = read(peer_authentication(f"{{mtls: {{mode: {mode}}}}}")).mesh
    assert chains(mesh, sidecar(mesh), port) == MATRIX[mode, port]


@pytest.mark.parametrize("protocol", ["tcp", "tls", "https", "mongo", "redis", "mysql"])
def test_every_kind_of_tcp_port_is_tcp(protocol: str) -> None:
    assert [one.http for one in matches("PERMISSIVE", protocol)] == [False, False, False]


@pytest.mark.parametrize("protocol", ["http", "http2", "grpc", "grpc-web"])
def test_every_kind_of_http_port_is_http(protocol: str) -> None:
    assert [one.http for one in matches("STRICT", protocol)] == [True]


def test_a_port_that_no_service_has_keeps_its_own_mode() -> None:
    spec = "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {6000: {mode: DISABLE}}}"
    mesh = read(peer_authentication(spec)).mesh
    node = sidecar(mesh)
    assert chains(mesh, node, None) == MATRIX["STRICT", 7000]
    assert chains(mesh, node, 6000) == MATRIX["DISABLE", 7000]
    assert chains(mesh, node, 5432) == MATRIX["STRICT", 5432]


def test_a_port_of_a_service_has_the_mode_of_its_target_port() -> None:
    spec = "{selector: {matchLabels: {app: web}}, portLevelMtls: {8080: {mode: STRICT}, 80: {mode: DISABLE}}}"
    mesh = read(peer_authentication(spec)).mesh
    node = sidecar(mesh)
    assert chains(mesh, node, 8080) == MATRIX["STRICT", 8080]
    assert chains(mesh, node, 80) == MATRIX["DISABLE", 7000]


def test_inspectors_look_only_where_a_chain_asks() -> None:
    mesh = read(peer_authentication("{mtls: {mode: DISABLE}}")).mesh
    inbound = listeners(mesh, sidecar(mesh))["virtualInbound"]
    assert filter_names(inbound) == ["original_dst", "http_inspector"]
    (predicate,) = [one.filter_disabled for one in inbound.listener_filters if one.filter_disabled]
    assert predicate.or_match
    ranges = [one.destination_port_range for one in predicate.or_match.rules]
    # HTTP ports say what they are, and so do TCP ports.
    assert [one.start for one in ranges if one] == [5432, 8080, 8081, 9000, 15006]


def test_strict_needs_no_look_at_http() -> None:
    mesh = read(peer_authentication("{mtls: {mode: STRICT}}")).mesh
    assert filter_names(listeners(mesh, sidecar(mesh))["virtualInbound"]) == ["original_dst", "tls_inspector"]


def test_tproxy_keeps_the_clients_address() -> None:
    mesh = read().mesh
    inbound = listeners(mesh, sidecar(mesh, INTERCEPTION_MODE="TPROXY"))["virtualInbound"]
    assert inbound.transparent
    assert filter_names(inbound)[:2] == ["original_dst", "original_src"]


INGRESS = """{workloadSelector: {labels: {app: web}}, ingress: [
  {port: {number: 19080, protocol: HTTP, name: http}, bind: 127.0.0.7, defaultEndpoint: "127.0.0.1:8080"},
  {port: {number: 19432, protocol: TCP}, defaultEndpoint: "0.0.0.0:5432"},
  {port: {number: 19000, protocol: TCP}}]}"""


def test_ports_of_a_sidecar_replace_those_of_the_services() -> None:
    mesh = read(applied("Sidecar", INGRESS)).mesh
    found = listeners(mesh, sidecar(mesh))
    assert not [name for name in found if name.startswith("127.0.0.7")]
    matched = [one.filter_chain_match for one in found["virtualInbound"].filter_chains]
    assert {one.destination_port for one in matched if one} == {None, 15006, 19080, 19432, 19000}
    assert {name for name in clusters(mesh, sidecar(mesh)) if name.startswith("inbound|")} == {
        "inbound|19080||", "inbound|19432||", "inbound|19000||",
    }  # fmt: skip


def test_without_interception_the_ports_of_a_sidecar_are_bound() -> None:
    mesh = read(applied("Sidecar", INGRESS)).mesh
    node = sidecar(mesh, INTERCEPTION_MODE="NONE")
    found = {name: one for name, one in listeners(mesh, node).items() if one.traffic_direction == 1}
    assert set(found) == {"127.0.0.7_19080", "10.1.0.1_19432", "10.1.0.1_19000"}
    assert filter_names(found["127.0.0.7_19080"]) == ["tls_inspector"]
    assert all(one.bind_to_port is not False for one in found.values())


def test_without_interception_and_sidecar_nobody_listens_for_services() -> None:
    mesh = read().mesh
    node = sidecar(mesh, INTERCEPTION_MODE="NONE")
    assert not [one for one in listeners(mesh, node).values() if one.traffic_direction == 1]
    assert not [name for name in clusters(mesh, node) if name.startswith("inbound|")]


def test_an_endpoint_of_a_sidecar_is_dialled_where_it_is() -> None:
    mesh = read(applied("Sidecar", INGRESS)).mesh
    found = clusters(mesh, sidecar(mesh))

    def dialled(name: str) -> str:
        assignment = found[name].load_assignment
        if assignment is None:
            return found[name].type.name if found[name].type is not None else ""
        endpoint = assignment.endpoints[0].lb_endpoints[0].endpoint
        assert endpoint
        assert endpoint.address
        where = endpoint.address.socket_address
        assert where
        return f"{where.address}:{where.port_value}"

    assert dialled("inbound|19080||") == "127.0.0.1:8080"
    assert dialled("inbound|19432||") == "10.1.0.1:5432"
    assert dialled("inbound|19000||") == "ORIGINAL_DST"
    # Who dials loopback is not redirected, and needs no source address that says so.
    assert found["inbound|19080||"].upstream_bind_config is None
    assert found["inbound|19432||"].upstream_bind_config
