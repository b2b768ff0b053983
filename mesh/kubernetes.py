"""Kubernetes objects as people have them, turned into the sections of a mesh file. Pure; knows no YAML and no files.

What is read of each: where pods are and what they are labelled, what services select, which networks and gateways
labels name, as istiod's Kubernetes registry reads it (pilot/pkg/serviceregistry/kube).
"""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from eastgate.xds.whole_number import UINT32, whole_number
from pydantic import AfterValidator, Field, model_validator

from .families import Family, family_of, one_of_each
from .kubernetes_part import Address, Meta, Read, checked_address
from .kubernetes_pods import DaemonSet, Deployment, NodeObject, Pod, StatefulSet

NETWORK = "topology.istio.io/network"
GATEWAY_PORT = "networking.istio.io/gatewayPort"
EXPORT_TO = "networking.istio.io/exportTo"
LISTENER_MODE = "gateway.istio.io/listener-protocol"
NODE_SELECTOR = "traffic.istio.io/nodeSelector"
NODE_PORT = "NodePort"
FAMILIES: tuple[Family, ...] = ("IPv4", "IPv6")
DISABLE_INJECTION = ("istio-injection", "disabled")
MTLS_PORT = 15443


NONE = "None"


def _cluster_ip(text: str) -> str:
    return text if text == NONE else checked_address(text)


ClusterIp = Annotated[str, AfterValidator(_cluster_ip)]


class Port(Read):
    """A port of a Service."""

    port: int = Field(ge=1, le=65535)
    name: str = ""
    target_port: int | str | None = None
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    app_protocol: str = ""
    node_port: int = 0


class ServiceSpec(Read):
    """spec of a Service."""

    type: str = "ClusterIP"
    cluster_ip: ClusterIp = Field(default="", alias="clusterIP")
    cluster_ips: list[ClusterIp] = Field(default=[], alias="clusterIPs")
    ip_families: list[Family] = []
    ip_family_policy: Literal["", "SingleStack", "PreferDualStack", "RequireDualStack"] = ""
    ports: list[Port] = []
    selector: dict[str, str] = {}
    external_ips: list[str] = Field(default=[], alias="externalIPs")
    traffic_distribution: str = ""
    internal_traffic_policy: str = ""
    publish_not_ready_addresses: bool = False

    @property
    def addresses(self) -> list[str]:
        """Its virtual addresses, "None" for a headless one; empty: it has none yet."""
        return [one for one in self.cluster_ips if one] or ([self.cluster_ip] if self.cluster_ip else [])

    @property
    def families(self) -> tuple[Family, ...]:
        """Families that it is to have; where it asks for both without a word which is first, IPv4 is."""
        if self.ip_family_policy == "RequireDualStack" and len(self.ip_families) < len(FAMILIES):
            return (*self.ip_families, *(one for one in FAMILIES if one not in self.ip_families))
        return tuple(self.ip_families)

    @model_validator(mode="after")
    def _whole(self) -> "ServiceSpec":
        """As Kubernetes' ValidateServiceClusterIPsRelatedFields, for what is read here."""
        found, families = self.addresses, self.ip_families
        if self.cluster_ip and found[0] != self.cluster_ip:
            raise ValueError(f"clusterIPs begin with {found[0]}, and clusterIP is {self.cluster_ip}")
        if NONE in found and len(found) > 1:
            raise ValueError("clusterIPs have None beside an address: a headless service has None alone")
        one_of_each([one for one in found if one != NONE], "clusterIPs")
        if len(set(families)) != len(families):
            raise ValueError(f"ipFamilies name {families[0]} twice")
        for address, family in zip(found, families, strict=False):
            if address not in (NONE, "") and family_of(address) != family:
                raise ValueError(f"clusterIPs have {address} where ipFamilies have {family}")
        if self.ip_family_policy == "SingleStack" and max(len(found), len(families)) > 1:
            raise ValueError("ipFamilyPolicy is SingleStack, and there are two families")
        return self


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
        return self.spec.addresses == [NONE]

    @property
    def is_on_nodes(self) -> bool:
        """Whether it is reached at ports of nodes, which an annotation chooses."""
        return self.spec.type == NODE_PORT and NODE_SELECTOR in self.metadata.annotations

    def nodes_wanted(self) -> Mapping[str, str]:
        """Labels of these nodes; what is no JSON chooses all, as istiod has it."""
        try:
            found = json.loads(self.metadata.annotations.get(NODE_SELECTOR) or "{}")
        except ValueError:
            return {}
        texts = isinstance(found, dict) and all(isinstance(one, str) for one in found.values())
        return found if texts else {}

    def outside_port(self, number: int) -> int:
        """Where one of its ports is reached from outside; 0: no node port is known."""
        if not self.is_on_nodes:
            return number
        return next((one.node_port for one in self.spec.ports if one.port == number), number)

    def gateway_port(self) -> int | None:
        """The port of a cross-network gateway that it is labelled as; None: it is none, or has no such port."""
        if not self.metadata.labels.get(NETWORK):
            return None
        said = whole_number(self.metadata.labels.get(GATEWAY_PORT, ""), UINT32)
        number = MTLS_PORT if said is None else said
        return number if any(one.port == number for one in self.spec.ports) else None


class Namespace(Read):
    """A Namespace."""

    metadata: Meta


class Target(Read):
    """What an endpoint address belongs to."""

    kind: str = ""
    name: str = ""


class SliceConditions(Read):
    """Conditions of an endpoint of a slice; a missing one is as good as true, as istiod has it."""

    ready: bool = True
    terminating: bool = True

    @property
    def is_member(self) -> bool:
        """Whether istiod takes it as an endpoint: it is ready, or not about to end."""
        return self.ready or not self.terminating


class SliceEndpoint(Read):
    """An endpoint of a slice."""

    addresses: list[str] = []
    conditions: SliceConditions = SliceConditions()
    node_name: str = ""
    target_ref: Target = Target()


class SlicePort(Read):
    """A port of a slice; its name is that of the service's port."""

    name: str = ""
    port: int = 0


class EndpointSlice(Read):
    """An EndpointSlice; the label says of which service. Of addresses that are names istiod takes no notice."""

    metadata: Meta
    address_type: Literal["IPv4", "IPv6", "FQDN"] = "IPv4"
    ports: list[SlicePort] = []
    endpoints: list[SliceEndpoint] = []

    @model_validator(mode="after")
    def _addresses(self) -> "EndpointSlice":
        for one in self.endpoints if self.address_type != "FQDN" else ():
            for text in one.addresses:
                checked_address(text)
                if family_of(text) != self.address_type:
                    raise ValueError(f"{text} in a slice of addressType {self.address_type}")
        return self

    @property
    def service(self) -> str:
        """Name of its service, empty: of none."""
        return self.metadata.labels.get("kubernetes.io/service-name", "")


class EndpointAddress(Read):
    """An address of Endpoints."""

    ip: Address
    node_name: str = ""
    target_ref: Target = Target()


class EndpointSubset(Read):
    """A part of Endpoints."""

    addresses: list[EndpointAddress] = []
    not_ready_addresses: list[EndpointAddress] = []
    ports: list[SlicePort] = []


class Endpoints(Read):
    """Endpoints: the older form of slices, with the name of their service."""

    metadata: Meta
    subsets: list[EndpointSubset] = []

    def as_slices(self) -> Iterator[EndpointSlice]:
        """The same as slices. Kubernetes copies what a controller wrote without a word about ending."""
        labels = {"kubernetes.io/service-name": self.metadata.name}
        metadata = self.metadata.model_copy(update={"labels": labels})
        for part, family in ((part, family) for part in self.subsets for family in FAMILIES):
            found = [
                SliceEndpoint.model_construct(
                    addresses=[one.ip],
                    conditions=SliceConditions(ready=ready),
                    node_name=one.node_name,
                    target_ref=one.target_ref,
                )
                for ready, addresses in ((True, part.addresses), (False, part.not_ready_addresses))
                for one in addresses
                if family_of(one.ip) == family
            ]
            if found or family == "IPv4":
                yield EndpointSlice.model_construct(
                    metadata=metadata, address_type=family, ports=part.ports, endpoints=found
                )


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
    ("apps", "StatefulSet"): StatefulSet,
    ("apps", "DaemonSet"): DaemonSet,
    ("gateway.networking.k8s.io", "Gateway"): ApiGateway,
}
"""What is read, by API group and kind."""


def group_of(api_version: object) -> str:
    """API group of an apiVersion; the core group is empty."""
    group, slash, _ = str(api_version or "").partition("/")
    return group if slash else ""


TRAFFIC_DISTRIBUTION = "networking.istio.io/traffic-distribution"
DISTRIBUTIONS = {one.lower(): one for one in ("PreferClose", "PreferSameZone", "PreferSameNode")}


def traffic_distribution(service: KubernetesService, namespace: Mapping[str, str]) -> str:
    """trafficDistribution of the spec, else of Istio's annotation, of the service before that of its namespace.

    An annotation that is no word for it is one for none at all (GetTrafficDistribution in pilot/pkg/model/service.go).
    """
    said = service.spec.traffic_distribution
    if said in DISTRIBUTIONS.values():
        return said
    for annotations in (service.metadata.annotations, namespace):
        if text := annotations.get(TRAFFIC_DISTRIBUTION, ""):
            return DISTRIBUTIONS.get(text.lower(), "")
    return ""
