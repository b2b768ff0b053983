"""Istio's resources as a mesh file may hold them: what is read of each, with Istio's own names and defaults.

A field that is no field here is kept, so that `unread` can name it: nothing of a resource is dropped in silence.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from eastgate.xds.hashing import is_prime
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

MAGLEV_LIMIT = 5_000_011
TOPOLOGY_LABELS = frozenset(
    {"topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"}
)
_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?(?:h|ms|m|us|µs|ns|s))+")
_PART = re.compile(r"(\d+(?:\.\d*)?)(h|ms|m|us|µs|ns|s)")


def seconds(text: object) -> float:
    """Seconds of a Go duration such as "1m30s". Raises ValueError for anything else."""
    if not isinstance(text, str) or not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration such as 1s, 500ms or 1m30s")
    return sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))


Seconds = Annotated[float, BeforeValidator(seconds)]
Port = Annotated[int, Field(ge=1, le=65535)]
Percent = Annotated[int, Field(ge=0, le=100)]


class Part(BaseModel):
    """A message of Istio's API: camel case on the file's side, fields that are not read stay in `model_extra`."""

    model_config = ConfigDict(extra="allow", alias_generator=to_camel, validate_by_name=False, frozen=True)


def _refuse_overlap(patterns: list[str], *, ordered: bool) -> None:
    """Localities of one list may not cover each other, as istiod's validateLocalities has it.

    ``ordered``: a "*" that stands last covers the rest, and is legal; in a map istiod refuses it by chance.
    """
    taken: list[list[str]] = []
    for at, locality in enumerate(patterns):
        if locality.count("*") > 1 or ("*" in locality and not locality.endswith("*")):
            raise ValueError(f"locality {locality}: one * at most, and at the end")
        parts = locality.split("/", 2)
        if not all(parts):
            raise ValueError(f"locality {locality}: an empty region, zone or sub zone")
        if parts == ["*"] and ordered and at == len(patterns) - 1:
            return
        named = parts[:-1] if parts[-1] == "*" else parts
        if any(named[: len(other)] == other[: len(named)] for other in taken):
            raise ValueError(f"locality {locality} overlaps with another one of the list")
        taken.append(named)


class Failover(Part):
    """From one region to another."""

    origin: str = Field(alias="from", min_length=1)
    to: str = Field(min_length=1)

    @model_validator(mode="after")
    def _different(self) -> "Failover":
        if self.origin == self.to:
            raise ValueError(f"failover from {self.origin} leads to itself")
        for name in (self.origin, self.to):
            if "/" in name or "*" in name:
                raise ValueError(f"failover takes the names of regions, and {name} is none")
        return self


class Distribute(Part):
    """Where traffic of one locality goes: patterns to percent."""

    origin: str = Field(alias="from", min_length=1)
    to: dict[str, Annotated[int, Field(ge=1, le=100)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _whole(self) -> "Distribute":
        if sum(self.to.values()) != 100:
            raise ValueError(f"the weights of distribute from {self.origin} sum to {sum(self.to.values())}, not to 100")
        return self


class LocalityLbSetting(Part):
    """localityLbSetting. ``failover`` None: not given, which matters to the cluster's locality weighting."""

    enabled: bool = True
    distribute: list[Distribute] = []
    failover: list[Failover] | None = None
    failover_priority: list[str] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "LocalityLbSetting":
        """As istiod validates: distribute beside failoverPriority is taken (ValidateLocalityLbSetting)."""
        if self.distribute and self.failover:
            raise ValueError("distribute and failover exclude each other")
        topology = sorted(TOPOLOGY_LABELS & set(self.failover_priority or ()))
        if self.failover and topology:
            raise ValueError(f"failover and the label {topology[0]} in failoverPriority exclude each other")
        _refuse_overlap([rule.origin for rule in self.distribute], ordered=True)
        for rule in self.distribute:
            _refuse_overlap(list(rule.to), ordered=False)
        return self


class ZoneAwareLbSetting(Part):
    """zoneAwareLbSetting of Istio 1.31: regions make priorities, zones are left to the proxy."""

    enabled: bool = True
    failover: list[Failover] = []
    failover_priority: list[str] = []
    min_cluster_size: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _without_topology(self) -> "ZoneAwareLbSetting":
        if topology := sorted(TOPOLOGY_LABELS & set(self.failover_priority)):
            raise ValueError(f"the label {topology[0]} may not be in a zone aware failoverPriority")
        return self


class RingHash(Part):
    """ringHash; 0: Envoy's default."""

    minimum_ring_size: int = Field(default=0, ge=0)


class Maglev(Part):
    """maglev of consistentHash."""

    table_size: int

    @model_validator(mode="after")
    def _prime(self) -> "Maglev":
        if not (self.table_size < MAGLEV_LIMIT and is_prime(self.table_size)):
            raise ValueError(f"the tableSize of maglev is a prime number below {MAGLEV_LIMIT}, not {self.table_size}")
        return self


class ConsistentHash(Part):
    """consistentHash. Only the source address is a key that a TCP proxy has."""

    use_source_ip: bool = False
    ring_hash: RingHash | None = None
    maglev: Maglev | None = None
    # Deprecated by Istio: now part of ringHash.
    minimum_ring_size: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _one_algorithm(self) -> "ConsistentHash":
        if sum(map(bool, (self.ring_hash is not None, self.maglev is not None, self.minimum_ring_size))) > 1:
            raise ValueError("consistentHash takes one of ringHash, maglev and minimumRingSize")
        return self


class LoadBalancer(Part):
    """loadBalancer of a traffic policy."""

    simple: Literal["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"] | None = None
    consistent_hash: ConsistentHash | None = None
    locality_lb_setting: LocalityLbSetting | None = None
    zone_aware_lb_setting: ZoneAwareLbSetting | None = None

    @model_validator(mode="after")
    def _one_policy(self) -> "LoadBalancer":
        if self.consistent_hash and self.simple not in (None, "UNSPECIFIED"):
            raise ValueError(f"simple: {self.simple} and consistentHash exclude each other")
        if self.locality_lb_setting and self.zone_aware_lb_setting:
            raise ValueError("localityLbSetting and zoneAwareLbSetting exclude each other")
        return self


class OutlierDetection(Part):
    """outlierDetection; None: not given."""

    consecutive_5xx_errors: int | None = Field(default=None, ge=0, alias="consecutive5xxErrors")
    consecutive_gateway_errors: int | None = Field(default=None, ge=0)
    interval: Seconds | None = None
    base_ejection_time: Seconds | None = None
    max_ejection_percent: Percent = 0
    min_health_percent: Percent = 0
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failures: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _split(self) -> "OutlierDetection":
        if self.consecutive_local_origin_failures and not self.split_external_local_origin_errors:
            raise ValueError("consecutiveLocalOriginFailures needs splitExternalLocalOriginErrors: true")
        return self


class TcpKeepalive(Part):
    """tcpKeepalive of a connection pool."""

    probes: int | None = None
    time: Seconds | None = None
    interval: Seconds | None = None


class TcpSettings(Part):
    """connectionPool.tcp."""

    max_connections: int | None = Field(default=None, ge=0)
    connect_timeout: Seconds | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: Seconds | None = None
    idle_timeout: Seconds | None = None


class HttpSettings(Part):
    """connectionPool.http, as far as it becomes a limit of the cluster."""

    http1_max_pending_requests: int | None = Field(default=None, ge=0, alias="http1MaxPendingRequests")
    http2_max_requests: int | None = Field(default=None, ge=0, alias="http2MaxRequests")
    max_retries: int | None = Field(default=None, ge=0)


class ConnectionPool(Part):
    """connectionPool of a traffic policy."""

    tcp: TcpSettings | None = None
    http: HttpSettings | None = None


class ClientTls(Part):
    """tls of a traffic policy."""

    mode: Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] = "DISABLE"
    sni: str = ""
    subject_alt_names: list[str] = []


class PortSelector(Part):
    """The port that a port level setting is for."""

    number: Port


class Policy(Part):
    """What a traffic policy, a subset and a port level setting have in common."""

    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTls | None = None


class PortPolicy(Policy):
    """portLevelSettings entry."""

    port: PortSelector


class TrafficPolicy(Policy):
    """trafficPolicy of a rule or a subset."""

    port_level_settings: list[PortPolicy] = []

    @model_validator(mode="after")
    def _not_empty(self) -> "TrafficPolicy":
        if not self.model_fields_set and not self.model_extra:
            raise ValueError("a trafficPolicy must have at least one field")
        return self


class Selector(Part):
    """Which workloads a resource is for."""

    match_labels: dict[str, str] = {}


class Subset(Part):
    """A named part of a service: endpoints with these labels."""

    # A DNS label, in capitals too: istiod's IsDNS1123Label ignores the case.
    name: str = Field(max_length=63, pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$")
    labels: dict[str, str] = {}
    traffic_policy: TrafficPolicy | None = None


class DestinationRuleSpec(Part):
    """spec of a DestinationRule. ``traffic_policy`` None: not given, which matters where rules are merged."""

    host: str = Field(min_length=1)
    traffic_policy: TrafficPolicy | None = None
    subsets: list[Subset] = []
    export_to: list[str] = []
    workload_selector: Selector | None = None

    @model_validator(mode="after")
    def _private_selector(self) -> "DestinationRuleSpec":
        if self.workload_selector is not None and (not self.workload_selector.match_labels):
            raise ValueError("a workloadSelector must have matchLabels")
        return self


class Destination(Part):
    """Where a route leads."""

    host: str = Field(min_length=1)
    subset: str = ""
    port: PortSelector | None = None


class RouteDestination(Part):
    """A destination and its share of the route."""

    destination: Destination
    weight: int = Field(default=0, ge=0)


def _refuse_no_weight(route: list[RouteDestination]) -> None:
    """Any weights are legal, as long as something is left: Envoy takes their ratio."""
    if len(route) > 1 and not any(entry.weight for entry in route):
        raise ValueError("the weights of a route sum to 0")


class L4Match(Part):
    """match of a tcp route. A proxy is matched by its labels and namespace, a connection by its port."""

    source_labels: dict[str, str] = {}
    source_namespace: str = ""
    port: int = 0
    gateways: list[str] = []


class TcpRoute(Part):
    """tcp entry of a VirtualService."""

    match: list[L4Match] = []
    route: list[RouteDestination] = Field(min_length=1)

    @model_validator(mode="after")
    def _whole(self) -> "TcpRoute":
        _refuse_no_weight(self.route)
        return self


class TlsMatch(L4Match):
    """match of a tls route: server names too."""

    sni_hosts: list[str] = Field(min_length=1)


class TlsRoute(Part):
    """tls entry of a VirtualService: for ports whose protocol is TLS, and for PASSTHROUGH servers of gateways."""

    match: list[TlsMatch] = Field(min_length=1)
    route: list[RouteDestination] = Field(min_length=1)

    @model_validator(mode="after")
    def _whole(self) -> "TlsRoute":
        _refuse_no_weight(self.route)
        return self


class HttpRoute(Part):
    """http entry of a VirtualService: only its destinations are checked, a TCP data plane has no HTTP routes."""

    route: list[RouteDestination] = []


def _is_part(name: str, host: str) -> bool:
    return name == host or (host.startswith("*") and name.removeprefix("*").endswith(host[1:]))


class VirtualServiceSpec(Part):
    """spec of a VirtualService."""

    hosts: list[str] = Field(min_length=1)
    gateways: list[str] = []
    export_to: list[str] = []
    tcp: list[TcpRoute] = []
    tls: list[TlsRoute] = []
    http: list[HttpRoute] = []

    @model_validator(mode="after")
    def _names_of_hosts(self) -> "VirtualServiceSpec":
        """As istiod's validateSniHost: hosts are compared as they are written."""
        names = [name for route in self.tls for match in route.match for name in match.sni_hosts]
        for name in names:
            if not any(_is_part(name, host) for host in self.hosts):
                raise ValueError(f"the server name {name} is part of none of the hosts {', '.join(self.hosts)}")
        return self


class ServerPort(Part):
    """Port of a Gateway's server."""

    number: Port
    name: str = ""
    protocol: str = ""


class ServerTls(Part):
    """tls of a Gateway's server."""

    mode: Literal["AUTO_PASSTHROUGH", "PASSTHROUGH", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"] = "SIMPLE"


class Server(Part):
    """servers entry of a Gateway."""

    port: ServerPort
    hosts: list[str] = Field(min_length=1)
    tls: ServerTls | None = None
    bind: str = ""


class GatewaySpec(Part):
    """spec of a Gateway."""

    selector: dict[str, str] = {}
    servers: list[Server] = Field(min_length=1)


class MutualTls(Part):
    """mtls of a PeerAuthentication."""

    mode: Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"] = "UNSET"


class PeerAuthenticationSpec(Part):
    """spec of a PeerAuthentication."""

    selector: Selector | None = None
    mtls: MutualTls = MutualTls()
    port_level_mtls: dict[int, MutualTls] = {}


class ServiceSettings(Part):
    """settings of meshConfig.serviceSettings."""

    cluster_local: bool = False


class ServiceSettingsEntry(Part):
    """serviceSettings entry: hosts, exact or "*.suffix"."""

    hosts: list[str] = Field(min_length=1)
    settings: ServiceSettings = ServiceSettings()


class DefaultProviders(Part):
    """Telemetry providers; metrics decide whether istiod adds its stats filter."""

    metrics: list[str] = []


def _names(model: type[BaseModel]) -> Iterator[str]:
    for part in model.__subclasses__():
        yield from (field.alias or "" for field in part.model_fields.values())
        yield from _names(part)


def in_camel_case(content: Any) -> Any:
    """Content of meshConfig or meshNetworks with Istio's names in camel case: protobuf's JSON takes snake case too.

    Only known fields are renamed; names of networks and localities stay as they are.
    """
    known = frozenset(_names(Part))

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                (to_camel(key) if "_" in key and to_camel(key) in known else key): renamed(one)
                for key, one in value.items()
            }
        return [renamed(one) for one in value] if isinstance(value, list) else value

    return renamed(content)


class MeshConfig(Part):
    """meshConfig as istiod reads it from its ConfigMap."""

    trust_domain: str = "cluster.local"
    root_namespace: str = "istio-system"
    default_destination_rule_export_to: list[str] = []
    default_virtual_service_export_to: list[str] = []
    locality_lb_setting: LocalityLbSetting | None = LocalityLbSetting()
    zone_aware_lb_setting: ZoneAwareLbSetting | None = None
    service_settings: list[ServiceSettingsEntry] = []
    connect_timeout: Seconds = 10.0
    tcp_keepalive: TcpKeepalive | None = None
    default_providers: DefaultProviders = DefaultProviders()

    @model_validator(mode="before")
    @classmethod
    def _form(cls, content: Any) -> Any:
        return in_camel_case(content)


class NetworkGatewayEntry(Part):
    """gateways entry of meshNetworks."""

    address: str = ""
    registry_service_name: str = ""
    port: Annotated[int, Field(ge=0, le=65535)] = 15443


class NetworkEndpoints(Part):
    """endpoints entry of meshNetworks: whose endpoints are in the network."""

    from_registry: str = ""
    from_cidr: str = ""


class Network(Part):
    """One network of meshNetworks."""

    endpoints: list[NetworkEndpoints] = []
    gateways: list[NetworkGatewayEntry] = []


class MeshNetworks(Part):
    """meshNetworks as istiod reads it from its ConfigMap, or as Helm's values have it: without `networks` around it."""

    networks: dict[str, Network] = {}

    @model_validator(mode="before")
    @classmethod
    def _forms(cls, content: Any) -> Any:
        content = in_camel_case(content)
        if isinstance(content, dict) and content and "networks" not in content:
            return {"networks": content}
        return content


SPECS: dict[str, type[Part]] = {
    "DestinationRule": DestinationRuleSpec,
    "VirtualService": VirtualServiceSpec,
    "Gateway": GatewaySpec,
    "PeerAuthentication": PeerAuthenticationSpec,
}
GROUPS = {
    "DestinationRule": "networking.istio.io",
    "VirtualService": "networking.istio.io",
    "Gateway": "networking.istio.io",
    "PeerAuthentication": "security.istio.io",
}


def unread(part: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths, in the file's own names, of everything that was given and is not read."""
    if isinstance(part, Part):
        yield from ((*path, name) for name in part.model_extra or ())
        for name, field in type(part).model_fields.items():
            if name in part.model_fields_set:
                yield from unread(getattr(part, name), (*path, field.alias or to_camel(name)))
    elif isinstance(part, list):
        for index, item in enumerate(part):
            yield from unread(item, (*path, index))
    elif isinstance(part, dict):
        for key, item in part.items():
            yield from unread(item, (*path, key))
