"""Which workloads an expectation means, and which gateways a step ends."""

from pathlib import Path

import pytest
import yaml
from eastgate.mesh.errors import MeshError
from eastgate.mesh.mesh_file import parse
from eastgate.mesh.scenario import is_meant, meant_by

FILE = Path(__file__).parents[1] / "data/mesh/cases/27-istio-io-locality-task-mesh.yaml"
MESH = parse(FILE.read_text(), "x").mesh
NEAR = next(one for one in MESH.workloads if one.name == "hw-r1z1")


@pytest.mark.parametrize(
    "name", ["primary", "primary/hw-r1z1", "primary/sample/hw-r1z1", "region1", "region1/zone1"]
)  # fmt: skip
def test_a_workload_is_meant_by_cluster_name_and_locality(name: str) -> None:
    assert is_meant(name, NEAR)
    assert [one.name for one in MESH.workloads if is_meant("region1/zone1", one)] == ["curl", "hw-r1z1"]


@pytest.mark.parametrize("name", ["r1z2c", "primary/hw", "region2", "region1/zone2", "region1/zone1/x", ""])
def test_others_are_not(name: str) -> None:
    assert not is_meant(name, NEAR)


def test_the_most_specific_expectation_counts_and_without_one_the_cluster() -> None:
    assert meant_by(["region1", "region1/zone1"], NEAR) == "region1/zone1"
    assert meant_by(["region2"], NEAR) == "primary"


def test_shares_may_be_expected_by_locality_and_workload() -> None:
    text = FILE.read_text().replace("expect: {primary: 1}", "expect: {region1/zone1: 1}", 1)
    scenario = parse(text.replace("expect: {r1z2c: 1}", "expect: {r1z2c/hw: 1}"), "x").scenario
    assert scenario
    assert [dict(one.expected) for one in scenario.steps[:2]] == [{"region1/zone1": 1.0}, {"r1z2c/hw": 1.0}]


def test_an_expectation_that_means_nobody_is_refused() -> None:
    text = FILE.read_text().replace("expect: {r1z2c: 1}", "expect: {region9: 1}")
    with pytest.raises(MeshError, match=r"'region9' is no cluster, locality \(region/zone\) or workload"):
        parse(text, "x")


DEMO = Path(__file__).parents[2] / "mesh" / "demo.yaml"
FIRST, SECOND = (("gke", "istio-system", f"gateway-{number}") for number in (1, 2))


def demo_with(**step: object) -> str:
    """The demo's mesh, with one step."""
    *mesh, scenario = yaml.safe_load_all(DEMO.read_text())
    return yaml.safe_dump_all([*mesh, {**scenario, "steps": [{"name": "only", **step}]}])


@pytest.mark.parametrize(
    ("gateway", "hit"),
    [("gke", {FIRST, SECOND}), ("gke/gateway-2", {SECOND}), ("gke/istio-system/gateway-1", {FIRST})],
)
def test_a_cluster_means_all_its_gateways_and_a_name_one(gateway: str, hit: set[object]) -> None:
    scenario = parse(demo_with(fail=[{"gateway": gateway, "after": 0.25}]), "x").scenario
    assert scenario
    (step,) = scenario.steps
    assert step.down() == hit
    assert (step.ended(0), step.ended(0.25)) == (frozenset(), hit)


def test_what_is_down_stays_down_until_it_is_repaired() -> None:
    scenario = parse(demo_with(repair=[{"gateway": "gke/gateway-2"}]), "x").scenario
    assert scenario
    assert scenario.steps[0].down(frozenset({FIRST, SECOND})) == {FIRST}


@pytest.mark.parametrize(
    ("step", "cause"),
    [
        ({"fail": [{"gateway": "gek"}]}, "'gek' is no cluster with gateways, and no gateway; known are anthos/istio"),
        ({"repair": [{"gateway": "gke/echo-1"}]}, "'gke/echo-1' is no cluster with gateways, and no gateway"),
        ({"fail": [{"region": "asia"}]}, "no echo workload is in asia"),
        ({"fail": [{"gateway": "gke", "after": 1}]}, "less than 1"),
        ({"fail": [{"region": "tokyo-onprem", "after": 0.5}]}, "after is for gateways"),
        ({"repair": [{"gateway": "gke", "after": 0.5}]}, "after is for what fails"),
        ({"through": {"gke/gateway-1": 0.8, "gke/gateway-2": 0.4}}, "sum to 1.2, which is over 1"),
        ({"through": {"gke/echo-1": 1}}, "'gke/echo-1' is no gateway; known are"),
        ({"through": {"gke/gateway-3": 1}}, "'gke/gateway-3' means no workloads"),
    ],
)
def test_a_step_that_cannot_be_is_refused_with_its_line(step: dict[str, object], cause: str) -> None:
    with pytest.raises(MeshError, match=rf"x:\d+: .*{cause}"):
        parse(demo_with(**step), "x")
