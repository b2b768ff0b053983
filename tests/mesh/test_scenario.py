"""Which workloads an expectation means."""

from pathlib import Path

import pytest
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
