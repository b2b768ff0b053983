"""The east-west gateway of a cluster: eastgate as deploy/gateway.yaml runs it, or Istio's own by injection."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from .kubectl import Kubectl, named
from .objects import image
from .settings import ROOT, Cluster
from .shell import wait_for
from .sidecars import annotations

Object = dict[str, Any]
MANIFEST = ROOT / "deploy/gateway.yaml"
NAMESPACE = "gateway"
NAME = "istio-eastwestgateway"
STOCK_NAME = "stock-gateway"
WAIT_FOLDER = "/var/lib/wait"
RENDERED = "/etc/istio/proxy/envoy-rev.json"
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


def injected(cluster: Cluster) -> list[Object]:
    """Istio's own pod, in which pilot-agent starts eastgate: chosen by the annotation that chooses it as sidecar."""
    objects = stock(cluster)
    template = named(objects, "Deployment", NAME)["spec"]["template"]
    template["metadata"]["annotations"].update(annotations("eastgate"))
    # As Istio's chart has it: the agent drains for five seconds before it ends the proxy.
    template["spec"]["terminationGracePeriodSeconds"] = 30
    return objects


def with_bootstrap(cluster: Cluster) -> list[Object]:
    """eastgate beside pilot-agent: node, credentials and secrets come from what that renders and serves.

    The pod is that of Istio's injection. In Envoy's place pilot-agent starts a script that waits.
    """
    objects = stock(cluster)
    template = named(objects, "Deployment", NAME)["spec"]["template"]
    template["metadata"]["annotations"]["proxy.istio.io/config"] = (
        # The second moves the agent's container before ours.
        f"binaryPath: {WAIT_FOLDER}/wait\nholdApplicationUntilProxyStarts: true\n"
    )
    pod = template["spec"]
    (agent,) = pod["containers"]
    # The next container starts when this hook is done. The probe is merged with the one of the injection.
    ready = ["bash", "-c", f"until [ -s {RENDERED} ]; do sleep 0.1; done"]
    agent["lifecycle"] = {"postStart": {"exec": {"command": ready}}}
    agent["readinessProbe"] = {"httpGet": {"path": "/ready", "port": 15021}}
    agent["volumeMounts"] = [{"name": "wait", "mountPath": WAIT_FOLDER}]
    sockets = {"istio-envoy": "/etc/istio/proxy", "workload-socket": "/var/run/secrets/workload-spiffe-uds"}
    # A Deployment is checked before the injection, which brings the same two.
    volumes: list[Object] = [{"name": name, "emptyDir": {}} for name in sockets]
    pod["volumes"] = [{"name": "wait", "configMap": {"name": "wait", "defaultMode": 0o755}}, *volumes]
    (ours,) = named(eastgate(cluster), "Deployment", NAME)["spec"]["template"]["spec"]["containers"]
    kept = {name: ours[name] for name in ("name", "image", "imagePullPolicy", "resources", "securityContext")}
    flags = [f"--bootstrap={RENDERED}", "--status=0.0.0.0:15021", f"--drain-time={DRAIN_S}"]
    mounts = [{"name": volume, "mountPath": path} for volume, path in sockets.items()]
    pod["containers"].append({**kept, "args": ["gateway", *flags], "volumeMounts": mounts})
    script = {"wait": "#!/bin/bash\nexec sleep infinity\n"}
    metadata = {"name": "wait", "namespace": NAMESPACE}
    return [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": script}, *objects]


@contextmanager
def stock_beside(kubectl: Kubectl, cluster: Cluster) -> Iterator[None]:
    """A stock gateway next to the cluster's own, under another name, so that the Service does not send it traffic."""
    deployment = named(stock(cluster), "Deployment", NAME)
    deployment["metadata"]["name"] = STOCK_NAME
    deployment["spec"]["selector"]["matchLabels"]["app"] = STOCK_NAME
    deployment["spec"]["template"]["metadata"]["labels"]["app"] = STOCK_NAME
    kubectl.apply(deployment)
    try:
        kubectl.wait_rolled_out(NAMESPACE, STOCK_NAME)
        yield
    finally:
        kubectl.delete(NAMESPACE, "deployment", STOCK_NAME)


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
