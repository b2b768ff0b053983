"""The east-west gateway of a cluster: eastgate as deploy/gateway.yaml runs it, or Istio's own by injection."""

from typing import Any

import yaml

from .kubectl import Kubectl, named
from .objects import image
from .settings import ROOT, Cluster
from .shell import wait_for

Object = dict[str, Any]
MANIFEST = ROOT / "deploy/gateway.yaml"
NAMESPACE = "gateway"
NAME = "istio-eastwestgateway"
LABELS = {"app": NAME}
# Shorter than an operator would want, so that a test need not wait.
DRAIN_S = 4
SMALL = {"requests": {"cpu": "100m", "memory": "64Mi"}}


def eastgate(cluster: Cluster) -> list[Object]:
    """The manifest that operators get, with this cluster's names and the lab's image."""
    objects = [one for one in yaml.safe_load_all(MANIFEST.read_text()) if one]
    named(objects, "ConfigMap", NAME)["data"] = {
        "EASTGATE_CLUSTER_ID": cluster.name,
        "EASTGATE_NETWORK": cluster.network,
    }
    named(objects, "Service", NAME)["metadata"]["labels"]["topology.istio.io/network"] = cluster.network
    pod = named(objects, "Deployment", NAME)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    container.update(image=image("eastgate"), imagePullPolicy="Never")
    container["args"] = [
        f"--drain-time={DRAIN_S}" if word.startswith("--drain-time=") else word for word in container["args"]
    ]
    container["args"].append("--access-log=-")
    return objects


def stock(cluster: Cluster) -> list[Object]:
    """The same Service and Gateway; the pod is what Istio's injection makes of a gateway."""
    objects = eastgate(cluster)
    deployment = named(objects, "Deployment", NAME)
    template = deployment["spec"]["template"]
    template["metadata"] = {
        "labels": {
            **deployment["metadata"]["labels"],
            "sidecar.istio.io/inject": "true",
            "topology.istio.io/network": cluster.network,
        },
        "annotations": {"inject.istio.io/templates": "gateway"},
    }
    # `image: auto` would be pulled always: that default comes before the webhook.
    container = {
        "name": "istio-proxy",
        "image": "auto",
        "imagePullPolicy": "Never",
        "resources": SMALL,
        "env": [{"name": "ISTIO_META_REQUESTED_NETWORK_VIEW", "value": cluster.network}],
    }
    template["spec"] = {
        "serviceAccountName": NAME,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {"runAsUser": 1337, "runAsGroup": 1337, "runAsNonRoot": True},
        "containers": [container],
    }
    return [one for one in objects if one["kind"] != "ConfigMap"]


def objects_of(cluster: Cluster, proxy: str) -> list[Object]:
    return eastgate(cluster) if proxy == "eastgate" else stock(cluster)


def apply(kubectl: Kubectl, cluster: Cluster, proxy: str) -> None:
    """Run this proxy as the gateway, and give it its address."""
    objects = objects_of(cluster, proxy)

    def accepted() -> bool:
        kubectl.apply(*objects)
        return True

    # istiod's webhook checks the Gateway resource, and is there a moment after istiod.
    wait_for(f"{cluster.name} webhook", accepted)
    kubectl.expose(NAMESPACE, NAME, cluster.gateway_ip)
