"""The Helm chart: what it renders is valid, names are said once, what is wrong is one sentence."""

import json
import tomllib
from typing import Any

import pytest
import yaml
from kubernetes_validate import ValidationError

from .rendered import (
    CHART,
    NAMES,
    RELEASE,
    ROOT,
    chart,
    check_schemas,
    container_of,
    helm,
    objects_of,
    one,
    pod_of,
)

KUBERNETES = ("1.29", "1.34", "1.37")
EVERYTHING = {
    "image": {"repository": "example.org/eastgate", "digest": "sha256:" + "0" * 64, "pullSecrets": [{"name": "pull"}]},
    "istiod": {"revision": "1-31", "proxyVersion": "1.30.2"},
    "gateway": {"label": "eastwest-b", "hosts": ["*.local", "*.global"]},
    "logFormat": "json",
    "workers": 2,
    "extraArgs": ["--max-connections=20000", "--state-max-age=3600"],
    "topologySpread": {"zones": "DoNotSchedule", "nodes": "DoNotSchedule"},
    "nodeSelector": {"pool": "edge"},
    "tolerations": [{"key": "edge", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "system-cluster-critical",
    "podAnnotations": {"team": "mesh"},
    "podLabels": {"team": "mesh"},
    "serviceAccount": {"name": "edge", "annotations": {"team": "mesh"}},
    "service": {
        "annotations": {"team": "mesh"},
        "loadBalancerClass": "example.org/lb",
        "loadBalancerIP": "192.0.2.1",
        "loadBalancerSourceRanges": ["192.0.2.0/24"],
        "externalTrafficPolicy": "Local",
        "exposeIstiod": True,
    },
    "networkPolicy": {"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "metricsFrom": [{"podSelector": {}}]},
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
}
NOTHING = {
    "accessLog": False,
    "autoscaling": {"enabled": False},
    "podDisruptionBudget": {"enabled": False},
    "networkPolicy": {"enabled": False},
    "gateway": {"create": False},
    "serviceAccount": {"create": False},
    "service": {"type": "ClusterIP"},
    "resources": {"requests": None, "limits": None},
}
MATRIX = {"default": {}, "everything": EVERYTHING, "nothing": NOTHING, "node-port": {"service": {"type": "NodePort"}}}
KINDS = {
    "default": {
        "ConfigMap",
        "Deployment",
        "Gateway",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
    },
    "nothing": {"ConfigMap", "Deployment", "Service"},
}


@pytest.mark.parametrize("values", MATRIX.values(), ids=list(MATRIX))
def test_every_object_is_valid_for_old_and_new_kubernetes(values):
    objects = chart(values=values)
    for version in KUBERNETES:
        check_schemas(objects, version)
    assert all(each["metadata"]["namespace"] == "gateway" for each in objects)


def test_an_unknown_field_is_not_valid():
    """The check above can fail."""
    objects = chart()
    container_of(objects)["imagePullPolice"] = "Never"
    with pytest.raises(ValidationError):
        check_schemas(objects, KUBERNETES[-1])


@pytest.mark.parametrize("name", list(KINDS))
def test_parts_that_are_off_are_not_there(name):
    assert {each["kind"] for each in chart(values=MATRIX[name])} == KINDS[name]


def test_two_clusters_differ_in_their_two_names_alone():
    def paths(value: Any, at: str = "") -> dict[str, Any]:
        if isinstance(value, dict):
            return {path: leaf for key in value for path, leaf in paths(value[key], f"{at}/{key}").items()}
        if isinstance(value, list):
            return {path: leaf for i, item in enumerate(value) for path, leaf in paths(item, f"{at}/{i}").items()}
        return {at: value}

    def release(number: int) -> dict[str, Any]:
        run = helm(f"cluster.id=cluster{number}", f"cluster.network=network{number}")
        return paths({each["kind"]: each for each in objects_of(run.stdout)})

    first, second = release(1), release(2)
    differing = {path for path in first.keys() | second.keys() if first.get(path) != second.get(path)}
    assert differing == {
        "/ConfigMap/data/EASTGATE_CLUSTER_ID",
        "/ConfigMap/data/EASTGATE_NETWORK",
        "/Service/metadata/labels/topology.istio.io/network",
        # Follows from them: pods that have the old names are replaced.
        "/Deployment/spec/template/metadata/annotations/checksum/config",
    }


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ((), "cluster.id is empty: say the name that istiod of this cluster has, as --set cluster.id=cluster1"),
        (("cluster.id=a",), "cluster.network is empty: say this cluster's network, as --set cluster.network=network1"),
        (("cluster.network=b",), "cluster.id is empty"),
        ((*NAMES, "image.tag=latest"), "image.tag is latest: kubelet would pull it at each start"),
        ((*NAMES, "autoscaling.minReplicas=9"), "autoscaling.minReplicas is 9 and maxReplicas is 6"),
        (
            (*NAMES, "resources.requests.cpu=null"),
            "autoscaling goes by percent of resources.requests.cpu, and that is empty",
        ),
        (
            (*NAMES, "service.loadBalancerIP=192.0.2.1", "service.type=NodePort"),
            "service.loadBalancerIP is set and service.type is NodePort",
        ),
        ((*NAMES, "extraArgs={max-connections=3}"), 'extraArgs: "max-connections=3" is no flag'),
        ((*NAMES, "extraArgs={--drain-time=3}"), "extraArgs: --drain-time is a flag that the chart sets itself"),
        # Of the schema:
        ((*NAMES, "cluster.nettwork=b"), "additional properties 'nettwork' not allowed"),
        (("cluster.id=a", "cluster.network=-b"), "'/cluster/network'"),
        ((*NAMES, "drainTime=soon"), "'/drainTime'"),
        ((*NAMES, "image.pullPolicy=never"), "'/image/pullPolicy'"),
        ((*NAMES, "istiod.address=istiod"), "'/istiod/address'"),
    ],
)
def test_what_is_wrong_is_one_sentence_that_names_the_value(settings, sentence):
    run = helm(*settings)
    assert run.returncode != 0
    assert run.stdout == ""
    [line] = [line for line in run.stderr.splitlines() if sentence in line]
    assert "Traceback" not in run.stderr
    assert line


def test_values_and_schema_know_the_same_names():
    """Helm checks values against the schema: a name that only the schema has would be documented nowhere."""

    def names(values: Any, schema: Any, at: str = "") -> list[str]:
        missing = []
        for name, inner in schema.get("properties", {}).items():
            if not isinstance(values, dict) or name not in values:
                missing.append(f"{at}{name}")
            else:
                missing += names(values[name], inner, f"{at}{name}.")
        return missing

    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    # Helm's own, and one of Kubernetes' that a gateway has no use for.
    assert names(values, schema) == ["global", "resources.claims"]


@pytest.mark.parametrize("drain", [0, 5, 25, 300])
def test_a_pod_has_time_for_the_whole_drain(drain):
    objects = chart(f"drainTime={drain}")
    assert pod_of(objects)["spec"]["terminationGracePeriodSeconds"] > 2 * drain
    assert f"--drain-time={drain}" in container_of(objects)["args"]
    [policy] = one(objects, "HorizontalPodAutoscaler")["spec"]["behavior"]["scaleDown"]["policies"]
    assert policy["periodSeconds"] > 2 * drain


def test_values_reach_the_gateway():
    objects = chart(values=EVERYTHING)
    container, pod = container_of(objects), pod_of(objects)
    assert container["image"] == "example.org/eastgate@sha256:" + "0" * 64
    assert {
        "--discovery=istiod-1-31.istio-system.svc:15012",
        "--label=istio=eastwest-b",
        "--meta=SERVICE_ACCOUNT=edge",
        "--log-format=json",
        "--access-log-format=json",
        "--workers=2",
        "--max-connections=20000",
    } <= set(container["args"])
    assert one(objects, "ConfigMap")["data"]["ISTIO_META_ISTIO_VERSION"] == "1.30.2"
    assert pod["spec"]["serviceAccountName"] == one(objects, "ServiceAccount")["metadata"]["name"] == "edge"
    assert one(objects, "Gateway")["spec"]["selector"] == {"istio": "eastwest-b"}
    assert one(objects, "Gateway")["metadata"]["labels"]["istio.io/rev"] == "1-31"
    assert "prometheus.io/scrape" not in pod["metadata"]["annotations"]
    assert pod["metadata"]["labels"]["team"] == "mesh"
    assert [port["port"] for port in one(objects, "Service")["spec"]["ports"]] == [15021, 15443, 15012, 15017]


def test_a_zero_of_workers_is_refused_and_none_leaves_it_to_the_machine():
    assert "'/workers'" in helm(*NAMES, "workers=0").stderr
    assert not any(word.startswith("--workers") for word in container_of(chart())["args"])


@pytest.mark.parametrize("name", ["default", "everything"])
def test_network_policy_lets_in_what_the_service_and_the_probes_need(name):
    objects = chart(values=MATRIX[name])
    policy = one(objects, "NetworkPolicy")["spec"]
    labels = pod_of(objects)["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    opened = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
    wanted = {port["targetPort"] for port in one(objects, "Service")["spec"]["ports"]}
    assert opened == wanted | {port["containerPort"] for port in container_of(objects)["ports"]}
    for kind, path in (("Service", "selector"), ("PodDisruptionBudget", "selector")):
        selector = one(objects, kind)["spec"][path]
        assert selector.get("matchLabels", selector).items() <= labels.items()


def test_versions_are_those_of_the_distribution():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    described = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (described["version"], described["appVersion"]) == (version, version)
    assert container_of(chart())["image"] == f"eastgate:{version}"
    assert f"-t eastgate:{version} " in (ROOT / "deploy/Dockerfile").read_text()


def test_release_is_named_as_istio_names_its_own():
    assert one(chart(), "Service")["metadata"]["name"] == RELEASE
