"""Three clusters, one service: all pods of the second are gone behind a gateway that lives, and the third serves.

The embedded control plane sends everything; gateways and the client's sidecar are eastgate, and the third cluster's pod
takes mesh mTLS alone. The second gateway accepts each connection and has nobody to hand it to.
"""

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from eastgate.mesh.ca import MeshCa
from eastgate.mesh.mesh_file import parse
from eastgate.mesh.model import Workload

from ..support.accepting import Accepting
from ..support.free_ports import free_ports
from ..support.gateway_process import EASTGATE, Eastgate, ProxyProcess
from ..support.mesh_plane import MeshPlane
from ..support.waiting import until

CA = MeshCa()
CONNECTIONS = 100
TIMEOUT_S = 10.0
# Addresses of loopback: gateways of c1 and c2, their pods.
GATEWAYS, PODS = ("127.0.0.21", "127.0.0.22"), ("127.0.0.31", "127.0.0.32")
MESH = f"""\
kind: Mesh
options: {{metadata_exchange: false, alpn_filter: false}}
clusters:
  c0:
    network: n0
    nodes: {{n: {{region: r0}}}}
    workloads: [{{name: client, namespace: shop, node: n, address: 127.0.0.2, service_account: client}}]
  c1:
    network: n1
    gateways: [{{address: {GATEWAYS[0]}, port: CROSS}}]
    nodes: {{n: {{region: r1}}}}
    workloads:
      - {{name: gone, namespace: shop, node: n, address: {PODS[0]}, labels: {{app: echo}}, service_account: echo}}
  c2:
    network: n2
    gateways: [{{address: {GATEWAYS[1]}, port: CROSS}}]
    nodes: {{n: {{region: r2}}}}
    workloads:
      - {{name: here, namespace: shop, node: n, address: {PODS[1]}, labels: {{app: echo}}, service_account: echo}}
services:
  - {{name: echo, namespace: shop, selector: {{app: echo}}, ports: [{{name: tcp, port: SERVICE, targetPort: INBOUND}}]}}
"""
GATEWAY = """\
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: cross-network, namespace: istio-system, annotations: {eastgate/clusters: CLUSTER}}
spec:
  selector: {istio: eastwestgateway}
  servers:
    - port: {number: CROSS, name: tls, protocol: TLS}
      bind: ADDRESS
      tls: {mode: AUTO_PASSTHROUGH}
      hosts: ["*.local"]
"""
RULE = """\
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: echo, namespace: shop}
spec:
  host: echo.shop.svc.cluster.local
  trafficPolicy: POLICY
"""
ALIKE = "{loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {enabled: false}}}"
# The second cluster is the one to fail over to first, until its gateway is ejected.
SECOND_FIRST = """\
{loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {enabled: true, failover: [{from: r0, to: r1}]}},
    outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 1m, maxEjectionPercent: 100}}"""
# Failed connects of the client's sidecar, for each policy at least.
LEAST = {ALIKE: CONNECTIONS // 10, SECOND_FIRST: 1}


class Sidecar(Eastgate):
    """`eastgate sidecar` of the client, without interception: it listens in the place of services, on loopback."""

    def __init__(self, discovery: str, sds: Path, client: Workload) -> None:
        name = f"sidecar~{client.address}~{client.name}.{client.namespace}~{client.namespace}.svc.cluster.local"
        ProxyProcess.__init__(
            self,
            [
                *(EASTGATE, "sidecar", "--discovery", discovery, "--admin", "127.0.0.1:0", "--drain-time", "0"),
                *("--node-id", name, "--cluster-id", client.cluster, "--network", client.network),
                *("--namespace", client.namespace, "--locality", "r0", "--meta", "INTERCEPTION_MODE=NONE"),
                *("--sds-socket", str(sds)),
            ],
        )


class Pod(Accepting):
    """Answers who shows a certificate of the mesh."""

    def __init__(self, workload: Workload, folder: Path, port: int) -> None:
        pair = CA.issue(workload.spiffe_id(CA.trust_domain), cluster=workload.cluster)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.load_verify_locations(cadata=pair.root)
        self._context.set_alpn_protocols(["istio"])
        (folder / "chain.pem").write_text(pair.chain)
        (folder / "key.pem").write_text(pair.key)
        self._context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
        super().__init__((workload.address, port))

    def _serve(self, accepted: socket.socket) -> None:
        with accepted, suppress(OSError), self._context.wrap_socket(accepted, server_side=True) as tls:
            if tls.recv(100):
                tls.sendall(b"third")


def ask(port: int) -> str:
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as client:
            client.sendall(b"who is there?\n")
            return client.recv(100).decode()
    except OSError as error:
        return type(error).__name__


@pytest.fixture
def client(policy: str, tmp_path: Path) -> Iterator[tuple[Sidecar, Eastgate, int]]:
    """The client's sidecar, the second cluster's gateway, and the port of the service."""
    service, inbound, cross = free_ports(3)
    text = MESH + RULE.replace("POLICY", policy)
    for cluster, address in zip(("c1", "c2"), GATEWAYS, strict=True):
        text += GATEWAY.replace("CLUSTER", cluster).replace("ADDRESS", address)
    for word, number in (("SERVICE", service), ("INBOUND", inbound), ("CROSS", cross)):
        text = text.replace(word, str(number))
    mesh = parse(text, "mesh.yaml").mesh
    workloads = {one.name: one for one in mesh.workloads}
    plane = MeshPlane(mesh)
    with ExitStack() as stack:
        stack.callback(plane.close)
        stack.enter_context(closing(Pod(workloads["here"], tmp_path, inbound)))
        gateways = []
        for cluster in ("c1", "c2"):
            flags = ("--cluster-id", cluster, "--network", f"n{cluster[1]}", "--label", "istio=eastwestgateway")
            gateways.append(stack.enter_context(Eastgate(plane.address, *flags)).wait_ready())
        plane.secrets(CA, workloads["client"], tmp_path / "sds")
        proxy = stack.enter_context(Sidecar(plane.address, tmp_path / "sds", workloads["client"])).wait_ready()
        yield proxy, gateways[0], service


@pytest.mark.parametrize("policy", LEAST, ids=["all alike", "the second first"])
def test_third_cluster_serves_and_no_connection_fails(policy: str, client: tuple[Sidecar, Eastgate, int]) -> None:
    """All alike: each connection that meets the second one's gateway goes on to the third's. With priorities one is
    lost to find out, since all attempts stay in the priority that was chosen; then the gateway is ejected.
    """
    proxy, gateway, service = client
    until(lambda: ask(service) == "third", "everything has arrived")
    assert [ask(service) for _ in range(CONNECTIONS)] == ["third"] * CONNECTIONS
    failed = proxy.stat(f"cluster.outbound|{service}||echo.shop.svc.cluster.local;.upstream_cx_connect_fail")
    assert failed >= LEAST[policy]
    # The second one's gateway took each of these, and had nobody to hand it to: it ejects, too.
    behind = f"cluster.outbound_.{service}_._.echo.shop.svc.cluster.local;"
    counters = ("upstream_cx_connect_fail", "upstream_cx_none_healthy")
    assert sum(gateway.stat(f"{behind}.{name}") for name in counters) >= failed
