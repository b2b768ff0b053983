"""The article's story, both ways: no rule, locality failover, drained, restarted. Stock Envoy beside every service."""

import pytest

from lab import gateways
from lab.settings import ANTHOS, CLUSTERS, GKE, Cluster, other
from lab.traffic import ask

from .mesh import Mesh
from .rules import FAILOVER, SERVICES, locality_rules


def told(mesh: Mesh, client: Cluster, title: str) -> None:
    """The story as one cluster's client lives it."""
    here, there = client.greeting, other(client).greeting
    for service in SERVICES:
        mesh.answers(f"{title}no rule", client, service, {here: 0.5, there: 0.5})
    mesh.apply(locality_rules(FAILOVER))
    for service in SERVICES:
        mesh.answers(f"{title}failover rule", client, service, {here: 1.0})
    mesh.drain(client)
    for service in SERVICES:
        # Stock Envoy tries one endpoint once: the first ones fail, and make it eject the drained pods.
        first = ask(mesh.kubectl[client.name], service, 5)
        mesh.row(f"{title}just drained", f"{client.name} {service}", "not judged", str(first))
        mesh.answers(f"{title}drained", client, service, {there: 1.0}, tries=3)
    mesh.restart(client)
    for service in SERVICES:
        mesh.answers(f"{title}restarted", client, service, {here: 1.0})


@pytest.mark.parametrize("client", CLUSTERS.values(), ids=CLUSTERS)
def test_story(mesh: Mesh, client: Cluster) -> None:
    told(mesh, client, "")


def test_story_of_a_mesh_with_one_stock_gateway(mesh: Mesh) -> None:
    """One word makes it mixed: anthos' gateway is Istio's own, gke's is eastgate."""
    kubectl = mesh.kubectl[ANTHOS.name]
    gateways.apply(kubectl, ANTHOS, "stock")
    try:
        kubectl.wait_rolled_out(gateways.NAMESPACE, gateways.NAME)
        told(mesh, GKE, "stock gateway there: ")
    finally:
        gateways.apply(kubectl, ANTHOS, "eastgate")
        kubectl.wait_rolled_out(gateways.NAMESPACE, gateways.NAME)
