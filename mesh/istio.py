"""DestinationRule and meshConfig as a mesh file may hold them: what is read, with Istio's own names and defaults."""

from typing import Annotated, Any, Literal

from eastgate.xds.hashing import is_prime
from pydantic import Field, model_validator

from .part import TRUE, Int32, Part, Percent, Port, PortSelector, Seconds, Selector, Uint32, in_camel_case
from .sidecar import OutboundTrafficPolicy

MAGLEV_LIMIT = 5_000_011
TOPOLOGY_LABELS = frozenset(
    {"topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"}
)


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
    min_cluster_size: Uint32 | None = None

    @model_validator(mode="after")
    def _without_topology(self) -> "ZoneAwareLbSetting":
        if topology := sorted(TOPOLOGY_LABELS & set(self.failover_priority)):
            raise ValueError(f"the label {topology[0]} may not be in a zone aware failoverPriority")
        return self


class RingHash(Part):
    """ringHash; 0: Envoy's default."""

    minimum_ring_size: int = Field(default=0, ge=0, le=2**63 - 1)


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
    minimum_ring_size: int = Field(default=0, ge=0, le=2**63 - 1)

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

    consecutive_5xx_errors: Uint32 | None = Field(default=None, alias="consecutive5xxErrors")
    consecutive_gateway_errors: Uint32 | None = Field(default=None)
    interval: Seconds | None = None
    base_ejection_time: Seconds | None = None
    max_ejection_percent: Percent = 0
    min_health_percent: Percent = 0
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failures: Uint32 | None = None

    @model_validator(mode="after")
    def _split(self) -> "OutlierDetection":
        if self.consecutive_local_origin_failures and not self.split_external_local_origin_errors:
            raise ValueError("consecutiveLocalOriginFailures needs splitExternalLocalOriginErrors: true")
        return self


class TcpKeepalive(Part):
    """tcpKeepalive of a connection pool."""

    probes: Uint32 | None = None
    time: Seconds | None = None
    interval: Seconds | None = None


class TcpSettings(Part):
    """connectionPool.tcp."""

    max_connections: Int32 | None = None
    connect_timeout: Seconds | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: Seconds | None = None
    idle_timeout: Seconds | None = None


class HttpSettings(Part):
    """connectionPool.http, as far as it becomes a limit of the cluster."""

    http1_max_pending_requests: Int32 | None = Field(default=None, alias="http1MaxPendingRequests")
    http2_max_requests: Int32 | None = Field(default=None, alias="http2MaxRequests")
    max_retries: Int32 | None = None


class ConnectionPool(Part):
    """connectionPool of a traffic policy."""

    tcp: TcpSettings | None = None
    http: HttpSettings | None = None


class ClientTls(Part):
    """tls of a traffic policy."""

    mode: Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] = "DISABLE"
    sni: str = ""
    subject_alt_names: list[str] = []
    ca_certificates: str = ""
    ca_crl: str = ""
    client_certificate: str = ""
    private_key: str = ""
    credential_name: str = ""
    insecure_skip_verify: bool | None = None

    @property
    def originates(self) -> bool:
        """Whether it is TLS of the rule's own, and not the mesh's."""
        return self.mode in ("SIMPLE", "MUTUAL")

    @model_validator(mode="after")
    def _consistent(self) -> "ClientTls":
        """As istiod's validateTLS has it (pkg/config/validation/agent)."""
        if not self.originates:
            return self
        if self.insecure_skip_verify:
            if self.ca_certificates or self.subject_alt_names:
                raise ValueError("insecureSkipVerify leaves nothing to caCertificates and subjectAltNames")
            if self.mode == "SIMPLE" and self.credential_name:
                raise ValueError("insecureSkipVerify leaves nothing to a credentialName of mode SIMPLE")
        if self.credential_name:
            if self.client_certificate or self.private_key or self.ca_certificates or self.ca_crl:
                raise ValueError("credentialName stands for all certificates, keys and lists: no files beside it")
        elif self.mode == "MUTUAL" and not (self.client_certificate and self.private_key):
            raise ValueError("mode MUTUAL needs clientCertificate and privateKey")
        return self


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


class ProxyMetadata(Part):
    """proxyMetadata: environment of the proxies. Istio wants ISTIO_DUAL_STACK there as it is of istiod."""

    istio_dual_stack: str = Field(default="", alias="ISTIO_DUAL_STACK")

    @property
    def dual_stack(self) -> bool:
        """Whether proxies are to serve dual stack."""
        return self.istio_dual_stack in TRUE


class DefaultConfig(Part):
    """defaultConfig: what proxies are started with."""

    proxy_metadata: ProxyMetadata = ProxyMetadata()


class MeshConfig(Part):
    """meshConfig as istiod reads it from its ConfigMap."""

    trust_domain: str = "cluster.local"
    trust_domain_aliases: list[str] = []
    root_namespace: str = "istio-system"
    default_destination_rule_export_to: list[str] = []
    default_virtual_service_export_to: list[str] = []
    default_service_export_to: list[str] = []
    locality_lb_setting: LocalityLbSetting | None = LocalityLbSetting()
    zone_aware_lb_setting: ZoneAwareLbSetting | None = None
    service_settings: list[ServiceSettingsEntry] = []
    connect_timeout: Seconds = 10.0
    tcp_keepalive: TcpKeepalive | None = None
    default_providers: DefaultProviders = DefaultProviders()
    outbound_traffic_policy: OutboundTrafficPolicy = OutboundTrafficPolicy()
    proxy_listen_port: Port = 15001
    proxy_inbound_listen_port: Port = 15006
    protocol_detection_timeout: Seconds = 0.0
    dns_refresh_rate: Seconds = 60.0
    default_config: DefaultConfig = DefaultConfig()

    @model_validator(mode="before")
    @classmethod
    def _form(cls, content: Any) -> Any:
        return in_camel_case(content)

    @property
    def trust_domains(self) -> tuple[str, ...]:
        """The trust domain, then its aliases."""
        return tuple(dict.fromkeys((self.trust_domain, *self.trust_domain_aliases)))


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
