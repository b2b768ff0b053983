"""Kubernetes objects as people have them, turned into the sections of a mesh file. Pure; knows no YAML and no files.

What is read of each: where pods are and what they are labelled, what services select, which networks and gateways
labels name, as istiod's Kubernetes registry reads it (pilot/pkg/serviceregistry/kube).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from eastgate.xds.whole_number import UINT32, whole_number
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel

NETWORK = "topology.istio.io/network"
GATEWAY_PORT = "networking.istio.io/gatewayPort"
INJECT_LABEL = "sidecar.istio.io/inject"
EXPORT_TO = "networking.istio.io/exportTo"
LISTENER_MODE = "gateway.istio.io/listener-protocol"
DISABLE_INJECTION = ("istio-injection", "disabled")
REGION_KEYS = ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region")
ZONE_KEYS = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")
SUB_ZONE_KEY = "topology.istio.io/subzone"
MTLS_PORT = 15443


class Read(BaseModel):
    """A part of a Kubernetes object, of which only what is named here is read."""

    model_config = ConfigDict(extra="ignore", alias_generator=to_camel, frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any, info: Any) -> Any:
        """Kubernetes writes null for what is empty."""
        if value is None:
            field = cls.model_fields[info.field_name]
            return field.get_default(call_default_factory=True) if not field.is_required() else value
        return value


class Meta(Read):
    """metadata."""

    name: str
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deletion_timestamp: str = ""


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


class PodSpec(Read):
    """spec of a pod, or of a template."""

    node_name: str = ""
    service_account_name: str = "default"
    host_network: bool = False
    containers: list[Container] = []
    init_containers: list[Container] = []
    node_selector: dict[str, str] = {}

    @property
    def named_ports(self) -> dict[str, int]:
        """Container ports that services may name."""
        containers = (*self.init_containers, *self.containers)
        return {port.name: port.container_port for one in containers for port in one.ports if port.name}


class PodStatus(Read):
    """status of a pod."""

    pod_ip: str = Field(default="", alias="podIP")
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

    metadata: TemplateMeta = TemplateMeta()
    spec: PodSpec = PodSpec()


class LabelSelector(Read):
    """selector of a Deployment; expressions are not read."""

    match_labels: dict[str, str] = {}


class DeploymentSpec(Read):
    """spec of a Deployment or StatefulSet."""

    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: Template = Template()


class Deployment(Read):
    """A Deployment or a StatefulSet: pods that will be."""

    metadata: Meta
    spec: DeploymentSpec = DeploymentSpec()


class Port(Read):
    """A port of a Service."""

    port: int = Field(ge=1, le=65535)
    name: str = ""
    target_port: int | str | None = None
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    app_protocol: str = ""


class ServiceSpec(Read):
    """spec of a Service."""

    type: str = "ClusterIP"
    cluster_ip: str = Field(default="", alias="clusterIP")
    ports: list[Port] = []
    selector: dict[str, str] = {}
    external_ips: list[str] = Field(default=[], alias="externalIPs")
    traffic_distribution: str = ""


class Ingress(Read):
    """An address of a load balancer."""

    ip: str = ""
    hostname: str = ""


class LoadBalancerStatus(Read):
    """What a cloud wrote."""

    ingress: list[Ingress] = []


class ServiceStatus(Read):
    """status of a Service."""

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()


class KubernetesService(Read):
    """A Service."""

    metadata: Meta
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()

    @property
    def outside_addresses(self) -> list[str]:
        """Where it is reached from outside of its cluster."""
        balanced = [one.ip or one.hostname for one in self.status.load_balancer.ingress]
        return [one for one in (*balanced, *self.spec.external_ips) if one]

    @property
    def is_headless(self) -> bool:
        """Without a virtual address: clients dial pods."""
        return self.spec.cluster_ip == "None"

    def gateway_port(self) -> int | None:
        """The port of a cross-network gateway that it is labelled as; None: it is none, or has no such port."""
        if not self.metadata.labels.get(NETWORK):
            return None
        said = whole_number(self.metadata.labels.get(GATEWAY_PORT, ""), UINT32)
        number = MTLS_PORT if said is None else said
        return number if any(one.port == number for one in self.spec.ports) else None


class NodeObject(Read):
    """A Node: where its pods are."""

    metadata: Meta

    def locality(self) -> dict[str, str]:
        """Region, zone and sub zone of its labels, the older names too."""
        labels = self.metadata.labels
        found = {
            "region": next((labels[key] for key in REGION_KEYS if labels.get(key)), ""),
            "zone": next((labels[key] for key in ZONE_KEYS if labels.get(key)), ""),
            "sub_zone": labels.get(SUB_ZONE_KEY, ""),
        }
        return {name: value for name, value in found.items() if value}


class Namespace(Read):
    """A Namespace."""

    metadata: Meta


class Target(Read):
    """What an endpoint address belongs to."""

    kind: str = ""
    name: str = ""


class SliceConditions(Read):
    """Conditions of an endpoint of a slice; a missing one is as good as true."""

    ready: bool = True
    terminating: bool = False


class SliceEndpoint(Read):
    """An endpoint of a slice."""

    addresses: list[str] = []
    conditions: SliceConditions = SliceConditions()
    node_name: str = ""
    target_ref: Target = Target()


class EndpointSlice(Read):
    """An EndpointSlice; the label says of which service."""

    metadata: Meta
    endpoints: list[SliceEndpoint] = []

    @property
    def service(self) -> str:
        """Name of its service, empty: of none."""
        return self.metadata.labels.get("kubernetes.io/service-name", "")


class EndpointAddress(Read):
    """An address of Endpoints."""

    ip: str
    node_name: str = ""
    target_ref: Target = Target()


class EndpointSubset(Read):
    """A part of Endpoints."""

    addresses: list[EndpointAddress] = []
    not_ready_addresses: list[EndpointAddress] = []


class Endpoints(Read):
    """Endpoints: the older form of slices, with the name of their service."""

    metadata: Meta
    subsets: list[EndpointSubset] = []

    def as_slice(self) -> EndpointSlice:
        """The same as a slice."""
        found = [
            SliceEndpoint.model_construct(
                addresses=[one.ip],
                conditions=SliceConditions(ready=ready),
                node_name=one.node_name,
                target_ref=one.target_ref,
            )
            for part in self.subsets
            for ready, addresses in ((True, part.addresses), (False, part.not_ready_addresses))
            for one in addresses
        ]
        labels = {"kubernetes.io/service-name": self.metadata.name}
        return EndpointSlice(metadata=self.metadata.model_copy(update={"labels": labels}), endpoints=found)


class ListenerTls(Read):
    """tls of a listener of the Gateway API."""

    mode: str = "Terminate"
    options: dict[str, str] = {}


class ApiListener(Read):
    """A listener of the Gateway API."""

    name: str = ""
    port: int = Field(ge=1, le=65535)
    hostname: str = ""
    tls: ListenerTls | None = None


class ApiAddress(Read):
    """An address of a Gateway."""

    type: str = "IPAddress"
    value: str = ""


class ApiGatewaySpec(Read):
    """spec of a Gateway API Gateway."""

    gateway_class_name: str = ""
    listeners: list[ApiListener] = []
    addresses: list[ApiAddress] = []


class ApiGatewayStatus(Read):
    """status of a Gateway API Gateway."""

    addresses: list[ApiAddress] = []


class ApiGateway(Read):
    """A Gateway of the Gateway API: a cross-network gateway when it is labelled with a network."""

    metadata: Meta
    spec: ApiGatewaySpec = ApiGatewaySpec()
    status: ApiGatewayStatus = ApiGatewayStatus()

    def passthrough(self) -> list[ApiListener]:
        """Listeners that route by the names of SNI-DNAT clusters (istiod's IsAutoPassthrough)."""
        labels = self.metadata.labels
        wanted = str(labels.get(GATEWAY_PORT) or MTLS_PORT)
        return [
            one
            for one in self.spec.listeners
            if one.tls
            and (
                one.tls.options.get(LISTENER_MODE) == "auto-passthrough"
                or (NETWORK in labels and str(one.port) == wanted)
            )
        ]

    def ways(self) -> Iterator[tuple[str, int]]:
        """Addresses and ports through which its network is entered."""
        addresses = self.spec.addresses or self.status.addresses
        if self.metadata.labels.get(NETWORK):
            for one in addresses:
                yield from ((one.value, listener.port) for listener in self.passthrough() if one.value)


KINDS: Mapping[tuple[str, str], type[Read]] = {
    ("", "Pod"): Pod,
    ("", "Service"): KubernetesService,
    ("", "Endpoints"): Endpoints,
    ("", "Node"): NodeObject,
    ("", "Namespace"): Namespace,
    ("discovery.k8s.io", "EndpointSlice"): EndpointSlice,
    ("apps", "Deployment"): Deployment,
    ("apps", "StatefulSet"): Deployment,
    ("gateway.networking.k8s.io", "Gateway"): ApiGateway,
}
"""What is read, by API group and kind."""


def group_of(api_version: object) -> str:
    """API group of an apiVersion; the core group is empty."""
    group, slash, _ = str(api_version or "").partition("/")
    return group if slash else ""


def traffic_distribution(service: KubernetesService) -> str:
    """trafficDistribution, of its spec or of Istio's annotation."""
    return service.spec.traffic_distribution or service.metadata.annotations.get(
        "networking.istio.io/traffic-distribution", ""
    )
