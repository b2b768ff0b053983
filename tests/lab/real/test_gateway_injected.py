"""Gateways of Istio's injection template in which pilot-agent starts eastgate: the pod is Istio's, the proxy ours.

EASTGATE_LAB_LONG=1 (`make lab-test-long`): a rolling restart of it under load, too.
"""

import json
import os
from collections.abc import Iterator

import pytest

from lab import gateways, objects, pki, sidecars
from lab.istio import istioctl
from lab.kubectl import Kubectl
from lab.settings import ANTHOS, GKE
from lab.shell import wait_for
from lab.traffic import Load, ask, envoy_admin

from .mesh import Mesh
from .rules import Object, subset_rules

PER_SECOND = 50.0
# pilot-agent goes on accepting for as long, then ends the proxy.
DRAIN_S = 5
SNI = f"outbound_.80_.{ANTHOS.name}_.echo-tcp.default.svc.cluster.local"
# Another API group has Gateways, too.
KINDS = {"Gateway": "gateway.networking.istio.io"}
FRONT, FRONT_PORT = "front.local", 15444
# A line to the port by TLS, whose certificate must be the one that was made for it; its answer.
TLS_CLIENT = """
import socket, ssl, sys
context = ssl.create_default_context(cadata=sys.stdin.read())
plain = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
with context.wrap_socket(plain, server_hostname=sys.argv[3]) as secured:
    secured.sendall(b"hello\\n")
    print(secured.recv(100).decode().split()[0])
"""


def pod_of(kubectl: Kubectl) -> Object:
    (one,) = kubectl.pods(gateways.NAMESPACE, gateways.LABELS)
    return one


def page(kubectl: Kubectl, path: str) -> str:
    """Of the admin of the gateway."""
    return envoy_admin(kubectl, gateways.NAMESPACE, pod_of(kubectl)["metadata"]["name"], path)


def carried(kubectl: Kubectl) -> int:
    """Connections that the gateway has opened for the subset's name."""
    clusters = json.loads(page(kubectl, "/clusters?format=json"))["cluster_statuses"]
    (hosts,) = (one.get("host_statuses", []) for one in clusters if one["name"] == SNI)
    return sum(int(stat.get("value", 0)) for host in hosts for stat in host["stats"] if stat["name"] == "cx_total")


@pytest.fixture(scope="module")
def injected(_mesh: Mesh) -> Iterator[Kubectl]:
    """The gateway of anthos, and the API there. What it was at the end."""
    kubectl = _mesh.kubectl[ANTHOS.name]
    kubectl.apply(*gateways.injected(ANTHOS))
    try:
        kubectl.wait_rolled_out(gateways.NAMESPACE, gateways.NAME)
        wait_for("the old gateway is gone", lambda: len(kubectl.pods(gateways.NAMESPACE, gateways.LABELS)) == 1)
        yield kubectl
    finally:
        kubectl.delete(gateways.NAMESPACE, "deployment", gateways.NAME)
        gateways.apply(kubectl, ANTHOS, "eastgate")
        kubectl.wait_rolled_out(gateways.NAMESPACE, gateways.NAME)


def all_through(mesh: Mesh) -> None:
    """What the client of gke sends to echo-tcp goes through the gateway."""
    mesh.apply(subset_rules(ANTHOS))
    mesh.answers("gateway of Istio's template", GKE, "echo-tcp", {ANTHOS.greeting: 1.0})


def test_eastgate_in_the_pod_of_istios_template(mesh: Mesh, injected: Kubectl) -> None:
    pod = pod_of(injected)
    # One container, Istio's: nothing but the annotation says that it is eastgate.
    (container,) = pod["spec"]["containers"]
    assert container["args"][:2] == ["proxy", "router"]
    assert json.loads(pod["metadata"]["annotations"][sidecars.CONFIG]) == {"binaryPath": sidecars.BINARY}
    server = json.loads(page(injected, "/server_info"))
    assert "eastgate" in server["version"]
    assert server["node"]["id"].startswith("router~")
    all_through(mesh)
    # Each connection of a client to the other cluster is one of the gateway there.
    before = carried(injected)
    assert ask(mesh.kubectl[GKE.name], "echo-tcp", 30).answers == {ANTHOS.greeting: 30}
    assert carried(injected) - before == 30
    table = istioctl(mesh.lab.settings, injected, "proxy-status").splitlines()
    assert any(line.startswith(f"{pod['metadata']['name']}.{gateways.NAMESPACE}") for line in table), table


def front(certificate: pki.Pair) -> Iterator[Object]:
    """A server that ends TLS with a certificate out of a secret, which istiod hands to who may read it."""
    where, role = {"namespace": gateways.NAMESPACE}, {"apiGroup": objects.RBAC, "kind": "Role", "name": "secrets"}
    files = {"tls.crt": certificate.certificate_pem, "tls.key": certificate.key_pem}
    yield objects.secret("front", gateways.NAMESPACE, files)
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "watch", "list"]}]
    yield {"apiVersion": f"{objects.RBAC}/v1", "kind": "Role", "metadata": {"name": "secrets", **where}, "rules": rules}
    yield {
        "apiVersion": f"{objects.RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "secrets", **where},
        "roleRef": role,
        "subjects": [{"kind": "ServiceAccount", "name": gateways.NAME, **where}],
    }
    server = {
        "port": {"number": FRONT_PORT, "name": "tls-front", "protocol": "TLS"},
        "tls": {"mode": "SIMPLE", "credentialName": "front"},
        "hosts": [FRONT],
    }
    yield {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "front", **where},
        "spec": {"selector": {"istio": "eastwestgateway"}, "servers": [server]},
    }
    route = {"route": [{"destination": {"host": "echo-tcp.default.svc.cluster.local"}}]}
    yield {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "front", **where},
        "spec": {"hosts": [FRONT], "gateways": ["front"], "tcp": [route]},
    }


def test_it_ends_tls_with_the_certificate_of_a_secret(injected: Kubectl) -> None:
    """As an ingress gateway; what it then opens to the pods is mesh mTLS."""
    authority = pki.issue("of the test", ca=True)
    certificate = pki.issue(FRONT, authority, names=[FRONT])
    wanted = list(front(certificate))
    injected.apply(*wanted)
    try:
        address = pod_of(injected)["status"]["podIP"]

        def answer() -> str:
            words = ("python3", "-c", TLS_CLIENT, address, FRONT_PORT, FRONT)
            root = authority.certificate_pem.decode()
            return injected.exec("sleep", "deploy/sleep", "sleep", *words, input=root).strip()

        wait_for("an answer by TLS", lambda: answer() in {ANTHOS.greeting, GKE.greeting}, seconds=30)
    finally:
        for one in reversed(wanted):
            injected.delete(gateways.NAMESPACE, KINDS.get(one["kind"], one["kind"]), one["metadata"]["name"])


@pytest.mark.skipif(not os.environ.get("EASTGATE_LAB_LONG"), reason="half a minute: make lab-test-long")
def test_a_rolling_restart_of_it_loses_no_connection(mesh: Mesh, injected: Kubectl) -> None:
    all_through(mesh)
    before = pod_of(injected)["metadata"]["name"]
    with Load(mesh.kubectl[GKE.name], "echo-tcp", PER_SECOND) as load:
        mesh.restart(ANTHOS, gateways.NAMESPACE, gateways.NAME)
        injected("-n", gateways.NAMESPACE, "wait", "--for=delete", f"pod/{before}", "--timeout=60s")
        seen = load.stop()
    mesh.row("rolling restart, Istio's template", "gke echo-tcp", f"{ANTHOS.greeting} 100%", str(seen))
    assert seen.failed == 0, seen.errors
    assert seen.total > PER_SECOND * DRAIN_S
