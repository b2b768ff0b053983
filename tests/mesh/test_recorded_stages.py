"""The embedded control plane against a real istiod: the same objects must give the same configuration.

tests/data/mesh/lab.yaml describes the recorded mesh; its scenario repeats the recorded stages.
"""

from dataclasses import replace

import pytest
from eastgate.mesh.control_plane import resources
from eastgate.mesh.mesh_file import load
from eastgate.mesh.model import Mesh, Workload
from eastgate.mesh.node_view import NodeView, node_view
from eastgate.xds.resources import Locality
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.listener.v3 import Listener

from ..support.recordings import CDS, EDS, FOLDER, LDS, recorded, recorded_node
from .meaning import differences, meaning

CLASSES = {CDS: Cluster, EDS: ClusterLoadAssignment, LDS: Listener}
FILE = load(FOLDER.parent / "mesh" / "lab.yaml")
# Sidecar listeners that need HTTP or inbound; docs/mesh-vs-istiod.md names them and says why.
NOT_SENT = {"virtualInbound", "virtualOutbound", "0.0.0.0_80", "0.0.0.0_15010", "0.0.0.0_15014"}
AUTOMATIC = {"10.96.0.80_80", "10.96.0.100_15021", "10.28.0.80_80", "10.28.0.100_15021"}


def without_region(workload: Workload) -> Workload:
    """In the first stage the on-premises nodes had no labels yet."""
    return replace(workload, locality=Locality()) if workload.cluster == "anthos" else workload


STAGES: dict[str, Mesh] = {"1-default": FILE.mesh.changed(without_region)}
assert FILE.scenario
STAGES.update((step.name, step.mesh) for step in FILE.scenario.steps)
ROLES = [
    pytest.param(stage, path.name, id=f"{stage}-{path.name}")
    for stage in STAGES
    for path in sorted((FOLDER / stage).iterdir())
]


def node_of(stage: str, role: str, mesh: Mesh) -> NodeView:
    node = recorded_node(stage, role)
    where = node.get("locality", {})
    locality = Locality(where.get("region", ""), where.get("zone", ""), where.get("sub_zone", ""))
    return node_view(node["id"], node["metadata"], locality, mesh)


def test_scenario_has_the_stages_of_the_issue() -> None:
    wanted = {f"{number}-" for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 14, 15)}
    assert all(any(stage.startswith(number) for stage in STAGES) for number in wanted)


@pytest.mark.parametrize(("stage", "role"), ROLES)
def test_sends_what_istiod_sent(stage: str, role: str) -> None:
    mesh = STAGES[stage]
    sent = resources(mesh, node_of(stage, role, mesh))
    found = []
    for type_url, names in recorded(stage, role).items():
        if type_url not in CLASSES:
            # The embedded control plane sends no HTTP chains, and so no routes.
            continue
        left_out = NOT_SENT | AUTOMATIC if type_url == LDS and "sidecar" in role else set()
        assert set(sent[type_url]) == set(names) - left_out, type_url
        for name in sent[type_url]:
            parse = CLASSES[type_url].parse
            lines = differences(meaning(parse(names[name])), meaning(parse(sent[type_url][name])))
            found += [f"{name}: {line}" for line in lines]
    assert not found, "\n".join(found[:20])
