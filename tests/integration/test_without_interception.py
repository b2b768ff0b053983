"""A pair of `eastgate sidecar` without interception (INTERCEPTION_MODE NONE), of an embedded control plane.

Neither has a privilege, and nothing is redirected. The client's binds loopback where its application asks for the
service; the server's binds the port of its Sidecar, ends the mesh mTLS there and asks the policies. On IPv4 and IPv6.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from eastgate.mesh.ca import MeshCa
from eastgate.mesh.mesh_file import parse
from eastgate.mesh.model import Workload

from ..support.free_ports import free_ports
from ..support.gateway_process import EASTGATE, Eastgate, ProxyProcess
from ..support.mesh_plane import CLIENT_ONLY, MeshPlane
from ..support.upstreams import Upstreams, reached
from ..support.waiting import until
from .test_dual_stack import WITHOUT_PRIVILEGE

CA = MeshCa()
MESH = (
    """\
kind: Mesh
options: {metadata_exchange: false, alpn_filter: false}
clusters:
  a:
    network: na
    workloads:
      - {name: server, namespace: shop, address: "HOST", labels: {app: echo}, service_account: echo}
      - {name: client, namespace: shop, address: 127.0.0.2, labels: {app: client}, service_account: client}
      - {name: stranger, namespace: shop, address: 127.0.0.3, labels: {app: client}, service_account: stranger}
services:
  - {name: echo, namespace: shop, selector: {app: echo}, ports: [{name: tcp, port: SERVICE, targetPort: INBOUND}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: server, namespace: shop}
spec:
  workloadSelector: {labels: {app: echo}}
  ingress: [{port: {number: INBOUND, protocol: TCP}, bind: "HOST", defaultEndpoint: "ENDPOINT"}]
  egress: [{hosts: ["~/*"]}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: client, namespace: shop}
spec:
  workloadSelector: {labels: {app: client}}
  egress: [{port: {number: SERVICE, protocol: TCP, name: tcp}, bind: "HOST", hosts: ["shop/*"]}]
"""
    + CLIENT_ONLY
)


class Sidecar(Eastgate):
    kind = "eastgate sidecar"

    def __init__(self, discovery: str, sds: Path, workload: Workload) -> None:
        domain = f"{workload.namespace}.svc.cluster.local"
        command = [EASTGATE, "sidecar", "--discovery", discovery, "--admin", "127.0.0.1:0", "--drain-time", "0"]
        command += ["--node-id", f"sidecar~{workload.address}~{workload.name}.{workload.namespace}~{domain}"]
        command += ["--namespace", workload.namespace, "--cluster-id", workload.cluster, "--network", workload.network]
        command += ["--label", f"app={workload.labels['app']}", "--meta", "INTERCEPTION_MODE=NONE"]
        command += ["--service-account", workload.service_account, "--sds-socket", str(sds)]
        # Root has every capability; whoever else runs this has none.
        ProxyProcess.__init__(self, [*(WITHOUT_PRIVILEGE if os.geteuid() == 0 else ()), *command])


@dataclass
class World:
    """The server's sidecar, and how to start one that asks it."""

    host: str
    service_port: int
    inbound_port: int
    server: Sidecar
    start: "Starter"

    def ask(self) -> str:
        return reached((self.host, self.service_port))

    def refused(self) -> list[str]:
        """Why the server's sidecar has refused whom it has."""
        return [one["reason"] for one in self.server.json("/refusals")["refusals"]]


class Starter:
    def __init__(self, plane: MeshPlane, workloads: tuple[Workload, ...], folder: Path) -> None:
        self._plane, self._folder = plane, folder
        self._workloads = {one.name: one for one in workloads}

    def __call__(self, name: str) -> Sidecar:
        self._plane.secrets(CA, self._workloads[name], self._folder / name)
        return Sidecar(self._plane.address, self._folder / name, self._workloads[name])


@pytest.fixture(scope="module", params=["127.0.0.1", "::1"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    host: str = request.param
    service, inbound = free_ports(2)
    with ExitStack() as stack:
        upstreams = stack.enter_context(Upstreams())
        name, port = upstreams.start("application", host)
        endpoint = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
        text = MESH.replace("HOST", host).replace("ENDPOINT", endpoint)
        text = text.replace("SERVICE", str(service)).replace("INBOUND", str(inbound))
        mesh = parse(text, "mesh.yaml").mesh
        plane = MeshPlane(mesh)
        stack.callback(plane.close)
        start = Starter(plane, tuple(mesh.workloads), tmp_path_factory.mktemp("sds"))
        server = stack.enter_context(start("server")).wait_ready()
        yield World(host, service, inbound, server, start)


def test_who_is_allowed_is_served_and_nobody_has_a_privilege(world: World) -> None:
    with world.start("client") as client:
        client.wait_ready()
        assert [world.ask() for _ in range(10)] == ["application"] * 10
        for proxy, port in ((client, world.service_port), (world.server, world.inbound_port)):
            assert "CapEff:\t0000000000000000" in Path(f"/proc/{proxy.pid}/status").read_text()
            assert proxy.bound_address(f"{world.host}_{port}") == (world.host, port)
            names = {one["name"] for one in proxy.json("/listeners?format=json")["listener_statuses"]}
            assert names == {f"{world.host}_{port}"}


def test_who_is_not_allowed_is_refused_by_the_servers_policy(world: World) -> None:
    with world.start("stranger") as client:
        client.wait_ready()

        def refused() -> bool:
            # Whatever may keep one attempt from getting there, none is served.
            assert world.ask() == ""
            return "policy" in world.refused()

        until(refused, "the server's policy has refused it")


def test_plain_text_is_refused_under_strict(world: World) -> None:
    assert reached((world.host, world.inbound_port)) == ""
    until(lambda: "not_tls" in world.refused(), "no chain takes it")
