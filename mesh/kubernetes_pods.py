"""Pods, what makes them, and the nodes that they are on, as Kubernetes has them. Pure; knows no YAML and no files."""

from pydantic import Field

from .kubernetes_part import Address, Meta, Read

INJECT_LABEL = "sidecar.istio.io/inject"
REGION_KEYS = ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region")
ZONE_KEYS = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")
SUB_ZONE_KEY = "topology.istio.io/subzone"
MOST_REPLICAS = 100_000
"""Pods that a Deployment stands for: what no cluster has would fill the memory."""
HINDERING = ("NoSchedule", "NoExecute")
# Taints of a node's state, which every DaemonSet tolerates.
OF_STATE = "node.kubernetes.io/"


class Condition(Read):
    """A condition of a status."""

    type: str
    status: str = ""


class ContainerPort(Read):
    """A port of a container."""

    name: str = ""
    container_port: int = 0


class Container(Read):
    """A container; init containers that restart are sidecars, and have ports too."""

    ports: list[ContainerPort] = []


class Taint(Read):
    """A taint of a node."""

    key: str = ""
    value: str = ""
    effect: str = ""


class Toleration(Read):
    """A toleration of a pod; without a key it is one of everything, without an effect of all effects."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def takes(self, taint: Taint) -> bool:
        """Whether its pods may be where the taint is."""
        named = self.key == taint.key and (self.operator == "Exists" or self.value == taint.value)
        everything = not self.key and self.operator == "Exists"
        return (named or everything) and self.effect in ("", taint.effect)


class PodSpec(Read):
    """spec of a pod, or of a template."""

    node_name: str = ""
    service_account_name: str = "default"
    host_network: bool = False
    containers: list[Container] = []
    init_containers: list[Container] = []
    node_selector: dict[str, str] = {}
    tolerations: list[Toleration] = []

    @property
    def named_ports(self) -> dict[str, int]:
        """Container ports that services may name."""
        containers = (*self.init_containers, *self.containers)
        return {port.name: port.container_port for one in containers for port in one.ports if port.name}


class PodStatus(Read):
    """status of a pod."""

    pod_ip: Address = Field(default="", alias="podIP")
    phase: str = ""
    conditions: list[Condition] = []


class Pod(Read):
    """A pod."""

    metadata: Meta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def is_member(self) -> bool:
        """Whether istiod may have it as an endpoint: it has an address of its own, and neither ended nor is ending."""
        over = self.status.phase in ("Succeeded", "Failed") or bool(self.metadata.deletion_timestamp)
        return bool(self.status.pod_ip) and not over

    @property
    def is_ready(self) -> bool:
        """Whether it is Ready."""
        return any(one.type == "Ready" and one.status == "True" for one in self.status.conditions)


class Template(Read):
    """Pod template; its metadata has no name."""

    class TemplateMeta(Read):
        """metadata of a template."""

        labels: dict[str, str] = {}
        annotations: dict[str, str] = {}

    metadata: TemplateMeta = TemplateMeta()
    spec: PodSpec = PodSpec()

    def is_injected(self, *, by_namespace: bool) -> bool:
        """Whether its pods get a sidecar: never in a host's network; else the label's word, the older annotation's."""
        if self.spec.host_network:
            return False
        own = self.metadata
        asked = own.labels.get(INJECT_LABEL) or own.annotations.get(INJECT_LABEL, "")
        return asked == "true" or (asked != "false" and (by_namespace or "istio.io/rev" in own.labels))


class LabelSelector(Read):
    """selector of a Deployment; expressions are not read."""

    match_labels: dict[str, str] = {}


class DeploymentSpec(Read):
    """spec of a Deployment or StatefulSet."""

    replicas: int = Field(default=1, ge=0, le=MOST_REPLICAS)
    selector: LabelSelector = LabelSelector()
    template: Template = Template()


class Deployment(Read):
    """A Deployment or a StatefulSet: pods that will be."""

    metadata: Meta
    spec: DeploymentSpec = DeploymentSpec()


class NodeSpec(Read):
    """spec of a Node."""

    taints: list[Taint] = []


class NodeAddress(Read):
    """An address of a Node."""

    type: str = ""
    address: str = ""


class NodeStatus(Read):
    """status of a Node."""

    addresses: list[NodeAddress] = []


class NodeObject(Read):
    """A Node: where its pods are."""

    metadata: Meta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def external_ip(self) -> str:
        """Its first address outside; istiod takes no other."""
        return next((one.address for one in self.status.addresses if one.type == "ExternalIP" and one.address), "")

    def locality(self) -> dict[str, str]:
        """Region, zone and sub zone of its labels, the older names too."""
        labels = self.metadata.labels
        found = {
            "region": next((labels[key] for key in REGION_KEYS if labels.get(key)), ""),
            "zone": next((labels[key] for key in ZONE_KEYS if labels.get(key)), ""),
            "sub_zone": labels.get(SUB_ZONE_KEY, ""),
        }
        return {name: value for name, value in found.items() if value}


class DaemonSetSpec(Read):
    """spec of a DaemonSet."""

    selector: LabelSelector = LabelSelector()
    template: Template = Template()


class DaemonSet(Read):
    """A DaemonSet: a pod on each node that it may be on."""

    metadata: Meta
    spec: DaemonSetSpec = DaemonSetSpec()

    def is_on(self, node: NodeObject) -> bool:
        """Whether a node gets a pod; what Kubernetes says of a node's state keeps none of them away."""
        asked = self.spec.template.spec
        barred = [one for one in node.spec.taints if one.effect in HINDERING and not one.key.startswith(OF_STATE)]
        tolerated = all(any(word.takes(one) for word in asked.tolerations) for one in barred)
        return tolerated and asked.node_selector.items() <= node.metadata.labels.items()
