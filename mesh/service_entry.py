"""ServiceEntry and WorkloadEntry of Istio's API, as far as they are read."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from .networks import is_address
from .part import TRUE, Part, Port, Uint32, host_name

HEALTH_CHECKS = "proxy.istio.io/health-checks-enabled"
HEALTHY = "Healthy"


class EntryPort(Part):
    """A port of a ServiceEntry. ``target_port`` 0: the same number."""

    number: Port
    name: str = Field(min_length=1)
    protocol: str = ""
    target_port: int = Field(default=0, ge=0, le=65535)


def _place(address: str) -> str:
    if address.startswith("unix:"):
        raise ValueError(f"unix sockets are not read here: {address}")
    return address if is_address(address) else host_name(address)


class EntryEndpoint(Part):
    """endpoints entry: where the service is, beside what a port says."""

    address: Annotated[str, Field(min_length=1), AfterValidator(_place)]
    ports: dict[str, Port] = {}
    labels: dict[str, str] = {}
    network: str = ""
    locality: str = ""
    weight: Uint32 = 0
    service_account: str = ""


class WorkloadEntrySpec(EntryEndpoint):
    """spec of a WorkloadEntry: an endpoint that services and entries select; labels of its metadata are its own.

    ``address`` empty: it is only known in which network it is.
    """

    address: Annotated[str, AfterValidator(lambda text: _place(text) if text else text)] = ""

    @model_validator(mode="after")
    def _somewhere(self) -> "WorkloadEntrySpec":
        if not self.address and not self.network:
            raise ValueError("an address is missing, or a network")
        return self

    def with_labels(self, labels: Mapping[str, str]) -> "WorkloadEntrySpec":
        """The spec with the labels of its metadata, which count first."""
        return self.model_copy(update={"labels": {**self.labels, **labels}})


def conditions_of(status: object) -> list[Mapping[str, object]]:
    """What a status says of the object's health."""
    found = status.get("conditions") if isinstance(status, dict) else None
    return [one for one in found or () if isinstance(one, dict) and one.get("type") == HEALTHY]


def is_healthy(annotations: Mapping[str, str], status: object) -> bool:
    """Whether istiod sends a WorkloadEntry: with health checks only while its status says that they pass
    (IsWorkloadEntryHealthy in pilot/pkg/model/status). The first condition counts.
    """
    if annotations.get(HEALTH_CHECKS) not in TRUE:
        return True
    return [one.get("status") for one in conditions_of(status)][:1] == ["True"]


class EntrySelector(Part):
    """workloadSelector of a ServiceEntry, whose labels are not called matchLabels."""

    labels: dict[str, str] = {}


class ServiceEntrySpec(Part):
    """spec of a ServiceEntry."""

    hosts: list[Annotated[str, AfterValidator(host_name)]] = Field(min_length=1)
    addresses: list[str] = []
    ports: list[EntryPort] = []
    location: Literal["MESH_EXTERNAL", "MESH_INTERNAL"] = "MESH_EXTERNAL"
    resolution: Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN"] = "NONE"
    endpoints: list[EntryEndpoint] = []
    workload_selector: EntrySelector | None = None
    export_to: list[str] = []
    subject_alt_names: list[str] = []

    @model_validator(mode="after")
    def _whole(self) -> "ServiceEntrySpec":
        """As istiod's ValidateServiceEntry, for what is read here."""
        if self.endpoints and self.workload_selector:
            raise ValueError("endpoints and workloadSelector exclude each other")
        if self.resolution == "NONE" and self.endpoints:
            raise ValueError("with resolution NONE connections go where they wanted to: no endpoints")
        if self.resolution.startswith("DNS") and not self.endpoints and any("*" in host for host in self.hosts):
            raise ValueError("a host with * has no address that DNS knows: give endpoints, or resolution NONE")
        for name in {name for one in self.endpoints for name in one.ports} - {one.name for one in self.ports}:
            raise ValueError(f"an endpoint has a port {name!r} that the service does not have")
        return self
