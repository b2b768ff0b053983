"""Stages after the story: failoverPriority, distribute, clusterLocal, subsets per cluster."""

import pytest

from lab.settings import ANTHOS, CLUSTERS, GKE, Cluster, other

from .mesh import Mesh, every
from .rules import CLUSTER_LOCAL, FAILOVER_PRIORITY, distribute, locality_rules, subset_rules


def test_failover_priority_keeps_traffic_at_home(mesh: Mesh) -> None:
    mesh.apply(locality_rules(FAILOVER_PRIORITY))
    every(lambda client, service: mesh.answers("failoverPriority", client, service, {client.greeting: 1.0}))


def test_distribute_gives_the_other_region_its_percentage(mesh: Mesh) -> None:
    mesh.apply(locality_rules(distribute(80)))

    def shares(client: Cluster, service: str) -> None:
        wanted = {client.greeting: 0.8, other(client).greeting: 0.2}
        mesh.answers("distribute 80:20", client, service, wanted, count=200)

    every(shares)


def test_cluster_local_services_have_no_remote_endpoints(mesh: Mesh) -> None:
    mesh.mesh_settings(CLUSTER_LOCAL)
    every(lambda client, service: mesh.answers("clusterLocal", client, service, {client.greeting: 1.0}))


@pytest.mark.parametrize("target", [GKE, ANTHOS], ids=CLUSTERS)
def test_subset_of_one_cluster_gets_everything(mesh: Mesh, target: Cluster) -> None:
    """From the other cluster the gateway carries it, under the subset's own name."""
    mesh.apply(subset_rules(target))
    every(lambda client, service: mesh.answers(f"subset {target.name}", client, service, {target.greeting: 1.0}))
