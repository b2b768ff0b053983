"""In a namespace of its own: grpc-go through two sidecars, redirected as Istio's rules do it, mesh mTLS between them.

Usage: grpc_scenario CLIENT SERVER PROGRAM FOLDER; CLIENT and SERVER say which proxy their sidecar is, eastgate or
envoy. Prints one JSON document with what the client saw at each port; test_grpc_go judges it. Both sidecars are of the
embedded control plane, which gives them listeners of their own ports, since they share the one namespace.
"""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from eastgate.mesh.ca import MeshCa
from eastgate.mesh.mesh_file import parse

from ..support.gateway_process import EASTGATE, Eastgate, Envoy, ProxyProcess
from ..support.mesh_plane import MeshPlane, sidecar_node, with_secrets
from ..support.netns import Steps, bring_up

CA = MeshCa()
POD, VIP, SOURCE = "10.1.0.1", "10.9.0.1", "127.0.0.6"
# Outbound and inbound listener of each.
OWN_PORTS = {"client": (15001, 15006), "server": (16001, 16006)}
# A port that is said to be gRPC, and one of which the proxies find it out.
PORTS = {"grpc": 7070, "any": 7071}
CONNECTIONS = 3
MESH = f"""\
kind: Mesh
options: {{metadata_exchange: false, alpn_filter: false}}
meshConfig: {{proxyListenPort: OUTBOUND, proxyInboundListenPort: INBOUND}}
clusters:
  a:
    network: na
    addresses: {{who.shop: {VIP}}}
    workloads:
      - {{name: server, namespace: shop, address: {POD}, labels: {{app: who}}, service_account: server}}
      - {{name: client, namespace: shop, address: 10.1.0.2, labels: {{app: client}}, service_account: client}}
services:
  - name: who
    namespace: shop
    selector: {{app: who}}
    ports: [{{name: grpc, port: 7070}}, {{name: any, port: 7071}}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: strict, namespace: shop}}
spec: {{mtls: {{mode: STRICT}}}}
"""


def redirect(*rule: str) -> None:
    subprocess.run(["iptables", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", *rule], check=True, timeout=20)


def started(stack: ExitStack, role: str, kind: str, folder: Path) -> ProxyProcess:
    """The sidecar of a role, ready, with a control plane of its own."""
    outbound, inbound = OWN_PORTS[role]
    text = MESH.replace("OUTBOUND", str(outbound)).replace("INBOUND", str(inbound))
    mesh = parse(text, "mesh.yaml").mesh
    (workload,) = (one for one in mesh.workloads if one.name == role)
    plane = MeshPlane(mesh)
    stack.callback(plane.close)
    plane.secrets(CA, workload, folder / role)
    node = dict(sidecar_node(workload))
    if kind == "envoy":
        proxy: ProxyProcess = Envoy(plane.address, node=node, change=with_secrets(folder / role))
    else:
        command = [EASTGATE, "sidecar", "--discovery", plane.address, "--admin", "127.0.0.1:0", "--drain-time", "0"]
        command += ["--node-id", node["id"], "--namespace", workload.namespace, "--cluster-id", workload.cluster]
        command += ["--network", workload.network, "--label", f"app={workload.labels['app']}"]
        command += ["--service-account", workload.service_account, "--sds-socket", str(folder / role)]
        proxy = Eastgate.__new__(Eastgate)
        ProxyProcess.__init__(proxy, command)
    stack.enter_context(proxy)
    proxy.wait_ready()
    proxy.bound_address("virtualOutbound")
    proxy.bound_address("virtualInbound")
    return proxy


def called(program: str, port: int) -> Any:
    words = [program, "call", f"{VIP}:{port}", str(CONNECTIONS)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def handshakes(server: ProxyProcess) -> int:
    return sum(value for name, value in server.stats("listener.").items() if name.endswith(".ssl.handshake"))


def main() -> None:
    kinds, program, folder = dict(zip(OWN_PORTS, sys.argv[1:3], strict=True)), sys.argv[3], Path(sys.argv[4])
    bring_up("10.0.0.1")
    # What the server's sidecar hands to the application, what the client asks for, what its sidecar sends.
    redirect("-s", SOURCE, "-j", "RETURN")
    redirect("-d", VIP, "-j", "REDIRECT", "--to-ports", str(OWN_PORTS["client"][0]))
    redirect("-d", POD, "-j", "REDIRECT", "--to-ports", str(OWN_PORTS["server"][1]))
    steps = Steps()
    with ExitStack() as stack:
        serving = subprocess.Popen([program, "serve", "me", *map(str, PORTS.values())])
        stack.callback(serving.kill)
        server = started(stack, "server", kinds["server"], folder)
        started(stack, "client", kinds["client"], folder)
        for name, port in PORTS.items():
            steps.take(name, called, program, port)
        steps.take("handshakes", handshakes, server)
    steps.print()


if __name__ == "__main__":
    main()
