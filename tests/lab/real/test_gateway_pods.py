"""The gateways as pods: what carries the traffic, probes, a rolling restart under load."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab import gateways
from lab.errors import LabError
from lab.kubectl import Kubectl, named
from lab.settings import ANTHOS, GKE, Cluster, other
from lab.shell import wait_for
from lab.traffic import Load, ask, gateway_counter

from .mesh import Mesh
from .rules import subset_rules

PER_SECOND = 50.0


def sni_cluster(service: str, subset: str = "") -> str:
    return f"outbound_.80_.{subset}_.{service}.default.svc.cluster.local"


def test_remote_traffic_passes_the_gateway_under_the_subsets_name(mesh: Mesh) -> None:
    """Each connection of a client to the other cluster is one of the gateway there; none goes another way."""
    mesh.apply(subset_rules(ANTHOS))
    mesh.answers("subset anthos", GKE, "echo-tcp", {ANTHOS.greeting: 1.0})
    gateway, name = mesh.lab.nodes[ANTHOS.name], sni_cluster("echo-tcp", ANTHOS.name)
    before = gateway_counter(gateway, name, "upstream_cx_total")
    assert ask(mesh.kubectl[GKE.name], "echo-tcp", 30).answers == {ANTHOS.greeting: 30}
    assert gateway_counter(gateway, name, "upstream_cx_total") - before == 30


def test_ports_for_probes_and_metrics_serve_those_alone(mesh: Mesh) -> None:
    kubectl = mesh.kubectl[ANTHOS.name]
    (pod,) = kubectl.pods(gateways.NAMESPACE, gateways.LABELS)
    conditions = {one["type"]: one["status"] for one in pod["status"]["conditions"]}
    assert conditions["Ready"] == "True"

    def page(path: str, port: int = 15021) -> str:
        url = f"http://{pod['status']['podIP']}:{port}{path}"
        # As the sidecar's user, whose connections are not intercepted.
        return kubectl.exec("sleep", "deploy/sleep", "istio-proxy", "curl", "-s", "-S", "-f", "-m", "5", url)

    assert page("/ready") == "LIVE\n"
    assert "envoy_server_live" in page("/stats/prometheus", port=15090)
    for path, port in (("/config_dump", 15021), ("/stats/prometheus", 15021), ("/ready", 15090)):
        with pytest.raises(LabError, match="404"):
            page(path, port)


def test_drained_pod_behind_the_gateway_costs_no_connection(mesh: Mesh) -> None:
    """It refuses connections and is still Ready: eastgate tries the other pod before the client notices."""
    mesh.apply(subset_rules(ANTHOS))
    mesh.answers("before the drain", GKE, "echo-tcp", {ANTHOS.greeting: 1.0})
    gateway, name = mesh.lab.nodes[ANTHOS.name], sni_cluster("echo-tcp", ANTHOS.name)
    before = gateway_counter(gateway, name, "upstream_cx_connect_fail")
    mesh.drain(ANTHOS, pods=1)
    try:
        seen = ask(mesh.kubectl[GKE.name], "echo-tcp", 50)
        mesh.row("one of two pods there drained", "gke echo-tcp", "Anthos!!! 100%", str(seen))
        assert seen.answers == {ANTHOS.greeting: 50}, seen.errors
        # The drained one was asked, and refused.
        assert gateway_counter(gateway, name, "upstream_cx_connect_fail") >= before + 10
    finally:
        mesh.restart(ANTHOS)


def test_gateway_that_speaks_state_of_the_world_is_served_as_well(mesh: Mesh) -> None:
    """The manifest asks for Delta; the other variant is one flag."""
    kubectl = mesh.kubectl[ANTHOS.name]
    objects = gateways.eastgate(ANTHOS)
    (container,) = named(objects, "Deployment", gateways.NAME)["spec"]["template"]["spec"]["containers"]
    container["args"] = [word.replace("=delta", "=sotw") for word in container["args"]]
    assert "--xds-protocol=sotw" in container["args"]
    kubectl.apply(*objects)
    try:
        kubectl.wait_rolled_out(gateways.NAMESPACE, gateways.NAME)
        mesh.apply(subset_rules(ANTHOS))
        mesh.answers("state of the world", GKE, "echo-tcp", {ANTHOS.greeting: 1.0})
    finally:
        gateways.apply(kubectl, ANTHOS, "eastgate")
        kubectl.wait_rolled_out(gateways.NAMESPACE, gateways.NAME)


@pytest.mark.parametrize(("target", "replicas"), [(GKE, 1), (ANTHOS, 3)], ids=["gke, one", "anthos, three"])
def test_rolling_restart_under_load_loses_no_connection(mesh: Mesh, target: Cluster, replicas: int) -> None:
    """Of one gateway, and of three behind one address; each of the new ones then carries its part."""
    client, kubectl = other(target), mesh.kubectl[target.name]
    mesh.apply(subset_rules(target))
    with scaled(kubectl, replicas):
        mesh.answers("before the restart", client, "echo-tcp", {target.greeting: 1.0})
        before = names(kubectl)
        assert len(before) == replicas
        with Load(mesh.kubectl[client.name], "echo-tcp", PER_SECOND) as load:
            mesh.restart(target, gateways.NAMESPACE, gateways.NAME)
            # Until the old ones are gone: they drain, then end.
            ended(kubectl, before)
            seen = load.stop()
        mesh.row(
            f"rolling restart of {replicas} gateways", f"{client.name} echo-tcp", f"{target.greeting} 100%", str(seen)
        )
        assert seen.failed == 0, seen.errors
        assert seen.total > PER_SECOND * gateways.DRAIN_S
        assert seen.share(target.greeting) == 1.0
        for pod in names(kubectl):
            assert sni_cluster("echo-tcp", target.name) in kubectl("-n", gateways.NAMESPACE, "logs", pod), pod


def names(kubectl: Kubectl) -> set[str]:
    """Of the gateway's pods."""
    return {one["metadata"]["name"] for one in kubectl.pods(gateways.NAMESPACE, gateways.LABELS)}


def ended(kubectl: Kubectl, pods: set[str]) -> None:
    """Waits until they are no more, whose deletion has begun."""

    def left() -> set[str]:
        return pods & {one["metadata"]["name"] for one in kubectl.get("-n", gateways.NAMESPACE, "pods")["items"]}

    wait_for("the old ones are gone", lambda: not left(), seconds=60)


@contextmanager
def scaled(kubectl: Kubectl, replicas: int) -> Iterator[None]:
    """With so many gateways; one again after that, as other tests want."""

    def scale(count: int) -> None:
        kubectl("-n", gateways.NAMESPACE, "scale", f"deploy/{gateways.NAME}", f"--replicas={count}")
        kubectl.wait_rolled_out(gateways.NAMESPACE, gateways.NAME)
        wait_for(f"{count} gateways", lambda: len(names(kubectl)) == count)

    if replicas > 1:
        scale(replicas)
    try:
        yield
    finally:
        if replicas > 1:
            scale(1)
