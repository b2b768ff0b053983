"""Pods that are not ready, shown to proxies as UNHEALTHY or hidden from them: both are real meshes.

Istio shows them from 1.31 on, unless a rule's outlier detection has a minHealthPercent; until 1.30 istiod hid them, and
does again with PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS=false.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from lab.settings import CLUSTERS, Cluster, other
from lab.shell import wait_for
from lab.traffic import ask, gateway_endpoints

from .mesh import ECHO, Mesh, allowance
from .rules import FAILOVER, hiding, locality_rules

NAME = "outbound_.80_._.echo-tcp.default.svc.cluster.local"
COUNT = 100


@contextmanager
def shown(mesh: Mesh) -> Iterator[None]:
    mesh.apply(locality_rules(FAILOVER))
    yield


@contextmanager
def hidden_by_rule(mesh: Mesh) -> Iterator[None]:
    mesh.apply(hiding(locality_rules(FAILOVER)))
    yield


@contextmanager
def hidden_by_istiod(mesh: Mesh) -> Iterator[None]:
    mesh.apply(locality_rules(FAILOVER))
    with mesh.unhealthy_hidden():
        yield


def gateways_know(mesh: Mesh, client: Cluster, unready: int, *, hidden: bool) -> None:
    """Wait until the gateway beside these pods, which is eastgate, has been told."""
    wanted = ["HEALTHY"] * (len(pods(mesh, client)) - unready) + ([] if hidden else ["UNHEALTHY"] * unready)
    node = mesh.lab.nodes[client.name]
    wait_for(
        f"{client.name} gateway knows {unready} unready",
        # Nothing is left of a cluster without endpoints.
        lambda: sorted(gateway_endpoints(node, NAME).values()) == sorted(wanted),
        seconds=30,
    )


def pods(mesh: Mesh, cluster: Cluster) -> list[str]:
    return [one["metadata"]["name"] for one in mesh.kubectl[cluster.name].pods("default", ECHO)]


@contextmanager
def unready(mesh: Mesh, cluster: Cluster, count: int) -> Iterator[None]:
    names = pods(mesh, cluster)[:count]
    for name in names:
        mesh.set_ready(cluster, name, False)
    try:
        yield
    finally:
        for name in names:
            mesh.set_ready(cluster, name, True)


@pytest.mark.parametrize("how", [shown, hidden_by_rule, hidden_by_istiod])
def test_local_pods_unready(mesh: Mesh, how: Callable[[Mesh], AbstractContextManager[None]]) -> None:
    """With one of two shown as UNHEALTHY 70 % stay, as Envoy's overprovisioning has it; hidden, nobody misses it."""
    title = how.__name__.replace("_", " ")
    with how(mesh):
        for client in CLUSTERS.values():
            here, there = client.greeting, other(client).greeting
            mesh.answers(f"{title}: all ready", client, "echo-tcp", {here: 1.0}, count=20)
            with unready(mesh, client, 1):
                gateways_know(mesh, client, 1, hidden=how is not shown)
                wanted = {here: 0.7, there: 0.3} if how is shown else {here: 1.0}
                mesh.answers(f"{title}: one of two unready", client, "echo-tcp", wanted, COUNT)
            with unready(mesh, client, 2):
                gateways_know(mesh, client, 2, hidden=how is not shown)
                mesh.answers(f"{title}: none ready", client, "echo-tcp", {there: 1.0})
            gateways_know(mesh, client, 0, hidden=False)


@pytest.mark.parametrize("client", CLUSTERS.values(), ids=CLUSTERS)
def test_remote_pods_unready(mesh: Mesh, client: Cluster) -> None:
    """Shown, they still count in their gateway's weight, and it refuses what nobody there can answer. Hidden, it has
    no weight left."""
    here, there = client.greeting, other(client)
    mesh.answers("no rule", client, "echo-tcp", {here: 0.5, there.greeting: 0.5})
    with unready(mesh, there, 2):
        gateways_know(mesh, there, 2, hidden=False)
        seen = ask(mesh.kubectl[client.name], "echo-tcp", COUNT)
        mesh.row("shown: none ready there", f"{client.name} echo-tcp", f"{here} 50%, failed 50%", str(seen))
        assert set(seen.answers) == {here}
        assert abs(seen.share(here) - 0.5) <= allowance(0.5, COUNT), seen
        mesh.apply(hiding(locality_rules({"enabled": False})))
        gateways_know(mesh, there, 2, hidden=True)
        mesh.answers("hidden by rule: none ready there", client, "echo-tcp", {here: 1.0})
