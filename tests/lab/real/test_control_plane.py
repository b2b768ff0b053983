"""istiod and the gateways: acknowledged pushes, what istioctl lists, a start while istiod is away."""

import json
import signal
import time

import pytest

from lab import gateways, versions
from lab.istio import ISTIOD, NAMESPACE, istioctl
from lab.settings import ANTHOS, CLUSTERS, GKE, Cluster
from lab.shell import wait_for
from lab.traffic import XDS_TYPES, eastgate_admin, subscriptions

from .mesh import Mesh
from .rules import distribute, locality_rules, subset_rules

ACKED_S = 5.0


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
