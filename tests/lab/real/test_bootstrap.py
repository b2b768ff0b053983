"""eastgate beside a real pilot-agent: it reads the bootstrap that it renders, and uses its sockets."""

import json

from lab import gateways, versions
from lab.istio import istioctl
from lab.settings import ANTHOS, GKE
from lab.shell import wait_for
from lab.traffic import eastgate_admin

from .mesh import Mesh
from .rules import subset_rules

# A server with certificates, so that the gateway has a secret to ask pilot-agent for.
MUTUAL = [
    {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "mutual", "namespace": gateways.NAMESPACE},
        "spec": {
            "selector": {"istio": "eastwestgateway"},
            "servers": [
                {
                    "port": {"number": 15444, "name": "tls-mutual", "protocol": "TLS"},
                    "tls": {"mode": "ISTIO_MUTUAL"},
                    "hosts": ["mutual.local"],
                }
            ],
        },
    },
    {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "mutual", "namespace": gateways.NAMESPACE},
        "spec": {
            "hosts": ["mutual.local"],
            "gateways": ["mutual"],
            "tcp": [{"route": [{"destination": {"host": "echo-tcp.default.svc.cluster.local"}}]}],
        },
    },
]


def test_gateway_with_the_bootstrap_of_pilot_agent(mesh: Mesh) -> None:
    kubectl, node = mesh.kubectl[ANTHOS.name], mesh.lab.nodes[ANTHOS.name]
    kubectl.apply(*gateways.with_bootstrap(ANTHOS))
    try:
        kubectl.wait_rolled_out(gateways.NAMESPACE, gateways.NAME)
        wait_for("the old gateway is gone", lambda: len(kubectl.pods(gateways.NAMESPACE, gateways.LABELS)) == 1)
        wait_for("one eastgate", lambda: len(node.processes("eastgate")) == 1)
        (pod,) = kubectl.pods(gateways.NAMESPACE, gateways.LABELS)
        rendered = json.loads(
            kubectl.exec(gateways.NAMESPACE, pod["metadata"]["name"], "istio-proxy", "cat", gateways.RENDERED)
        )
        # Who we are is what pilot-agent says, to the letter.
        server = json.loads(eastgate_admin(node, "/server_info"))
        assert server["node"]["id"] == rendered["node"]["id"]
        assert server["node"]["metadata"] == rendered["node"]["metadata"]
        assert server["node"]["metadata"]["ISTIO_VERSION"] == versions.ISTIO
        assert server["command_line_options"]["discovery"] == ["unix:./etc/istio/proxy/XDS"]
        # Traffic passes it.
        mesh.apply(subset_rules(ANTHOS))
        mesh.answers("bootstrap of pilot-agent", GKE, "echo-tcp", {ANTHOS.greeting: 1.0})
        table = istioctl(mesh.lab.settings, kubectl, "proxy-status").splitlines()
        (line,) = (one for one in table if one.startswith(f"{pod['metadata']['name']}.{gateways.NAMESPACE}"))
        assert versions.ISTIO in line.split()
        # The secret comes over pilot-agent's other socket.
        kubectl.apply(*MUTUAL)
        identity = f"spiffe://cluster.local/ns/{gateways.NAMESPACE}/sa/{gateways.NAME}"
        wait_for("its certificate", lambda: identity in eastgate_admin(node, "/certs"), seconds=30)
    finally:
        for kind in ("gateway.networking.istio.io", "virtualservice"):
            kubectl.delete(gateways.NAMESPACE, kind, "mutual")
        kubectl.delete(gateways.NAMESPACE, "deployment", gateways.NAME)
        gateways.apply(kubectl, ANTHOS, "eastgate")
        kubectl.wait_rolled_out(gateways.NAMESPACE, gateways.NAME)
