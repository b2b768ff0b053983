"""The lab runs the manifest that operators get, and changes names, image and drain time only."""

import yaml

from lab import gateways, sidecars
from lab.kubectl import named
from lab.settings import ANTHOS

SHIPPED = [one for one in yaml.safe_load_all(gateways.MANIFEST.read_text()) if one]


def container(objects: list[dict]) -> dict:
    (one,) = named(objects, "Deployment", gateways.NAME)["spec"]["template"]["spec"]["containers"]
    return one


def test_lab_changes_names_image_and_drain_time_only() -> None:
    objects = gateways.eastgate(ANTHOS)
    assert named(objects, "ConfigMap", gateways.NAME)["data"] == {
        "EASTGATE_CLUSTER_ID": "anthos",
        "EASTGATE_NETWORK": "default",
    }
    ours, theirs = container(objects), container(SHIPPED)
    changed = {key for key in ours if ours[key] != theirs.get(key)}
    assert changed == {"image", "imagePullPolicy", "args"}
    assert {word for word in theirs["args"] if word not in ours["args"]} == {"--drain-time=25"}


def test_a_pod_has_time_for_the_whole_drain() -> None:
    """Once for accepting, once for open connections; then kubelet kills."""
    pod = named(SHIPPED, "Deployment", gateways.NAME)["spec"]["template"]["spec"]
    (drain,) = (
        float(word.partition("=")[2]) for word in container(SHIPPED)["args"] if word.startswith("--drain-time=")
    )
    assert pod["terminationGracePeriodSeconds"] > 2 * drain


def test_both_proxies_stand_behind_the_same_service() -> None:
    ours, stock = gateways.objects_of(ANTHOS, "eastgate"), gateways.objects_of(ANTHOS, "stock")
    for kind, name in (("Service", gateways.NAME), ("Gateway", "cross-network-gateway")):
        assert named(ours, kind, name) == named(stock, kind, name)
    selector = named(ours, "Service", gateways.NAME)["spec"]["selector"].items()
    for objects in (ours, stock):
        labels = named(objects, "Deployment", gateways.NAME)["spec"]["template"]["metadata"]["labels"]
        assert selector <= labels.items()


def test_gateway_beside_pilot_agent_uses_its_files_and_sockets() -> None:
    objects = gateways.with_bootstrap(ANTHOS)
    template = named(objects, "Deployment", gateways.NAME)["spec"]["template"]
    agent, ours = template["spec"]["containers"]
    # Istio's injection knows its container by this name.
    assert (agent["name"], ours["name"]) == ("istio-proxy", "eastgate")
    assert ours["args"][:2] == ["gateway", f"--bootstrap={gateways.RENDERED}"]
    assert not any("discovery" in word or "token" in word for word in ours["args"])
    assert {one["name"] for one in ours["volumeMounts"]} == {"istio-envoy", "workload-socket"}
    script = named(objects, "ConfigMap", "wait")["data"]["wait"]
    assert script.startswith("#!/bin/bash\n")


def test_gateway_of_istios_template_differs_from_stock_by_what_chooses_it_alone() -> None:
    ours, stock = gateways.injected(ANTHOS), gateways.stock(ANTHOS)
    template, other = (named(objects, "Deployment", gateways.NAME)["spec"]["template"] for objects in (ours, stock))
    added = template["metadata"]["annotations"].items() - other["metadata"]["annotations"].items()
    assert dict(added) == sidecars.annotations("eastgate")
    assert template["spec"].pop("terminationGracePeriodSeconds") > other["spec"].pop("terminationGracePeriodSeconds")
    assert template["spec"] == other["spec"]
    assert [one for one in ours if one["kind"] != "Deployment"] == [one for one in stock if one["kind"] != "Deployment"]
