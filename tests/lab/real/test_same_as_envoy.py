"""A stock gateway beside eastgate's, subscribed as the same kind of node: the same endpoints, the same shares."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lab import gateways
from lab.errors import LabError
from lab.kubectl import Kubectl
from lab.settings import GKE
from lab.shell import run, wait_for
from lab.traffic import eastgate_admin, envoy_admin, subscriptions

from .mesh import ECHO, Mesh
from .rules import FAILOVER, FAILOVER_PRIORITY, distribute, hiding, locality_rules, subset_rules

PEER = gateways.STOCK_NAME
DUMP = "/config_dump?include_eds"
# What both must agree on; the order is nobody's.
FIELDS = ("cluster", "address", "status", "priority", "locality", "weight", "share")
# Two pods of two services, unless they are hidden.
ECHO_ROWS = {"none ready, hidden": 0, "one ready, the other hidden": 2}
Table = dict[tuple[str, str], tuple]


@pytest.fixture(scope="module")
def peer(lab) -> Iterator[Kubectl]:
    """The cluster with a stock gateway beside eastgate's."""
    kubectl = lab.kubectl[GKE.name]
    with gateways.stock_beside(kubectl, GKE):
        yield kubectl


def gateways_own(cluster: str) -> bool:
    """Whether chains of a gateway lead there."""
    return cluster.startswith("outbound_.")


def endpoints(folder: Path, dump: str, wanted: Callable[[str], bool] = gateways_own) -> Table:
    """What `eastgate endpoints` reads in a dump: (cluster, address) -> the rest, of the clusters that are wanted."""
    file = folder / "dump.json"
    file.write_text(dump)
    rows = json.loads(run("eastgate", "endpoints", "--json", "--dump", file).stdout)
    kept = [[row[field] for field in FIELDS] for row in rows if wanted(row["cluster"])]
    return {(row[0], row[1]): (*row[2:-1], round(row[-1], 4)) for row in kept}


def pushes(mesh: Mesh, kubectl: Kubectl) -> set[str]:
    """Nonces of the clusters that both gateways have acknowledged last."""
    pods = [kubectl.pods(gateways.NAMESPACE, {"app": name})[0]["metadata"]["name"] for name in (PEER, gateways.NAME)]
    return {subscriptions(mesh.lab.settings, kubectl, f"{pod}.{gateways.NAMESPACE}")["cluster"].acked for pod in pods}


def compared(mesh: Mesh, kubectl: Kubectl, folder: Path, stage: str, differs_from: Table | None) -> Table:
    """Wait until both proxies show the same, and something else than before; return it."""
    seen: dict[str, Table] = {}

    def agree() -> bool:
        seen["eastgate"] = endpoints(folder, eastgate_admin(kubectl.node, DUMP))
        seen["envoy"] = endpoints(folder, envoy_admin(kubectl, gateways.NAMESPACE, f"deploy/{PEER}", DUMP))
        return seen["eastgate"] == seen["envoy"] and seen["envoy"] != differs_from

    with suppress(LabError):
        wait_for(f"{stage}: eastgate and Envoy agree", agree, seconds=20)
    # Shows what differs.
    assert seen["eastgate"] == seen["envoy"]
    assert seen["envoy"] != differs_from
    table = seen["eastgate"]
    assert len([1 for cluster, _ in table if "echo-" in cluster]) >= ECHO_ROWS.get(stage, 4), table
    mesh.row(f"{stage}: endpoints and shares", "gke gateways", "as stock Envoy", f"{len(table)} equal")
    return table


def test_same_endpoints_and_shares_as_envoy(mesh: Mesh, peer: Kubectl, tmp_path: Path) -> None:
    table = compared(mesh, peer, tmp_path, "no rule", None)
    (pod, second) = (one["metadata"]["name"] for one in peer.pods("default", ECHO))
    stages = {
        "failover": lambda: mesh.apply(locality_rules(FAILOVER)),
        "failoverPriority": lambda: mesh.apply(locality_rules(FAILOVER_PRIORITY)),
        "distribute": lambda: mesh.apply(locality_rules(distribute(80))),
        "one pod unready": lambda: mesh.set_ready(GKE, pod, False),
        "none ready": lambda: mesh.set_ready(GKE, second, False),
        "none ready, hidden": lambda: mesh.apply(hiding(locality_rules(distribute(80)))),
        "one ready, the other hidden": lambda: mesh.set_ready(GKE, pod, True),
        "one ready, the other shown": lambda: mesh.apply(locality_rules(distribute(80))),
        "ready again": lambda: mesh.set_ready(GKE, second, True),
        "subsets": lambda: mesh.apply(subset_rules(GKE)),
    }
    changing = set(stages) - {"failover", "failoverPriority", "distribute"}
    for stage, change in stages.items():
        before = pushes(mesh, peer)
        change()
        if stage not in changing:
            # Rules of locality change no endpoint of a gateway that sees one network only: what istiod sent says that
            # both know them.
            wait_for(f"{stage}: pushed", lambda known=before: known.isdisjoint(pushes(mesh, peer)), every=0.1)
        table = compared(mesh, peer, tmp_path, stage, table if stage in changing else None)
