"""The article's story, both ways: no rule, locality failover, drained, restarted. Stock Envoy beside every service."""

import pytest

from lab import gateways
from lab.settings import ANTHOS, CLUSTERS, GKE, Cluster

from .mesh import Mesh
from .story import told


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
