"""The embedded control plane against a real istiod: the same objects must give the same configuration.

tests/data/mesh/lab.yaml describes the recorded mesh; its scenario repeats the recorded stages.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from eastgate.mesh.control_plane import resources
from eastgate.mesh.mesh_file import load
from eastgate.mesh.model import Mesh, Workload
from eastgate.mesh.node_view import NodeView, node_view
from eastgate.xds.resources import Locality
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration

from ..support.recordings import CDS, EDS, FOLDER, LDS, RDS, recorded, recorded_node
from .meaning import differences, meaning

CLASSES = {CDS: Cluster, EDS: ClusterLoadAssignment, LDS: Listener, RDS: RouteConfiguration}
FILE = load(FOLDER.parent / "mesh" / "lab.yaml")


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
    wanted = {f"{number}-" for number in range(1, 16)}
    assert all(any(stage.startswith(number) for stage in STAGES) for number in wanted)


@cache
def opened(type_url: str, raw: bytes) -> Any:
    """What a message says. Most of a stage is as it was in the stage before."""
    return meaning(CLASSES[type_url].parse(raw))


@pytest.mark.parametrize(("stage", "role"), ROLES)
def test_sends_what_istiod_sent(stage: str, role: str) -> None:
    mesh = STAGES[stage]
    sent = resources(mesh, node_of(stage, role, mesh))
    found = []
    for type_url, names in recorded(stage, role).items():
        assert set(sent[type_url]) == set(names), type_url
        for name in sent[type_url]:
            lines = differences(opened(type_url, names[name]), opened(type_url, sent[type_url][name]))
            found += [f"{name}: {line}" for line in lines]
    assert not found, "\n".join(found[:20])
