"""Mesh files: what they say, and the one line that a bad one gets."""

from pathlib import Path

import pytest
from eastgate.mesh.errors import MeshError
from eastgate.mesh.mesh_file import MeshFile, load, parse
from eastgate.mesh.split_horizon import NetworkGateway
from eastgate.xds.resources import Locality

MESH = """\
kind: Mesh
clusters:
  gke:
    network: vpc
    gateways: [{address: 198.51.100.1}]
    nodes: {node1: {region: asia-northeast1, zone: asia-northeast1-a}}
    workloads:
      - {name: echo, address: 10.24.1.9, node: node1, labels: {app: echo}, role: echo, answer: "GKE!!!"}
  anthos:
    network: default
    gateways: [{address: 198.51.100.2, port: 443}]
    nodes: {node01: {region: tokyo-onprem}}
    workloads:
      - {name: echo, address: 10.10.2.59, node: node01, labels: {app: echo}, role: echo, answer: "Anthos!!!"}
      - {name: client, address: 10.10.2.40, node: node01, role: client}
services:
  - {name: echo-svc, ports: [{port: 80, targetPort: 8080}], selector: {app: echo}}
"""
RULE = """\
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: echo-svc}
spec:
  host: echo-svc
  trafficPolicy:
    loadBalancer:
      localityLbSetting:
        failover: [{from: tokyo-onprem, to: asia-northeast1}]
    outlierDetection: {}
"""
SCENARIO = """\
---
kind: Scenario
client: anthos/client
service: echo-svc
steps:
  - name: drained
    drain: [anthos/echo]
    expect: {gke: 1}
"""


def read(text: str) -> MeshFile:
    return parse(text, "mesh.yaml")


def refusal(text: str) -> str:
    with pytest.raises(MeshError) as caught:
        read(text)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_clusters_workloads_and_services() -> None:
    mesh = read(MESH).mesh
    assert mesh.gateways == (
        NetworkGateway("vpc", "198.51.100.1", 15443, "gke"),
        NetworkGateway("default", "198.51.100.2", 443, "anthos"),
    )
    first = mesh.workloads[0]
    assert (first.identity, first.network) == (("gke", "default", "echo"), "vpc")
    assert first.locality == Locality("asia-northeast1", "asia-northeast1-a")
    assert first.mtls
    (service,) = mesh.services
    assert service.host == "echo-svc.default.svc.cluster.local"
    assert service.clusters == {"gke", "anthos"}
    assert (service.ports[0].number, service.ports[0].target, service.ports[0].protocol) == (80, 8080, "auto")


def test_steps_hold_the_mesh_as_it_is_then() -> None:
    file = read(MESH + RULE + SCENARIO)
    assert file.scenario
    (step,) = file.scenario.steps
    assert [one.ready for one in step.mesh.workloads] == [True, False, True]
    assert all(one.ready for one in file.mesh.workloads)
    assert step.expected == {"gke": 1.0}
    assert file.scenario.client.identity == ("anthos", "default", "client")


def test_what_is_not_honoured_is_named_with_its_line() -> None:
    unknown = "---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: x}\nspec: {}\n"
    warm = RULE.replace("    outlierDetection: {}", "    warmupDurationSecs: 10s\n    outlierDetection: {}")
    assert read(MESH + warm + unknown).findings == (
        "mesh.yaml:28: DestinationRule default/echo-svc: spec.trafficPolicy.warmupDurationSecs is not honoured",
        "mesh.yaml:31: EnvoyFilter: its patches are not applied: what they change is not predicted",
    )


def test_a_region_that_nobody_is_in_and_failover_without_outlier_detection_are_named() -> None:
    without = RULE.replace("tokyo-onprem", "mars").replace("    outlierDetection: {}\n", "")
    lines = read(MESH + without).findings
    assert [line.split(": ", 2)[2] for line in lines] == [
        "no workload is in region 'mars'",
        "failover without outlierDetection does nothing",
    ]


def test_a_resource_of_one_cluster_is_not_read_by_the_other() -> None:
    text = RULE.replace("{name: echo-svc}", "{name: echo-svc, annotations: {eastgate/clusters: gke}}")
    mesh = read(MESH + text).mesh
    assert [len(mesh.of_kind("DestinationRule", name)) for name in ("gke", "anthos")] == [1, 0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MESH.replace("network: vpc", "netwrok: vpc"), "mesh.yaml:4: unknown key 'netwrok'"),
        (MESH.replace("ports: [", "prots: ["), "mesh.yaml:17: ports is missing"),
        (MESH.replace("10.24.1.9", "10.24.1"), "mesh.yaml:8: clusters.gke.workloads.0.address: '10.24.1' does not"),
        (MESH.replace("kind: Mesh", "kind: Mesh\nkind: Mesh"), "mesh.yaml:2: 'kind' stands twice in one mapping"),
        (MESH.replace("network: vpc", "network: [vpc"), "mesh.yaml:5: not YAML: while parsing a flow sequence"),
        ("", "mesh.yaml: 0 documents of kind Mesh, and it takes one"),
        ("- a\n", "mesh.yaml:1: a document must be a mapping with a kind"),
        (MESH.replace("10.24.1.9", "!!int tomorrow"), "mesh.yaml:8: 'tomorrow' is no int: quote it"),
        (MESH.replace("10.24.1.9", "!!bool x"), "mesh.yaml:8: 'x' is no bool"),
        (MESH.replace("10.24.1.9", "!!timestamp x"), "mesh.yaml:8: 'x' is no timestamp"),
        (MESH.replace("port: 443", "port: " + "9" * 5000), f"mesh.yaml:11: '{'9' * 60}' is no int"),
        (MESH.replace("kind: Mesh", "kind: Mesh\n2026-13-45: a"), "mesh.yaml:2: unknown key '2026-13-45'"),
        (MESH.replace("node: node1,", "node: n7,"), "mesh.yaml:8: workload echo: unknown node 'n7' of cluster gke"),
        (
            MESH.replace("10.10.2.40", "10.10.2.59"),
            "mesh.yaml:15: workload client: echo of cluster anthos has 10.10.2.59 in network default already",
        ),
        (
            MESH.replace("198.51.100.2, port: 443", "198.51.100.1"),
            "mesh.yaml:11: overlapping networks: 198.51.100.1:15443 leads into vpc and default",
        ),
        (
            MESH + "meshNetworks: {networks: {a: {endpoints: [{fromCidr: 10.0.0.0/8}]},"
            " b: {endpoints: [{fromCidr: 10.1.0.0/16}]}}}\n",
            "mesh.yaml:18: overlapping networks: 10.1.0.0/16 of b and 10.0.0.0/8 of a",
        ),
        (
            MESH + RULE.replace("to: asia-northeast1", "to: tokyo-onprem"),
            "mesh.yaml:27: spec.trafficPolicy.loadBalancer.localityLbSetting.failover.0: failover from tokyo-onprem"
            " leads to itself",
        ),
        (
            MESH + RULE.replace("failover: [{from: tokyo-onprem, to: asia-northeast1}]",
                                "distribute: [{from: tokyo-onprem, to: {tokyo-onprem: 70, asia-northeast1: 20}}]"),
            "mesh.yaml:27: spec.trafficPolicy.loadBalancer.localityLbSetting.distribute.0: the weights of distribute"
            " from tokyo-onprem sum to 90, not to 100",
        ),
        (
            MESH + RULE.replace("outlierDetection: {}", "outlierDetection: {interval: 10}"),
            "mesh.yaml:28: spec.trafficPolicy.outlierDetection.interval: 10 is not a duration",
        ),
        (
            MESH + RULE.replace("      localityLbSetting", "      consistentHash: {maglev: {tableSize: 1000}}\n"
                                "      localityLbSetting"),
            "mesh.yaml:26: spec.trafficPolicy.loadBalancer.consistentHash.maglev: the tableSize of maglev is a prime"
            " number below 5000011, not 1000",
        ),
        (
            MESH + RULE.replace("      localityLbSetting", "      consistentHash: {minimumRingSize: 9, ringHash: {}}\n"
                                "      localityLbSetting"),
            "mesh.yaml:26: spec.trafficPolicy.loadBalancer.consistentHash: consistentHash takes one of ringHash, maglev"
            " and minimumRingSize",
        ),
        (
            MESH + RULE.replace("      localityLbSetting", "      consistentHash: {useSourceIp: true}\n"
                                "      simple: RANDOM\n      localityLbSetting"),
            "mesh.yaml:25: spec.trafficPolicy.loadBalancer: simple: RANDOM and consistentHash exclude each other",
        ),
        (MESH + SCENARIO.replace("[anthos/echo]", "[anthos/ehco]"), "mesh.yaml:24: 'anthos/ehco' means no workloads"),
        (MESH + SCENARIO.replace("{gke: 1}", "{gke: 0.5}"), "mesh.yaml:23: steps.0: the expected shares sum to 0.5"),
        (MESH + SCENARIO.replace("echo-svc", "echo"), "mesh.yaml:21: 'echo' means no services"),
    ],
)  # fmt: skip
def test_bad_file_is_one_line_with_file_line_and_cause(text: str, expected: str) -> None:
    assert refusal(text).startswith(expected)


def test_a_host_that_no_service_has_is_named() -> None:
    assert read(MESH + RULE.replace("host: echo-svc", "host: echo")).findings == (
        "mesh.yaml:23: DestinationRule default/echo-svc: no service of this mesh has the host"
        " echo.default.svc.cluster.local",
    )


def test_a_subset_that_nobody_defines_is_named() -> None:
    route = (
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\n"
        "spec:\n  hosts: [echo-svc]\n  tcp:\n    - route: [{destination: {host: echo-svc, subset: v9}}]\n"
    )
    assert read(MESH + route).findings == (
        "mesh.yaml:25: VirtualService default/v: no DestinationRule of echo-svc has a subset 'v9': what goes there is"
        " refused",
    )


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "an alias may repeat itself" in refusal("\n".join(lines))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match=r"nothing\.yaml: cannot be read: No such file or directory"):
        load(tmp_path / "nothing.yaml")


DEMO = Path(__file__).parents[2] / "mesh" / "demo.yaml"
TUTORIAL = Path(__file__).parents[2] / "docs" / "demo.md"


def test_tutorial_shows_the_demo_as_it_is() -> None:
    blocks = TUTORIAL.read_text().split("```yaml\n")[1:]
    assert len(blocks) > 5
    for block in blocks:
        assert block.partition("```")[0] in DEMO.read_text()


def test_demo_has_nothing_that_is_not_honoured() -> None:
    assert load(DEMO).findings == ()
