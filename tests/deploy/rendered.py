"""What `helm template` and `kubectl kustomize` make of deploy/, as objects, and their schemas."""

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from .tools import tool

Object = dict[str, Any]
ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/eastgate-gateway"
KUSTOMIZE = ROOT / "deploy/kustomize"
RELEASE = "istio-eastwestgateway"
NAMES = ("cluster.id=cluster1", "cluster.network=network1")
# No schemas of these in Kubernetes; the lab's API server checks Istio's.
CUSTOM = {"Gateway", "PodMonitor", "PrometheusRule"}


def objects_of(text: str) -> list[Object]:
    return [one for one in yaml.safe_load_all(text) if one]


def helm(*settings: str, values: Object | None = None) -> subprocess.CompletedProcess[str]:
    """`helm template` with these --set words, and values of a file."""
    command = [tool("helm"), "template", RELEASE, str(CHART), "--namespace", "gateway"]
    for setting in settings:
        command += ["--set", setting]
    return subprocess.run(
        [*command, "--values", "-"], input=yaml.safe_dump(values or {}), capture_output=True, text=True, check=False
    )


def chart(*settings: str, values: Object | None = None) -> list[Object]:
    """Objects of a release that has its two names."""
    run = helm(*NAMES, *settings, values=values)
    assert run.returncode == 0, run.stderr
    return objects_of(run.stdout)


def kustomized(folder: str | Path) -> list[Object]:
    """Objects of this folder below deploy/kustomize, or of one that is an absolute path."""
    run = subprocess.run(
        [tool("kubectl"), "kustomize", KUSTOMIZE / folder], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return objects_of(run.stdout)


def one(objects: Iterable[Object], kind: str) -> Object:
    [found] = [each for each in objects if each["kind"] == kind]
    return found


def pod_of(objects: Iterable[Object]) -> Object:
    template: Object = one(objects, "Deployment")["spec"]["template"]
    return template


def container_of(objects: Iterable[Object]) -> Object:
    [container] = pod_of(objects)["spec"]["containers"]
    return container


def check_schemas(objects: Iterable[Object], version: str) -> None:
    """Every object against this Kubernetes' schema of it: no field unknown, none of another type."""
    for each in objects:
        if each["kind"] not in CUSTOM:
            kubernetes_validate.validate(each, version, strict=True)
