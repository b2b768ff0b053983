"""In a namespace of its own: a dual-stack pod's sidecar, with connections that netfilter redirects in both families.

Usage: dual_stack_scenario <eastgate|envoy>. Prints one JSON document of what was seen; test_dual_stack_capture judges.

The proxy has the configuration that the embedded control plane sends it. The host stands for a pod at POD, an address
of each family. Whoever connects from CLIENT is its application: outbound, to 15001. Who connects to POD from PEER comes
from outside: inbound, to 15006. Endpoints of the service that the application asks for are elsewhere on the host.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from eastgate.mesh.ca import MeshCa
from eastgate.mesh.mesh_file import parse
from eastgate.mesh.model import Workload

from ..support.gateway_process import EASTGATE, Eastgate, Envoy, ProxyProcess
from ..support.mesh_plane import MeshPlane, sidecar_node, with_secrets
from ..support.netns import Steps, bring_up, ip
from ..support.upstreams import Upstreams, reached

POD, CLIENT, PEER = ("127.0.0.50", "fd00::50"), ("127.0.0.99", "fd00::99"), ("127.0.0.98", "fd00::98")
SOURCES = ("127.0.0.6", "::6")
VIP, SIX, UNKNOWN = ("127.0.0.21", "fd00::21"), "fd00::22", ("127.0.0.23", "fd00::23")
OTHERS = ("127.0.0.61", "fd00::61", "127.0.0.62", "fd00::62")
PORT, APPLICATION, UNNAMED = 8000, 8080, 8082
MESH = f"""\
kind: Mesh
options: {{metadata_exchange: false, alpn_filter: false, istio_dual_stack: true}}
clusters:
  a:
    addresses: {{both.shop: ["{VIP[0]}", "{VIP[1]}"], six.shop: "{SIX}"}}
    workloads:
      - {{name: pod, namespace: shop, address: "{POD[0]}", additional_addresses: ["{POD[1]}"], labels: {{app: pod}}}}
      - {{name: far-1, namespace: shop, address: "{OTHERS[0]}", additional_addresses: ["{OTHERS[1]}"],
         labels: {{app: far}}, mtls: false}}
      - {{name: far-2, namespace: shop, address: "{OTHERS[2]}", additional_addresses: ["{OTHERS[3]}"],
         labels: {{app: far}}, mtls: false}}
services:
  - {{name: both, namespace: shop, selector: {{app: far}}, ports: [{{name: tcp, port: {PORT}}}]}}
  - {{name: six, namespace: shop, selector: {{app: far}}, ports: [{{name: tcp, port: {PORT}}}]}}
  - {{name: own, namespace: shop, selector: {{app: pod}}, ports: [{{name: tcp, port: {APPLICATION}}}]}}
"""


class Sidecar(Eastgate):
    kind = "eastgate sidecar"

    def __init__(self, discovery: str, workload: Workload, sds: Path) -> None:
        command = [EASTGATE, "sidecar", "--discovery", discovery, "--admin", "127.0.0.1:0", "--drain-time", "0"]
        command += ["--node-id", f"sidecar~{POD[0]}~{workload.name}.shop~shop.svc.cluster.local"]
        command += ["--namespace", "shop", "--cluster-id", "a", "--label", f"app={workload.labels['app']}"]
        command += ["--meta", f"INSTANCE_IPS={','.join(POD)}", "--sds-socket", str(sds), "--workers", "1"]
        ProxyProcess.__init__(self, command)


def start(kind: str, plane: MeshPlane, workload: Workload, folder: Path) -> ProxyProcess:
    sds = folder / "socket"
    plane.secrets(MeshCa(), workload, sds)
    if kind == "eastgate":
        return Sidecar(plane.address, workload, sds)
    node = dict(sidecar_node(workload, INSTANCE_IPS=",".join(POD)))
    return Envoy(plane.address, node=node, change=with_secrets(sds))


def redirect() -> None:
    """What the application sends goes to 15001, what comes from outside to 15006, what the proxy sends nowhere."""
    for command, pod, client, peer in zip(("iptables", "ip6tables"), POD, CLIENT, PEER, strict=True):
        for rule in (("-s", client, "--to-ports", "15001"), ("-s", peer, "-d", pod, "--to-ports", "15006")):
            *match, option, port = rule
            chain = [command, "-t", "nat", "-A", "OUTPUT", "-p", "tcp", *match, "-j", "REDIRECT", option, port]
            subprocess.run(chain, check=True, timeout=20)


def connect(address: tuple[str, int], source: str) -> str:
    """Who is reached; how it ended where nobody is."""
    try:
        return reached(address, source=source) or "end"
    except OSError as error:
        return type(error).__name__


def outbound() -> dict[str, Any]:
    """By family of the client: the service of both families, and an address that no service has."""
    return {
        "both": [
            sorted({connect((vip, PORT), client) for _ in range(40)}) for vip, client in zip(VIP, CLIENT, strict=True)
        ],
        "unknown": [connect((place, PORT), client) for place, client in zip(UNKNOWN, CLIENT, strict=True)],
        "six": sorted({connect((SIX, PORT), CLIENT[1]) for _ in range(40)}),
    }


def inbound(upstreams: Upstreams) -> dict[str, Any]:
    """A port with a chain of its own and one without, and what the application sees as the peer's address."""
    served = {
        str(port): [connect((pod, port), peer) for pod, peer in zip(POD, PEER, strict=True)]
        for port in (APPLICATION, UNNAMED)
    }
    peers = {(name, peer) for name, peer in upstreams.peers if name.startswith("app")}
    return {"served": served, "peers": sorted(peers)}


def itself() -> list[str]:
    """Straight to the proxy's own ports, by either family."""
    return [connect((pod, port), peer) for port in (15001, 15006) for pod, peer in zip(POD, PEER, strict=True)]


def without_bind_address() -> dict[str, Any]:
    """The application on a machine that does not have ::6, and once it has."""
    ip("-6", "address", "del", f"{SOURCES[1]}/128", "dev", "lo")
    served = [connect((pod, APPLICATION), peer) for pod, peer in zip(POD, PEER, strict=True)]
    ip("-6", "address", "add", f"{SOURCES[1]}/128", "dev", "lo", "nodad")
    return {"served": served, "again": connect((POD[1], APPLICATION), PEER[1])}


def main(kind: str) -> None:
    bring_up()
    for address in (*POD, *CLIENT, *PEER, SOURCES[1], *VIP, SIX, *UNKNOWN, *OTHERS):
        if ":" in address:
            ip("-6", "address", "add", f"{address}/128", "dev", "lo", "nodad")
    redirect()
    mesh = parse(MESH, "mesh.yaml").mesh
    plane = MeshPlane(mesh)
    steps = Steps()
    with Upstreams() as upstreams, tempfile.TemporaryDirectory() as folder:
        # Of the service's endpoints one answers over IPv4 alone, and one over IPv6 alone.
        upstreams.start("far-1", OTHERS[0], PORT)
        upstreams.start("far-2", OTHERS[3], PORT)
        for index, family in enumerate(("4", "6")):
            upstreams.start(f"app{family}", POD[index], APPLICATION)
            upstreams.start(f"app-unnamed{family}", POD[index], UNNAMED)
            upstreams.start(f"unknown{family}", UNKNOWN[index], PORT)
        with start(kind, plane, mesh.workloads[0], Path(folder)) as proxy:
            proxy.wait_ready()
            proxy.bound_address("virtualInbound")
            steps.take("outbound", outbound)
            steps.take("inbound", inbound, upstreams)
            steps.take("itself", itself)
            steps.take("without bind address", without_bind_address)
            plane.call(plane.server.settled(30))
            steps.take("answers", lambda: sorted({f"{one.state} {one.error}" for one in plane.status()}))
    plane.close()
    steps.print()


if __name__ == "__main__":
    main(sys.argv[1])
