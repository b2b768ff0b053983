"""Sections of a mesh file that are ours, with their defaults. Istio's own resources stand in istio.py."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from .families import Family, one_of_each, plain_address
from .istio import MeshConfig, MeshNetworks
from .part import Percent, Port

NAME = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"
Name = Annotated[str, Field(pattern=NAME, max_length=253)]
# As people name them, istiod's own default "Kubernetes" among it.
ClusterName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", max_length=253)]


Address = Annotated[str, AfterValidator(plain_address)]


def _of_both(found: list[str]) -> list[str]:
    one_of_each(found, "addresses")
    return found


Addresses = Annotated[
    list[Address],
    BeforeValidator(lambda given: given if isinstance(given, list) else [given]),
    Field(min_length=1),
    AfterValidator(_of_both),
]
"""One address, or one of each family."""


class Section(BaseModel):
    """A part of the file: an unknown key is an error, because it is a typing mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class OptionsSection(Section):
    """How the istiods are set up."""

    send_unhealthy_endpoints: bool = True
    min_health_percent: Percent = 0
    metadata_exchange: bool = True
    metadata_exchange_alpn: bool = True
    alpn_filter: bool = True
    resolve_hostname_gateways: bool = True
    istio_dual_stack: bool | None = None


class NodeSection(Section):
    """A Kubernetes node: where its pods are."""

    region: str = ""
    zone: str = ""
    sub_zone: str = ""


class GatewaySection(Section):
    """A way into a cluster's network from outside. ``network``: another one than the cluster's."""

    address: str = Field(min_length=1)
    port: Port = 15443
    network: str = ""


class WorkloadSection(Section):
    """A pod. Without an address it gets one when a trial starts it; ``additional_addresses``: of the other family.

    ``ready_since``: when it became ready, a text that sorts. ``invented_name``: Kubernetes will give it another one.
    """

    name: Name
    namespace: Name = "default"
    address: Address | None = None
    additional_addresses: list[Address] = []
    node: str = ""
    labels: dict[str, str] = {}
    service_account: str = "default"
    ready: bool = True
    ready_since: str = ""
    invented_name: bool = False
    mtls: bool = True
    ports: dict[str, Port] = {}
    role: Literal["", "echo", "gateway", "client"] = ""
    answer: str = ""

    @model_validator(mode="after")
    def _addresses(self) -> "WorkloadSection":
        if self.additional_addresses and not self.address:
            raise ValueError("additional_addresses stand beside an address, and there is none")
        one_of_each([*filter(None, [self.address]), *self.additional_addresses], "addresses")
        return self


class ClusterSection(Section):
    """A Kubernetes cluster."""

    network: str = ""
    gateways: list[GatewaySection] = []
    nodes: dict[str, NodeSection] = {}
    addresses: dict[str, Addresses] = {}
    workloads: list[WorkloadSection] = []


class PortSection(Section):
    """A service port, as in a Kubernetes Service."""

    port: Port
    name: str = ""
    target_port: Port | str | None = Field(default=None, alias="targetPort")
    protocol: Literal["TCP", "UDP"] = "TCP"
    app_protocol: str = Field(default="", alias="appProtocol")


class ServiceSection(Section):
    """A Kubernetes Service that exists in these clusters; none named: in all.

    ``endpoints``: addresses by cluster, where no selector says who they are. ``export_to``: namespaces that see it.
    ``node_local``: clients see endpoints of their own node (internalTrafficPolicy Local). ``publishes_unready``:
    unready endpoints count as ready (publishNotReadyAddresses). ``endpoint_ports``: where ``endpoints`` listen, by
    cluster, address and name of the service's port; a cluster that is not named: at the target port.
    ``endpoint_ready``: whether they are ready, by cluster and address; one that is not named: as the workload is.
    ``anonymous``: those of ``endpoints`` that are sent as an address alone, whatever workload is there.
    ``families``: IP families of its endpoints and of a virtual address that it is given, where nobody says that one.
    """

    name: Name
    namespace: Name = "default"
    ports: list[PortSection] = Field(min_length=1)
    selector: dict[str, str] = {}
    clusters: list[str] = []
    traffic_distribution: Literal["", "PreferClose", "PreferSameZone", "PreferSameNode"] = ""
    headless: bool = False
    export_to: list[str] = []
    endpoints: dict[str, list[Address]] = {}
    node_local: bool = False
    publishes_unready: bool = False
    endpoint_ports: dict[str, dict[Address, dict[str, Port]]] = {}
    endpoint_ready: dict[str, dict[Address, bool]] = {}
    anonymous: dict[str, list[Address]] = {}
    families: list[Family] = Field(default=[], max_length=2)


class MeshSection(Section):
    """The document of a mesh file that says which clusters there are."""

    kind: Literal["Mesh"]
    options: OptionsSection = OptionsSection()
    mesh_config: MeshConfig = Field(default_factory=MeshConfig, alias="meshConfig")
    mesh_networks: MeshNetworks = Field(default_factory=MeshNetworks, alias="meshNetworks")
    clusters: dict[ClusterName, ClusterSection] = Field(min_length=1)
    services: list[ServiceSection] = []


class FailSection(Section):
    """What breaks or comes back: workloads of a locality, or gateways."""

    region: str = ""
    zone: str = ""
    gateway: str = ""
    after: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _one(self) -> "FailSection":
        if sum(bool(one) for one in (self.region, self.zone, self.gateway)) != 1:
            raise ValueError("name one of region, zone (region/zone) and gateway (a cluster, or cluster/name)")
        if self.after and not self.gateway:
            raise ValueError("after is for gateways: workloads of a locality fail before the step's connections")
        return self


class StepSection(Section):
    """One step of a scenario: changes, then traffic, then what the shares must be."""

    name: str = Field(min_length=1)
    why: str = ""
    apply: list[dict[str, Any]] = []
    delete: list[str] = []
    drain: list[str] = []
    recover: list[str] = []
    fail: list[FailSection] = []
    repair: list[FailSection] = []
    options: dict[str, Any] = {}
    mesh_config: dict[str, Any] | None = Field(default=None, alias="meshConfig")
    expect: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    through: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}

    @model_validator(mode="after")
    def _whole(self) -> "StepSection":
        if self.expect and abs(sum(self.expect.values()) - 1) > 1e-6:
            raise ValueError(f"the expected shares sum to {sum(self.expect.values()):g}, not to 1")
        if sum(self.through.values()) > 1 + 1e-6:
            raise ValueError(f"the shares through gateways sum to {sum(self.through.values()):g}, which is over 1")
        if any(one.after for one in self.repair):
            raise ValueError("after is for what fails: what is repaired is there before the step's connections")
        return self


class ScenarioSection(Section):
    """A document of kind Scenario."""

    kind: Literal["Scenario"]
    client: str = Field(min_length=1)
    service: str = Field(min_length=1)
    port: Port = 80
    connections: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    sidecars: bool = False
    steps: list[StepSection] = Field(min_length=1)
