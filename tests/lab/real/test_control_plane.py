"""istiod and the gateways: acknowledged pushes, and traffic while istiod is killed, replaced or frozen."""

import json
import signal
import time
from collections.abc import Callable

import pytest

from lab import gateways, versions
from lab.istio import ISTIOD, NAMESPACE, istioctl
from lab.settings import ANTHOS, CLUSTERS, GKE, Cluster, other
from lab.shell import wait_for
from lab.traffic import XDS_TYPES, Load, eastgate_admin, gateway_endpoints, subscriptions

from .mesh import ECHO, Mesh
from .rules import distribute, locality_rules, subset_rules

ACKED_S = 5.0
CONVERGED_S = 10.0
FAULT_S = 12.0
PER_SECOND = 30.0
CLUSTER = "outbound_.80_._.echo-tcp.default.svc.cluster.local"


def gateway_name(mesh: Mesh, cluster: Cluster) -> str:
    """The gateway's pod as istiod names it."""
    (pod,) = mesh.kubectl[cluster.name].pods(gateways.NAMESPACE, gateways.LABELS)
    return f"{pod['metadata']['name']}.{gateways.NAMESPACE}"


@pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS)
def test_istiod_sees_every_push_acknowledged(mesh: Mesh, cluster: Cluster) -> None:
    kubectl, proxy = mesh.kubectl[cluster.name], gateway_name(mesh, cluster)
    before = subscriptions(mesh.lab.settings, kubectl, proxy)
    begin = time.monotonic()
    mesh.apply(locality_rules(distribute(70)))

    def acknowledged() -> bool:
        now = subscriptions(mesh.lab.settings, kubectl, proxy)
        new = now["cluster"].sent != before["cluster"].sent
        return new and all(now[one].sent == now[one].acked for one in XDS_TYPES)

    wait_for(f"{cluster.name} push acknowledged", acknowledged, seconds=30, every=0.1)
    assert time.monotonic() - begin < ACKED_S
    after = subscriptions(mesh.lab.settings, kubectl, proxy)
    assert all(after[one].sent for one in XDS_TYPES), after


@pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS)
def test_proxy_status_lists_the_gateway_as_synced(mesh: Mesh, cluster: Cluster) -> None:
    table = istioctl(mesh.lab.settings, mesh.kubectl[cluster.name], "proxy-status", "-v", "1").splitlines()
    columns = table[0].split()
    (line,) = (one for one in table if one.startswith(gateway_name(mesh, cluster)))
    # "SYNCED (4m20s)" is two words.
    cells = [word for word in line.split() if not word.startswith("(")]
    status = dict(zip(columns, cells, strict=False))
    assert {status[kind] for kind in ("CDS", "EDS", "LDS")} == {"SYNCED"}, line
    # The last column: what the gateway says that it is compatible with.
    assert columns[-1] == "VERSION"
    assert cells[-1] == versions.ISTIO, line


def istiod_ready(mesh: Mesh, cluster: Cluster) -> bool:
    pods = mesh.kubectl[cluster.name].pods(NAMESPACE, {"app": "istiod"})
    conditions = [one for pod in pods for one in pod["status"].get("conditions", ())]
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def killed(mesh: Mesh) -> None:
    for cluster in CLUSTERS.values():
        node = mesh.lab.nodes[cluster.name]
        old = node.processes(ISTIOD)
        node.send_signal(ISTIOD, signal.SIGKILL)
        wait_for(f"{cluster.name} istiod starts again", lambda n=node, o=old: set(n.processes(ISTIOD)) - set(o))


def gone_for_a_while(mesh: Mesh) -> None:
    """Long enough for the gateways to try again less and less often."""
    for kubectl in mesh.kubectl.values():
        kubectl("-n", NAMESPACE, "scale", "deploy/istiod", "--replicas=0")
    time.sleep(FAULT_S)
    for kubectl in mesh.kubectl.values():
        kubectl("-n", NAMESPACE, "scale", "deploy/istiod", "--replicas=1")
    for kubectl in mesh.kubectl.values():
        kubectl.wait_rolled_out(NAMESPACE, "istiod")


def frozen(mesh: Mesh) -> None:
    for node in mesh.lab.nodes.values():
        node.send_signal(ISTIOD, signal.SIGSTOP)
    try:
        time.sleep(FAULT_S)
    finally:
        for node in mesh.lab.nodes.values():
            node.send_signal(ISTIOD, signal.SIGCONT)


@pytest.mark.parametrize("fault", [killed, gone_for_a_while, frozen])
def test_traffic_does_not_notice_that_istiod_is(mesh: Mesh, fault: Callable[[Mesh], None]) -> None:
    """Both istiods at once. What changed meanwhile arrives within ten seconds of their return."""
    for cluster in CLUSTERS.values():
        shares = {cluster.greeting: 0.5, other(cluster).greeting: 0.5}
        mesh.answers("before the fault", cluster, "echo-tcp", shares)
    pods = {cluster.name: mesh.kubectl[cluster.name].pods("default", ECHO)[0] for cluster in CLUSTERS.values()}
    loads = [Load(mesh.kubectl[name], "echo-tcp", PER_SECOND) for name in CLUSTERS]
    with loads[0], loads[1]:
        fault(mesh)
        for cluster in CLUSTERS.values():
            wait_for(f"{cluster.name} istiod is ready", lambda c=cluster: istiod_ready(mesh, c))
        took = {cluster.name: converged_after(mesh, cluster, pods[cluster.name]) for cluster in CLUSTERS.values()}
        seen = dict(zip(CLUSTERS.values(), (load.stop() for load in loads), strict=True))
    for cluster, answers in seen.items():
        told = f"{answers}; converged in {took[cluster.name]:.1f} s"
        mesh.row(f"istiods {fault.__name__.replace('_', ' ')}", f"{cluster.name} echo-tcp", "none failed", told)
    for cluster, answers in seen.items():
        assert answers.failed == 0, (cluster.name, answers.errors)
        assert set(answers.answers) == {GKE.greeting, ANTHOS.greeting}
        assert took[cluster.name] <= CONVERGED_S


def test_gateway_that_starts_without_istiod_serves_what_it_knew(mesh: Mesh) -> None:
    kubectl, node = mesh.kubectl[ANTHOS.name], mesh.lab.nodes[ANTHOS.name]
    mesh.apply(subset_rules(ANTHOS))
    mesh.answers("before the restart", GKE, "echo-tcp", {ANTHOS.greeting: 1.0})
    old = node.processes("eastgate")
    kubectl("-n", NAMESPACE, "scale", "deploy/istiod", "--replicas=0")
    try:
        wait_for("istiod is gone", lambda: not node.processes(ISTIOD))
        node.send_signal("eastgate", signal.SIGKILL)
        wait_for("the gateway is started again", lambda: set(node.processes("eastgate")) - set(old))
        wait_for("it is ready", lambda: kubectl.rolled_out(gateways.NAMESPACE, [gateways.NAME]))
        assert json.loads(eastgate_admin(node, "/server_info"))["eastgate"]["configuration"]["stale"] is True
        mesh.answers("started while istiod is away", GKE, "echo-tcp", {ANTHOS.greeting: 1.0})
    finally:
        kubectl("-n", NAMESPACE, "scale", "deploy/istiod", "--replicas=1")
        kubectl.wait_rolled_out(NAMESPACE, "istiod")

    def fresh() -> bool:
        return json.loads(eastgate_admin(node, "/server_info"))["eastgate"]["configuration"]["stale"] is False

    wait_for("what it serves is istiod's again", fresh, seconds=30)


def converged_after(mesh: Mesh, cluster: Cluster, pod: dict) -> float:
    """Seconds until the gateway knows that a pod is not ready. The pod is made ready again."""
    address = f"{pod['status']['podIP']}:9090"
    node, begin = mesh.lab.nodes[cluster.name], time.monotonic()
    mesh.set_ready(cluster, pod["metadata"]["name"], False)

    def healthy() -> bool:
        return gateway_endpoints(node, CLUSTER)[address] == "HEALTHY"

    try:
        wait_for(f"{cluster.name} gateway knows", lambda: not healthy(), seconds=60, every=0.1)
        return time.monotonic() - begin
    finally:
        mesh.set_ready(cluster, pod["metadata"]["name"], True)
        wait_for(f"{cluster.name} gateway knows again", healthy, seconds=60)
