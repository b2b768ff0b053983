"""The manifest, its overlays, and that manifest and chart are one gateway."""

import tomllib
from pathlib import Path

import pytest
import yaml

from .rendered import ROOT, chart, check_schemas, container_of, kustomized, one, pod_of

MANIFEST = ROOT / "deploy/gateway.yaml"
OVERLAYS = sorted(path.name for path in (ROOT / "deploy/kustomize/overlays").iterdir())
# What the chart says beyond the manifest.
MORE_FLAGS = {"--log-format=text", "--access-log=-", "--access-log-format=text"}


def manifest():
    return [each for each in yaml.safe_load_all(MANIFEST.read_text()) if each]


def test_the_manifest_is_the_base():
    assert MANIFEST.readlink() == Path("kustomize/base/gateway.yaml")
    check_schemas(manifest(), "1.34")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_says_each_name_once_and_all_places_have_it(overlay):
    objects = kustomized(f"overlays/{overlay}")
    check_schemas(objects, "1.34")
    number = overlay.removeprefix("cluster")
    data = one(objects, "ConfigMap")["data"]
    assert data == {"EASTGATE_CLUSTER_ID": overlay, "EASTGATE_NETWORK": f"network{number}"}
    assert one(objects, "Service")["metadata"]["labels"]["topology.istio.io/network"] == data["EASTGATE_NETWORK"]
    said = (ROOT / f"deploy/kustomize/overlays/{overlay}/kustomization.yaml").read_text()
    assert said.count(data["EASTGATE_NETWORK"]) == said.count(f"value: {overlay}") == 1


def test_the_base_has_both_names_in_all_places():
    objects = kustomized("base")
    assert (
        one(objects, "Service")["metadata"]["labels"]["topology.istio.io/network"]
        == (one(objects, "ConfigMap")["data"]["EASTGATE_NETWORK"])
    )


def test_kubelet_does_not_ask_a_registry_for_an_image_that_the_node_has():
    """An untagged image is `latest`, which is pulled always: a node of kind would never use the one that was loaded."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    container = container_of(manifest())
    assert container["image"] == f"eastgate:{version}"
    assert container["imagePullPolicy"] == "IfNotPresent"


def test_chart_and_manifest_are_one_gateway():
    ours, theirs = chart(), manifest()
    pod, other = pod_of(ours)["spec"], pod_of(theirs)["spec"]
    for name in ("securityContext", "volumes", "terminationGracePeriodSeconds", "automountServiceAccountToken"):
        assert pod[name] == other[name], name
    container, other_container = container_of(ours), container_of(theirs)
    for name in ("env", "ports", "readinessProbe", "startupProbe", "resources", "securityContext", "volumeMounts"):
        assert container[name] == other_container[name], name
    assert set(container["args"]) - set(other_container["args"]) == MORE_FLAGS
    assert set(other_container["args"]) <= set(container["args"])
    for kind, name in (("Gateway", "spec"), ("HorizontalPodAutoscaler", "spec")):
        assert one(ours, kind)[name] == one(kustomized("base"), kind)[name], kind


@pytest.mark.parametrize("objects", [manifest, chart], ids=["manifest", "chart"])
def test_pods_are_restricted(objects):
    """What Kubernetes' Pod Security Standard `restricted` asks for, and a root that nobody writes to."""
    pod, container = pod_of(objects())["spec"], container_of(objects())
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert {kind for volume in pod["volumes"] for kind in volume if kind != "name"} <= {
        "configMap",
        "projected",
        "emptyDir",
    }
