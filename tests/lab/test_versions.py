"""What lab/versions.py says is what the Go modules require."""

import re
from pathlib import Path

import pytest
from eastgate.xds.node import DEFAULT_ISTIO_VERSION

from lab import build, versions

MODULES = Path(build.__file__).parent / "modules"


@pytest.mark.parametrize(
    ("module", "requirement"),
    [
        ("kube", f"k8s.io/kubernetes v{versions.KUBERNETES}"),
        ("coredns", f"github.com/coredns/coredns v{versions.COREDNS}"),
        ("istio", f"istio.io/istio {versions.ISTIO_MODULE}"),
        ("grpc", f"google.golang.org/grpc v{versions.GRPC}"),
        ("istio", f"google.golang.org/grpc v{versions.GRPC}"),
        ("kind", f"sigs.k8s.io/kind v{versions.KIND}"),
        ("etcd", f"go.etcd.io/etcd/server/v3 v{versions.ETCD}"),
        ("crictl", f"sigs.k8s.io/cri-tools v{versions.CRI_TOOLS}"),
        ("helm", f"helm.sh/helm/v4 v{versions.HELM}"),
        ("istio", f"helm.sh/helm/v4 v{versions.HELM}"),
    ],
)
def test_module_requires_the_version(module: str, requirement: str) -> None:
    text = (MODULES / module / "go.mod").read_text()
    assert re.search(rf"^(?:require )?\s*{re.escape(requirement)}(?: // indirect)?$", text, re.MULTILINE)


def test_every_staging_module_has_the_version_of_kubernetes() -> None:
    """Kubernetes' own replace lines do not hold for those who require it."""
    text = (MODULES / "kube/go.mod").read_text()
    replaced = set(re.findall(r"^\s*k8s\.io/\S+ => k8s\.io/\S+ (\S+)$", text, re.MULTILINE))
    assert replaced == {"v0." + versions.KUBERNETES.split(".", 1)[1]}


def test_kubernetes_knows_its_version() -> None:
    flags = build.kubernetes_flags("1.34.4")
    assert "version.gitVersion=v1.34.4" in flags
    assert "version.gitMajor=1 " in flags
    assert "version.gitMinor=34 " in flags


def test_what_is_built_is_stamped_with_version_and_flags() -> None:
    kube, *_, istio = build.TARGETS
    assert versions.KUBERNETES in kube.stamp
    assert "gitVersion" in kube.stamp
    assert versions.ISTIO_MODULE in istio.stamp
    assert istio.programs == ("pilot-discovery", "pilot-agent", "istioctl")


def test_gateway_claims_the_version_that_the_lab_runs() -> None:
    assert versions.ISTIO == DEFAULT_ISTIO_VERSION
