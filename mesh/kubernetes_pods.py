"""Pods, what makes them, and the nodes that they are on, as Kubernetes has them. Pure; knows no YAML and no files."""

from collections.abc import Sequence

from pydantic import Field, model_validator

from .families import one_of_each
from .kubernetes_part import Address, Meta, Read
from .placement import OF_DAEMONS, OF_HOST_NETWORK, Affinity, Taint, Toleration, tolerated

INJECT_LABEL = "sidecar.istio.io/inject"
REGION_KEYS = ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region")
ZONE_KEYS = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")
SUB_ZONE_KEY = "topology.istio.io/subzone"
MOST_REPLICAS = 100_000
"""Pods that a Deployment stands for: what no cluster has would fill the memory."""


class Condition(Read):
    """A condition of a status."""

    type: str
    status: str = ""
    last_transition_time: str = ""


class ContainerPort(Read):
    """A port of a container."""

    name: str = ""
    container_port: int = 0


class Container(Read):
    """A container; init containers that restart are sidecars, and have ports too."""

    ports: list[ContainerPort] = []


class PodSpec(Read):
    """spec of a pod, or of a template."""

    node_name: str = ""
    service_account_name: str = ""
    host_network: bool = False
    containers: list[Container] = []
    init_containers: list[Container] = []
    node_selector: dict[str, str] = {}
    affinity: Affinity = Affinity()
    tolerations: list[Toleration] = []

    @property
    def account(self) -> str:
        """The account that it runs as; none named is the namespace's own."""
        return self.service_account_name or "default"

    @property
    def named_ports(self) -> dict[str, int]:
        """Container ports that services may name."""
        containers = (*self.init_containers, *self.containers)
        return {port.name: port.container_port for one in containers for port in one.ports if port.name}


class PodIp(Read):
    """An address of a pod."""

    ip: Address = ""


class PodStatus(Read):
    """status of a pod; in a dual-stack cluster podIPs are one of each family, the first of them podIP."""

    pod_ip: Address = Field(default="", alias="podIP")
    pod_ips: list[PodIp] = Field(default=[], alias="podIPs")
    phase: str = ""
    conditions: list[Condition] = []

    @property
    def addresses(self) -> list[str]:
        """All of them, the first one first; none while it has none."""
        return [one.ip for one in self.pod_ips if one.ip] or ([self.pod_ip] if self.pod_ip else [])

    @model_validator(mode="after")
    def _whole(self) -> "PodStatus":
        """As Kubernetes' ValidatePodStatusUpdate."""
        found = self.addresses
        if self.pod_ip and found[0] != self.pod_ip:
            raise ValueError(f"podIPs begin with {found[0]}, and podIP is {self.pod_ip}")
        one_of_each(found, "podIPs")
        return self


class Pod(Read):
    """A pod."""

    metadata: Meta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def is_member(self) -> bool:
        """Whether istiod may have it as an endpoint: it has an address of its own, and neither ended nor is ending."""
        over = self.status.phase in ("Succeeded", "Failed") or bool(self.metadata.deletion_timestamp)
        return bool(self.status.addresses) and not over

    @property
    def is_ready(self) -> bool:
        """Whether it is Ready."""
        return any(self._readiness())

    @property
    def ready_since(self) -> str:
        """When it became Ready; empty: it is not, or does not say it."""
        return next((one.last_transition_time for one in self._readiness()), "")

    def _readiness(self) -> list[Condition]:
        return [one for one in self.status.conditions if one.type == "Ready" and one.status == "True"]


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
    """A Deployment: pods that will be."""

    metadata: Meta
    spec: DeploymentSpec = DeploymentSpec()


class StatefulSet(Deployment):
    """A StatefulSet: pods that will be, and whose names are known."""


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

    def takes(self, asked: PodSpec, also: Sequence[Toleration] = ()) -> bool:
        """Whether Kubernetes may put a pod there. ``also``: what it tolerates beside its own word."""
        name, labels = self.metadata.name, self.metadata.labels
        return (
            asked.node_name in ("", name)
            and asked.node_selector.items() <= labels.items()
            and asked.affinity.allows(name, labels)
            and tolerated(self.spec.taints, (*asked.tolerations, *also))
        )

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
        """Whether a node gets a pod."""
        asked = self.spec.template.spec
        own = (*OF_DAEMONS, OF_HOST_NETWORK) if asked.host_network else OF_DAEMONS
        return node.takes(asked, own)
