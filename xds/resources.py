"""Accepted xDS resources as the rest of eastgate sees them: frozen, plain, no protobuf. decode.py makes them."""

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import NamedTuple

from .access_log import AccessLogSpec
from .bind_config import Bind
from .cidr import CidrRange as CidrRange
from .columns import Columns as Columns
from .columns import Locality as Locality
from .columns import LocalityEntry as LocalityEntry
from .happy_eyeballs import HappyEyeballs
from .listener_filters import HELLO_LIMIT, Ports, ProxyHeaders
from .rbac import RbacFilter
from .record import record
from .route import RouteConfiguration
from .socket_options import SocketOption
from .tls_records import PLAIN, SecretRef, TlsSettings, UpstreamTls


@record
class Assignment:
    """A decoded ClusterLoadAssignment. ``raw`` are its exact bytes, for dumps and change detection; equality
    ignores them.

    ``endpoint_stale_after_s`` is 0 when endpoints never go stale.
    """

    cluster_name: str
    columns: Columns
    overprovisioning_factor: int
    weighted_priority_health: bool
    endpoint_stale_after_s: float
    raw: bytes = field(compare=False, repr=False)


# A limit that is none.
UNLIMITED = 4294967295


@record
class CircuitBreakers:
    """Thresholds of the DEFAULT routing priority, which is that of all TCP. ``track_remaining``: show what is left.

    ``max_connections_per_endpoint`` UNLIMITED: any number.
    """

    max_connections: int = 1024
    max_pending_requests: int = 1024
    track_remaining: bool = False
    max_connections_per_endpoint: int = UNLIMITED


@record
class TcpKeepalive:
    """None: the operating system's default."""

    probes: int | None = None
    time_s: int | None = None
    interval_s: int | None = None


@record
class OutlierDetection:
    """Envoy's defaults where the message says nothing; times in seconds, the rest percent or counts."""

    consecutive_5xx: int = 5
    interval_s: float = 10.0
    base_ejection_time_s: float = 30.0
    max_ejection_time_s: float = 300.0
    max_ejection_time_jitter_s: float = 0.0
    max_ejection_percent: int = 10
    enforcing_consecutive_5xx: int = 100
    enforcing_success_rate: int = 100
    success_rate_minimum_hosts: int = 5
    success_rate_request_volume: int = 100
    success_rate_stdev_factor: int = 1900
    consecutive_gateway_failure: int = 5
    enforcing_consecutive_gateway_failure: int = 0
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failure: int = 5
    enforcing_consecutive_local_origin_failure: int = 100
    enforcing_local_origin_success_rate: int = 100
    failure_percentage_threshold: int = 85
    enforcing_failure_percentage: int = 0
    enforcing_failure_percentage_local_origin: int = 0
    failure_percentage_minimum_hosts: int = 5
    failure_percentage_request_volume: int = 50
    always_eject_one_host: bool = False
    successful_active_health_check_uneject_host: bool = True


@record
class Hashing:
    """Settings of RING_HASH and MAGLEV. ``balance_factor``: percent, 0 without bounded load.

    ``use_hostname``: endpoints are told apart by their host names where they have some, not by their addresses.
    """

    hash_function: str = "XX_HASH"
    minimum_ring_size: int = 1024
    maximum_ring_size: int = 8388608
    table_size: int = 65537
    balance_factor: int = 0
    use_hostname: bool = False


Criteria = tuple[tuple[str, str], ...]
"""Metadata that endpoints must have: (key, value as canonical JSON), by key."""


@record
class SubsetSelector:
    """Keys, sorted, by whose values endpoints form subsets; Envoy's enum name of what holds where there is none."""

    keys: tuple[str, ...]
    fallback_policy: str = "NOT_DEFINED"
    fallback_keys: tuple[str, ...] = ()


@record
class Subsets:
    """lb_subset_config of a cluster that has selectors; see Envoy's message for each field."""

    selectors: tuple[SubsetSelector, ...]
    fallback_policy: str = "NO_FALLBACK"
    default_subset: Criteria = ()
    locality_weight_aware: bool = False
    scale_locality_weight: bool = False
    panic_mode_any: bool = False
    list_as_any: bool = False


class ServiceNameMatch(NamedTuple):
    """What x-envoy-upstream-healthchecked-cluster must hold. ``kind``: exact, prefix, suffix or contains."""

    kind: str
    text: str
    ignore_case: bool = False

    def matches(self, name: str) -> bool:
        found, wanted = (name.lower(), self.text.lower()) if self.ignore_case else (name, self.text)
        if self.kind == "exact":
            return found == wanted
        if self.kind == "prefix":
            return found.startswith(wanted)
        return found.endswith(wanted) if self.kind == "suffix" else wanted in found


@record
class HttpCheck:
    """What an HTTP health check asks and expects. Statuses are half-open ranges; ``host`` empty: the cluster's name.

    ``response_buffer_bytes``: how much of the body is searched; 0 is all of it.
    """

    path: str
    host: str = ""
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    headers_removed: tuple[str, ...] = ()
    expected_statuses: tuple[tuple[int, int], ...] = ((200, 201),)
    retriable_statuses: tuple[tuple[int, int], ...] = ()
    response_buffer_bytes: int = 1024
    service_name: ServiceNameMatch | None = None


@record
class GrpcCheck:
    """What a gRPC health check asks for. ``service`` empty: the whole server; ``host`` empty: the cluster's name."""

    service: str = ""
    host: str = ""
    metadata: tuple[tuple[str, str], ...] = ()


@record
class HealthCheck:
    """The active health check of a cluster, TCP unless ``http`` or ``grpc`` is there; times in seconds.

    ``receive`` must be found in the answer in this order, other bytes between them; without any a connection, or the
    status of the answer, is enough.
    """

    timeout_s: float
    interval_s: float
    unhealthy_threshold: int
    healthy_threshold: int
    unhealthy_interval_s: float
    unhealthy_edge_interval_s: float
    healthy_edge_interval_s: float
    no_traffic_interval_s: float = 60.0
    no_traffic_healthy_interval_s: float = 60.0
    initial_jitter_s: float = 0.0
    interval_jitter_s: float = 0.0
    interval_jitter_percent: int = 0
    reuse_connection: bool = True
    log_failures: bool = False
    log_successes: bool = False
    send: bytes = b""
    receive: tuple[bytes, ...] = ()
    http: HttpCheck | None = None
    grpc: GrpcCheck | None = None


@record
class EndpointCheck:
    """What one endpoint wants otherwise (Endpoint.HealthCheckConfig); 0 and empty: as the endpoint and its cluster."""

    port: int = 0
    address: str = ""
    hostname: str = ""
    disabled: bool = False


class DnsTarget(NamedTuple):
    """A name to resolve and the port of its addresses."""

    host: str
    port: int


@record
class DnsResolver:
    """How names are asked for. Without ``servers`` (``address:port``) those of the system; 0 leaves c-ares' default."""

    servers: tuple[str, ...] = ()
    use_tcp: bool = False
    search_domains: bool = True
    query_timeout_s: int = 0
    query_tries: int = 0
    rotate: bool = False


@record
class DnsSettings:
    """What a STRICT_DNS or LOGICAL_DNS cluster resolves, and when again; times in seconds.

    ``template`` are the bytes of its load_assignment, names in place of addresses, and ``targets`` these names, each
    once. ``first_only``: LOGICAL_DNS. ``failure_base_s`` 0: after a failure the refresh rate holds. ``lookup_family``:
    Envoy's enum name.
    """

    template: bytes
    targets: tuple[DnsTarget, ...]
    first_only: bool = False
    refresh_rate_s: float = 5.0
    failure_base_s: float = 0.0
    failure_max_s: float = 0.0
    respect_ttl: bool = False
    min_refresh_s: float = 0.0
    jitter_s: float = 0.0
    lookup_family: str = "AUTO"
    resolver: DnsResolver = DnsResolver()


@record
class ZoneAware:
    """How far zones are preferred where a local cluster is known; Envoy's defaults.

    ``routing_enabled``: percent of picks; ``force_min_size``: so many healthy endpoints in the proxy's own locality
    take everything, 0 for never; ``by_weight``: weights are counted instead of endpoints.
    """

    routing_enabled: int = 100
    min_cluster_size: int = 6
    force_min_size: int = 0
    by_weight: bool = False


@record
class SlowStart:
    """How the weight of a new endpoint grows; Envoy's defaults."""

    window_ms: int
    aggression: float = 1.0
    min_weight_percent: float = 10.0


@record
class Cluster:
    """A named upstream group from CDS.

    ``type``: EDS, STATIC, STRICT_DNS, LOGICAL_DNS or ORIGINAL_DST; ``lb_policy``: Envoy's enum name.
    ``initial_fetch_timeout_s``: how long an EDS cluster waits for its first assignment, 0 for as long as it takes.
    ``hashing`` only for the two policies that hash, ``slow_start`` only for ROUND_ROBIN and LEAST_REQUEST.
    ``load_assignment`` only for STATIC, ``dns`` only for the two types that resolve names, ``upstream_port_override``
    (0: none) only for ORIGINAL_DST. ``bind``: what connections come from, and socket options of theirs; None: what the
    process has for all. ``upstream_tls``: to which endpoints TLS is spoken, and how; ``secrets`` are those
    that are needed for that.
    ``warnings`` name what the message holds and eastgate does not honour. ``raw`` are the bytes inside the Any;
    equality ignores them.
    """

    name: str
    type: str
    eds_service_name: str = ""
    initial_fetch_timeout_s: float = 15.0
    connect_timeout_s: float = 5.0
    lb_policy: str = "ROUND_ROBIN"
    least_request_choice_count: int = 2
    least_request_bias: float = 1.0
    least_request_full_scan: bool = False
    hashing: Hashing | None = None
    slow_start: SlowStart | None = None
    healthy_panic_threshold_percent: int = 50
    locality_weighted: bool = False
    fail_traffic_on_panic: bool = False
    zone_aware: ZoneAware = ZoneAware()
    circuit_breakers: CircuitBreakers = CircuitBreakers()
    outlier_detection: OutlierDetection | None = None
    health_check: HealthCheck | None = None
    subsets: Subsets | None = None
    ignore_health_on_host_removal: bool = False
    ignore_new_hosts_until_first_check: bool = False
    tcp_keepalive: TcpKeepalive | None = None
    happy_eyeballs: HappyEyeballs = HappyEyeballs()
    load_assignment: Assignment | None = None
    upstream_port_override: int = 0
    bind: Bind | None = None
    dns: DnsSettings | None = None
    alt_stat_name: str = ""
    upstream_tls: UpstreamTls = PLAIN
    secrets: tuple[SecretRef, ...] = ()
    warnings: tuple[str, ...] = ()
    raw: bytes = field(default=b"", compare=False, repr=False)

    def bound_by(self, default: Bind) -> Bind:
        """What its connections come from: its own, over the process's."""
        return self.bind.over(default) if self.bind is not None else default

    @property
    def assignment_name(self) -> str:
        """Name of the EDS resource; empty unless the type is EDS."""
        return (self.eds_service_name or self.name) if self.type == "EDS" else ""


@record
class FilterChainMatch:
    """Envoy's FilterChainMatch, empty or 0 = any; ``source_type`` is Envoy's enum name.

    ``unsupported`` names criteria that eastgate does not evaluate.
    """

    destination_port: int = 0
    destination_prefixes: tuple[CidrRange, ...] = ()
    server_names: tuple[str, ...] = ()
    transport_protocol: str = ""
    application_protocols: tuple[str, ...] = ()
    direct_source_prefixes: tuple[CidrRange, ...] = ()
    source_type: str = "ANY"
    source_prefixes: tuple[CidrRange, ...] = ()
    source_ports: tuple[int, ...] = ()
    unsupported: tuple[str, ...] = ()


@record
class HttpManager:
    """What of an HTTP connection manager is done at layer 4.

    ``ignores_port``: hosts are compared without their port, whatever the routes say. ``normalizes_path``: paths are
    compared in a form that nobody here makes. ``sets_alpn``: Istio's filter chooses the ALPN toward endpoints.
    """

    policies: tuple[RbacFilter, ...] = ()
    ignores_port: bool = False
    normalizes_path: bool = False
    sets_alpn: bool = False
    refusal: str = ""


@record
class FilterChain:
    """A chain that ends in tcp_proxy, or one that refuses: ``refusal`` says why in a sentence, empty when it serves.

    ``clusters`` are (cluster name, weight) pairs; one pair of weight 1 for a plain tcp_proxy.cluster. ``criteria``,
    where there are any, say for each of them which subset of its endpoints is asked for.
    ``max_connect_attempts`` 0: not set. ``hash_source_ip``: connections have the hash of their client's address.
    ``policies``: RBAC filters, all of which a connection must pass.
    Of a chain with an HTTP connection manager there is ``http``, ``route_config_name`` says which
    routes it has from RDS, or ``route_config`` holds its inline ones. ``secrets``: what its transport socket names;
    ``tls``: what is terminated before anything else is done, None for connections that are taken as they come;
    ``handshake_timeout_s``: how long that may take, 0 where nothing is said. ``telemetry``: Istio's metrics count its
    connections; ``access_logs``: which logs have a line of them.
    """

    name: str
    match: FilterChainMatch
    clusters: tuple[tuple[str, int], ...] = ()
    criteria: tuple[Criteria, ...] = ()
    idle_timeout_s: float = 3600.0
    max_downstream_connection_duration_s: float = 0.0
    max_connect_attempts: int = 0
    hash_source_ip: bool = False
    stat_prefix: str = ""
    route_config_name: str = ""
    route_config: RouteConfiguration | None = None
    policies: tuple[RbacFilter, ...] = ()
    http: HttpManager | None = None
    secrets: tuple[SecretRef, ...] = ()
    tls: TlsSettings | None = None
    handshake_timeout_s: float = 0.0
    refusal: str = ""
    telemetry: bool = False
    access_logs: tuple[AccessLogSpec, ...] = ()


@record
class Listener:
    """A listener from LDS. ``addresses``: (host, port) pairs, the first is the address of the name.

    ``use_original_dst``: connections go on to the listener of the address that they were redirected from;
    ``original_dst``: they keep that address for clusters of type ORIGINAL_DST. ``bind_to_port`` False: it has no socket
    and stands for its addresses only. ``transparent``: it wants what TPROXY takes. ``ipv4_compat``: IPv6 addresses that
    take IPv4 connections too. ``tls_skipped_ports``, ``http_skipped_ports``: destination ports where the inspector of
    that name is switched off. ``hello_limit``: bytes that a ClientHello may take with its records. ``proxy_headers``:
    None when no PROXY header is looked for. ``backlog``: connections that may wait to be accepted, 0 as many as we
    like. ``stat_prefix``: what its counters go by, empty for its address.

    ``raw`` are the bytes inside the Any; ``warnings`` as in Cluster.
    """

    name: str
    addresses: tuple[tuple[str, int], ...]
    filter_chains: tuple[FilterChain, ...]
    default_filter_chain: FilterChain | None = None
    bind_to_port: bool = True
    use_original_dst: bool = False
    original_dst: bool = False
    transparent: bool = False
    tls_inspector: bool = False
    tls_skipped_ports: Ports = ()
    http_inspector: bool = False
    http_skipped_ports: Ports = ()
    hello_limit: int = HELLO_LIMIT
    proxy_headers: ProxyHeaders | None = None
    listener_filters_timeout_s: float = 15.0
    continue_on_listener_filters_timeout: bool = False
    ipv4_compat: tuple[tuple[str, int], ...] = ()
    backlog: int = 0
    socket_options: tuple[SocketOption, ...] = ()
    stat_prefix: str = ""
    traffic_direction: str = "UNSPECIFIED"
    access_logs: tuple[AccessLogSpec, ...] = ()
    warnings: tuple[str, ...] = ()
    raw: bytes = field(default=b"", compare=False, repr=False)


@record
class Rejection:
    """The last rejected version of a resource; its last good version, if any, stays in use."""

    type_url: str
    name: str
    version: str
    reason: str
    raw: bytes


@record
class Snapshot:
    """Everything accepted, frozen. ``warming`` are EDS clusters asked for and never yet answered: not routable.

    An EDS cluster that is neither warming nor has its assignment here was not asked for, because no route leads to it,
    or it was asked for and did not come within its initial_fetch_timeout. ``waiting``: newest versions of clusters
    whose old ones stand in ``clusters`` and serve until the new assignments have come.
    ``missing_routes``: routes that chains name and that are not in ``routes``. ``secret_names``: accepted
    secrets of the ADS stream, which stand in a store of their own. ``versions``: last accepted version per type URL.
    ``generation`` grows exactly when clusters, assignments, listeners, routes, warming or missing_routes
    change in meaning; rejections, versions, waiting and raw bytes do not move it.
    """

    generation: int = 0
    clusters: Mapping[str, Cluster] = field(default_factory=lambda: MappingProxyType({}))
    waiting: Mapping[str, Cluster] = field(default_factory=lambda: MappingProxyType({}))
    assignments: Mapping[str, Assignment] = field(default_factory=lambda: MappingProxyType({}))
    listeners: Mapping[str, Listener] = field(default_factory=lambda: MappingProxyType({}))
    routes: Mapping[str, RouteConfiguration] = field(default_factory=lambda: MappingProxyType({}))
    warming: frozenset[str] = frozenset()
    missing_routes: frozenset[str] = frozenset()
    secret_names: frozenset[str] = frozenset()
    rejections: tuple[Rejection, ...] = ()
    versions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def routes_of(self, chain: FilterChain) -> RouteConfiguration | None:
        """The routes of a chain, inline ones or those of RDS; None while they are missing or when it has none."""
        return chain.route_config or self.routes.get(chain.route_config_name)

    def refusal(self, chain: FilterChain) -> str:
        """Why the chain refuses, its routes considered; empty when it serves."""
        reasons = [chain.refusal]
        routes = self.routes_of(chain)
        if routes is None and chain.route_config_name:
            reasons.append(f"its routes are missing (RDS {chain.route_config_name})")
        elif routes is not None and routes.refusal:
            reasons.append(f"its routes ({routes.name or 'inline'}) are unusable: {routes.refusal}")
        return "; ".join(filter(None, reasons))
