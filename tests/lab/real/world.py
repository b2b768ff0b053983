"""The small world that a set of rules is tried in: two namespaces, services and pods in both clusters, and who asks.

Pods are objects only: their nodes do not run, and so nobody starts them. Each set has namespaces and addresses of its
own, so that all of them stand side by side.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lab.ads import Proxy
from lab.settings import CLUSTERS

from .rules import Object

FOLDER = Path(__file__).parent / "sets"
NETWORK = "topology.istio.io/network"
HOSTNAME = "kubernetes.io/hostname"
TLS_MODE = "security.istio.io/tlsMode"
# Localities of the nodes that do not run.
NODES = {
    "gke": {"a": ("r1", "z1", "s1"), "b": ("r1", "z1", "s2"), "c": ("r1", "z2", "")},
    "anthos": {"a": ("r2", "z1", ""), "b": ("r2", "z2", ""), "c": ("r3", "z1", "")},
}
HOME = ("r1", "z1", "s1")
# Name, node and labels of the pods behind `web`, unless a set has others.
PODS = {
    "gke": [("web-1", "a", {"version": "v1"}), ("web-2", "b", {"version": "v2"}), ("web-3", "c", {"version": "v1"})],
    "anthos": [("web-1", "a", {"version": "v1"}), ("web-2", "b", {"version": "v2"}), ("web-3", "c", {"version": "v2"})],
}
PORTS = [{"name": "tcp-web", "port": 80, "targetPort": 8080}, {"name": "tcp-more", "port": 81, "targetPort": 8081}]
# Where the second octets of pods' addresses stand that no real pod has.
POD_RANGE = {"gke": "10.25", "anthos": "10.11"}
EVERYWHERE = {"operator": "Exists"}


@dataclass(frozen=True, slots=True)
class RuleSet:
    """One set: what is applied, and whether istiod's validation refuses it.

    ``objects``: in both clusters; ``only``: in one. ``pods``, ``services``: in the place of the usual ones. ``node``:
    where its clients say that they run, empty: they do not say it. ``networks``: istiod is asked once more with these
    meshNetworks.
    ``differs``: what is known to be otherwise, and stands in docs/mesh-vs-istiod.md.
    """

    number: int
    name: str
    objects: list[Object] = field(default_factory=list)
    only: Mapping[str, list[Object]] = field(default_factory=dict)
    pods: Mapping[str, list[Object]] = field(default_factory=dict)
    services: list[Object] = field(default_factory=list)
    node: str = ""
    networks: Object = field(default_factory=dict)
    refused: bool = False
    differs: str = ""

    @property
    def shop(self) -> str:
        """Namespace of the services."""
        return f"s{self.number:03}-shop"

    @property
    def away(self) -> str:
        """Another namespace with clients."""
        return f"s{self.number:03}-away"

    @property
    def client_labels(self) -> dict[str, str]:
        """Labels of its clients."""
        return {"app": "client", **({HOSTNAME: self.node} if self.node else {})}

    def filled(self, value: Any, cluster: str = "") -> Any:
        """A part of the set with its own namespaces in it, and for a cluster with the range of its pods there."""
        text = yaml.safe_dump(value).replace("$shop", self.shop).replace("$away", self.away)
        if cluster:
            text = text.replace("$pods", f"{POD_RANGE[cluster]}.{self.number}")
        return yaml.safe_load(text.replace("$id", f"s{self.number:03}"))


def read_sets() -> list[RuleSet]:
    """All sets of the folder, numbered as they stand there."""
    found: list[RuleSet] = []
    for file in sorted(FOLDER.glob("*.yaml")):
        for one in yaml.safe_load_all(file.read_text()):
            found.append(RuleSet(number=len(found) + 1, **one))
    return found


def nodes(cluster: str) -> Iterator[Object]:
    """Nodes that do not run; the scheduler puts nothing there."""
    for name, (region, zone, sub_zone) in NODES[cluster].items():
        labels = {"topology.kubernetes.io/region": region, "topology.kubernetes.io/zone": zone}
        if sub_zone:
            labels["topology.istio.io/subzone"] = sub_zone
        yield {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"none-{name}", "labels": labels},
            "spec": {"unschedulable": True},
        }


def namespaces(one: RuleSet) -> Iterator[Object]:
    for name in (one.shop, one.away):
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"eastgate/set": "1"}}}
        yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}}


def services(one: RuleSet) -> Iterator[Object]:
    usual = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": PORTS},
        }
    ]
    for service in one.filled(one.services) or usual:
        yield {**service, "metadata": {"namespace": one.shop, **service["metadata"]}}


def pods(one: RuleSet, cluster: str) -> list[Object]:
    """Pods with everything that istiod reads, their status as well."""
    usual = [{"name": name, "node": node, "labels": labels} for name, node, labels in PODS[cluster]]
    made = []
    for index, pod in enumerate(one.filled(one.pods.get(cluster, usual)), 1):
        labels = {"app": "web", TLS_MODE: "istio", **pod.get("labels", {})}
        address = f"{POD_RANGE[cluster]}.{one.number}.{index}"
        ready = "True" if pod.get("ready", True) else "False"
        made.append(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": pod["name"],
                    "namespace": pod.get("namespace", one.shop),
                    "labels": {key: value for key, value in labels.items() if value},
                },
                "spec": {
                    "nodeName": f"none-{pod['node']}",
                    "tolerations": [EVERYWHERE],
                    "automountServiceAccountToken": False,
                    "containers": [{"name": "web", "image": "none", "ports": pod.get("ports", [])}],
                },
                "status": {
                    "phase": "Running",
                    "podIP": address,
                    "podIPs": [{"ip": address}],
                    "conditions": [{"type": "Ready", "status": ready}],
                },
            }
        )
    return made


def rules(one: RuleSet, cluster: str) -> list[Object]:
    """Istio's resources of the set, as validated ones."""
    found = [*one.filled(one.objects), *one.filled(one.only.get(cluster, []), cluster)]
    for rule in found:
        meta = rule["metadata"]
        meta.setdefault("namespace", one.shop)
        # The webhook looks at objects of its revision only.
        meta["labels"] = {**meta.get("labels", {}), "istio.io/rev": "default"}
    return found


def client(cluster: str, namespace: str, labels: Mapping[str, str], number: int, part: str = "") -> Proxy:
    """A sidecar without a pod: it says itself where it is."""
    metadata: Object = {
        "CLUSTER_ID": cluster,
        "NETWORK": CLUSTERS[cluster].network,
        "NAMESPACE": namespace,
        "LABELS": dict(labels),
    }
    if HOSTNAME in labels:
        metadata["NODE_NAME"] = labels[HOSTNAME]
    where = HOME if cluster == "gke" else NODES[cluster]["a"]
    name = f"sidecar~10.99.{number // 250}.{number % 250 + 1}~client.{namespace}~{namespace}.svc.cluster.local"
    return Proxy(name, metadata, where, part)


def router(cluster: str, namespace: str) -> Proxy:
    """An east-west gateway in a namespace."""
    network = CLUSTERS[cluster].network
    metadata = {
        "CLUSTER_ID": cluster,
        "NETWORK": network,
        "REQUESTED_NETWORK_VIEW": network,
        "NAMESPACE": namespace,
        "LABELS": {"istio": "eastwestgateway", NETWORK: network},
    }
    return Proxy(f"router~10.98.0.1~gw.{namespace}~{namespace}.svc.cluster.local", metadata, NODES[cluster]["a"])
