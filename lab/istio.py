"""Istio on both clusters: multi-primary, multi-network, one root of trust, injection, remote secrets both ways."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from . import pki
from .kubectl import Kubectl
from .objects import namespace, secret
from .settings import CLUSTERS, HUB, MESH_ID, TAG, Cluster, Settings, other
from .shell import program, run

Object = dict[str, Any]
NAMESPACE = "istio-system"
PLAIN_PORT, TLS_PORT = 15010, 15012
"""Of istiod: ADS without and with TLS"""
ISTIOD = "pilot-discovery"
# A stock Envoy lacks istio.metadata_exchange, istio.alpn and istio.stats (without_metrics), and rejects their users.
PILOT_ENVIRONMENT = {"PILOT_ENABLE_METADATA_EXCHANGE": "false", "PILOT_ENABLE_ALPN_FILTER": "false"}
SMALL = {"requests": {"cpu": "10m", "memory": "64Mi"}}


def istiod_address(kubectl: Kubectl) -> str:
    """What istiod's name stands for in this cluster, before kube-proxy: the address that proxies dial."""
    return kubectl("-n", NAMESPACE, "get", "service", "istiod", "-o", "jsonpath={.spec.clusterIP}")


def plain_discovery(kubectl: Kubectl) -> str:
    """`address:port` of istiod's ADS in plain text, in the network of the cluster's node."""
    return f"{istiod_address(kubectl)}:{PLAIN_PORT}"


def operator(cluster: Cluster) -> Object:
    """What istioctl is asked for."""
    values = {
        "pilot": {"env": PILOT_ENVIRONMENT, "autoscaleEnabled": False, "resources": SMALL},
        "global": {
            "meshID": MESH_ID,
            "network": cluster.network,
            "imagePullPolicy": "Never",
            "multiCluster": {"clusterName": cluster.name},
            "proxy": {"resources": SMALL},
        },
    }
    return {
        "apiVersion": "install.istio.io/v1alpha1",
        "kind": "IstioOperator",
        "metadata": {"name": "istio", "namespace": NAMESPACE},
        "spec": {"profile": "minimal", "hub": HUB, "tag": TAG, "values": values},
    }


def without_metrics(objects: Iterable[Object]) -> Iterator[Object]:
    """The same objects; the mesh configuration asks for no istio.stats."""
    for one in objects:
        if one["kind"] == "ConfigMap" and one["metadata"]["name"] == "istio":
            mesh = yaml.safe_load(one["data"]["mesh"])
            mesh.pop("defaultProviders", None)
            one = {**one, "data": {**one["data"], "mesh": yaml.safe_dump(mesh)}}
        yield one


def rendered(settings: Settings, cluster: Cluster) -> list[Object]:
    """What `istioctl manifest generate` makes of it."""
    file = settings.folder(cluster) / "operator.yaml"
    file.write_text(yaml.safe_dump(operator(cluster)))
    text = run(program("istioctl", settings.binaries), "manifest", "generate", "-f", file).stdout
    return list(without_metrics(one for one in yaml.safe_load_all(text) if one))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def istioctl(settings: Settings, kubectl: Kubectl, *arguments: Any) -> str:
    """Standard output of istioctl in the node's network."""
    tool = program("istioctl", settings.binaries)
    return kubectl.node.in_network(tool, *arguments, f"--kubeconfig={kubectl.config}").stdout


def install(settings: Settings, clusters: Mapping[str, Kubectl]) -> None:
    """Install, and wait until both istiods are ready."""
    pki.write_mesh({name: kubectl.node.folder / "cacerts" for name, kubectl in clusters.items()})
    for name, kubectl in clusters.items():
        cluster = CLUSTERS[name]
        objects = rendered(settings, cluster)
        kubectl.apply(
            namespace(NAMESPACE, {"topology.istio.io/network": cluster.network}),
            secret("cacerts", NAMESPACE, files(kubectl.node.folder / "cacerts")),
        )
        kubectl.apply(*(one for one in objects if one["kind"] == "CustomResourceDefinition"))
        kubectl.apply(*(one for one in objects if one["kind"] != "CustomResourceDefinition"))
    for name, kubectl in clusters.items():
        text = istioctl(
            settings, kubectl, "create-remote-secret", f"--name={name}", f"--server={CLUSTERS[name].api_url}"
        )
        clusters[other(CLUSTERS[name]).name].apply(text)
    for kubectl in clusters.values():
        kubectl.wait_rolled_out(NAMESPACE, "istiod")
