"""CDS: one cluster per visible service port and subset, as istiod builds them for sidecars and gateways.

Source of the rules: istio, pilot/pkg/networking/core/cluster*.go.
"""

from datetime import timedelta

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterCommonLbConfig,
    ClusterCommonLbConfigLocalityWeightedLbConfig,
    ClusterCommonLbConfigZoneAwareLbConfig,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
    ClusterMaglevLbConfig,
    ClusterRingHashLbConfig,
    ClusterTransportSocketMatch,
    OutlierDetection,
    UpstreamConnectionOptions,
)
from envoy_data_plane.envoy.config.cluster.v3 import Filter as UpstreamFilter
from envoy_data_plane.envoy.config.core.v3 import (
    BindConfig,
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    HttpProtocolOptions,
    Metadata,
    SocketAddress,
    TransportSocket,
)
from envoy_data_plane.envoy.config.core.v3 import TcpKeepalive as TcpKeepalivePb
from envoy_data_plane.envoy.extensions.transport_sockets.raw_buffer.v3 import RawBuffer
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    CommonTlsContextCombinedCertificateValidationContext,
    SdsSecretConfig,
    TlsParameters,
    TlsParametersTlsProtocol,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import HttpProtocolOptions as UpstreamHttpOptions
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptionsExplicitHttpConfig,
    HttpProtocolOptionsUseDownstreamHttpConfig,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.envoy.type.v3 import Percent
from envoy_data_plane.google.protobuf import Any as PackedAny
from envoy_data_plane.google.protobuf import Struct

from .endpoints import ClusterKey, namespace_mode, target_port
from .istio import OutlierDetection as OutlierRule
from .istio import Policy, TcpKeepalive
from .messages import PREFIX, config_path, from_ads, from_sds, metadata, pack
from .model import Mesh, Service
from .node_view import NodeView
from .policy import Effective, effective, is_locality_weighted, locality_choice, subsets
from .rules import rule_of

UNLIMITED = 4294967295
EXCHANGE_ALPN = "istio-peer-exchange"
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
INBOUND_SOURCE = "127.0.0.6"
NEVER_CLEANED_UP = timedelta(seconds=9223372035)
MINIMUM_RING_SIZE = 1024
HTTP2 = frozenset({"http2", "grpc", "grpc-web"})
POLICIES = {
    "RANDOM": ClusterLbPolicy.RANDOM,
    "ROUND_ROBIN": ClusterLbPolicy.ROUND_ROBIN,
    "LEAST_REQUEST": ClusterLbPolicy.LEAST_REQUEST,
    "LEAST_CONN": ClusterLbPolicy.LEAST_REQUEST,
    "PASSTHROUGH": ClusterLbPolicy.CLUSTER_PROVIDED,
}


def keys(mesh: Mesh, node: NodeView, *, sni_dnat: bool) -> tuple[ClusterKey, ...]:
    """Clusters of every service port, each followed by its subsets; UDP ports have none."""
    found: list[ClusterKey] = []
    for service in mesh.services:
        if not service.is_visible_in(node.namespace):
            continue
        names = subsets(rule_of(mesh, node.cluster, service, node.namespace, node.labels))
        for port in service.ports:
            if port.protocol != "udp":
                found += [ClusterKey(service, port, subset, sni_dnat) for subset in ("", *names)]
    return tuple(found)


def outbound_cluster(mesh: Mesh, node: NodeView, key: ClusterKey) -> Cluster:
    """The cluster of one service port and subset."""
    rule = rule_of(mesh, node.cluster, key.service, node.namespace, node.labels)
    merged = effective(rule, key.subset, key.port.number)
    policy = merged.policy
    cluster = Cluster(
        name=key.name,
        alt_stat_name=key.name + ";",
        type=ClusterDiscoveryType.EDS,
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=from_ads(), service_name=key.name),
        connect_timeout=_connect_timeout(mesh, policy),
        circuit_breakers=_circuit_breakers(policy),
        common_lb_config=_common_lb_config(mesh, key.service, policy),
        metadata=_metadata(merged, (key.service,), key.subset),
        filters=exchange_filters(mesh),
    )
    _set_balancer(cluster, policy)
    if _dials_pods(key, node, policy):
        cluster.type = ClusterDiscoveryType.ORIGINAL_DST
        cluster.eds_cluster_config = None
        cluster.lb_policy = ClusterLbPolicy.CLUSTER_PROVIDED
    if policy.outlier_detection:
        cluster.outlier_detection = outlier_detection(policy.outlier_detection)
    keepalive = _keepalive(mesh, policy)
    if keepalive:
        cluster.upstream_connection_options = UpstreamConnectionOptions(tcp_keepalive=keepalive)
    if not key.sni_dnat:
        _set_tls(cluster, mesh, key, policy, node)
    options = _with_timeouts(_http_options(key, node), policy)
    if options:
        cluster.typed_extension_protocol_options[HTTP_OPTIONS] = pack(options)
    return cluster


def _dials_pods(key: ClusterKey, node: NodeView, policy: Policy) -> bool:
    """Whether a sidecar goes where the client wanted to: behind a headless service, or as the rule says."""
    passed = policy.load_balancer is not None and policy.load_balancer.simple == "PASSTHROUGH"
    return node.type == "sidecar" and (key.service.headless or passed)


def _with_timeouts(options: UpstreamHttpOptions | None, policy: Policy) -> UpstreamHttpOptions | None:
    """Timeouts of connections, which istiod writes into the HTTP options of every cluster."""
    tcp = policy.connection_pool.tcp if policy.connection_pool else None
    if tcp is None or (tcp.idle_timeout is None and tcp.max_connection_duration is None):
        return options
    if options is None:
        options = UpstreamHttpOptions(
            explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(http_protocol_options=Http1ProtocolOptions())
        )
    options.common_http_protocol_options = HttpProtocolOptions(
        idle_timeout=None if tcp.idle_timeout is None else timedelta(seconds=tcp.idle_timeout),
        max_connection_duration=None
        if tcp.max_connection_duration is None
        else timedelta(seconds=tcp.max_connection_duration),
    )
    return options


def _connect_timeout(mesh: Mesh, policy: Policy) -> timedelta:
    tcp = policy.connection_pool.tcp if policy.connection_pool else None
    seconds = tcp.connect_timeout if tcp and tcp.connect_timeout is not None else mesh.config.connect_timeout
    return timedelta(seconds=seconds)


def _set_balancer(cluster: Cluster, policy: Policy) -> None:
    balancer = policy.load_balancer
    hashing = balancer.consistent_hash if balancer else None
    if hashing is None:
        simple = balancer.simple if balancer else None
        cluster.lb_policy = POLICIES.get(simple or "", ClusterLbPolicy.LEAST_REQUEST)
    elif hashing.maglev:
        cluster.lb_policy = ClusterLbPolicy.MAGLEV
        cluster.maglev_lb_config = ClusterMaglevLbConfig(table_size=hashing.maglev.table_size)
    else:
        cluster.lb_policy = ClusterLbPolicy.RING_HASH
        # Envoy's default is written, unless there is a ringHash without it.
        ring = hashing.ring_hash
        size = ring.minimum_ring_size if ring else hashing.minimum_ring_size or MINIMUM_RING_SIZE
        if size:
            cluster.ring_hash_lb_config = ClusterRingHashLbConfig(minimum_ring_size=size)


def _circuit_breakers(policy: Policy) -> CircuitBreakers:
    threshold = _unlimited()
    pool = policy.connection_pool
    if pool and pool.tcp and pool.tcp.max_connections:
        threshold.max_connections = pool.tcp.max_connections
    if pool and pool.http:
        threshold.max_pending_requests = pool.http.http1_max_pending_requests or UNLIMITED
        threshold.max_requests = pool.http.http2_max_requests or UNLIMITED
        threshold.max_retries = pool.http.max_retries or UNLIMITED
    return CircuitBreakers(thresholds=[threshold])


def _unlimited() -> CircuitBreakersThresholds:
    return CircuitBreakersThresholds(
        max_connections=UNLIMITED, max_pending_requests=UNLIMITED, max_requests=UNLIMITED, max_retries=UNLIMITED
    )


def _keepalive(mesh: Mesh, policy: Policy) -> TcpKeepalivePb | None:
    tcp = policy.connection_pool.tcp if policy.connection_pool else None
    rule: TcpKeepalive | None = tcp.tcp_keepalive if tcp and tcp.tcp_keepalive else mesh.config.tcp_keepalive
    if rule is None:
        return None
    return TcpKeepalivePb(
        keepalive_probes=rule.probes,
        keepalive_time=None if rule.time is None else int(rule.time),
        keepalive_interval=None if rule.interval is None else int(rule.interval),
    )


def _common_lb_config(mesh: Mesh, service: Service, policy: Policy) -> ClusterCommonLbConfig:
    outlier = policy.outlier_detection
    config = ClusterCommonLbConfig()
    if outlier:
        percent = outlier.min_health_percent or mesh.options.min_health_percent
        config.healthy_panic_threshold = Percent(value=float(percent))
    elif mesh.options.send_unhealthy_endpoints:
        config.healthy_panic_threshold = Percent(value=0.0)
    choice = locality_choice(policy, service.traffic_distribution, mesh.config)
    if choice.routing_enabled is not None:
        off = None if choice.routing_enabled else Percent(value=0.0)
        config.zone_aware_lb_config = ClusterCommonLbConfigZoneAwareLbConfig(
            routing_enabled=off, min_cluster_size=choice.min_cluster_size
        )
    elif is_locality_weighted(choice, outlier_detection=outlier is not None):
        config.locality_weighted_lb_config = ClusterCommonLbConfigLocalityWeightedLbConfig()
    return config


def outlier_detection(rule: OutlierRule) -> OutlierDetection:
    """Envoy's outlier detection of a rule's; what the rule leaves out is Envoy's default, success rate is off."""
    found = OutlierDetection(enforcing_success_rate=0)
    if rule.consecutive_5xx_errors is not None:
        found.consecutive_5xx = rule.consecutive_5xx_errors
        found.enforcing_consecutive_5xx = 100 if rule.consecutive_5xx_errors else 0
    if rule.consecutive_gateway_errors is not None:
        found.consecutive_gateway_failure = rule.consecutive_gateway_errors
        found.enforcing_consecutive_gateway_failure = 100 if rule.consecutive_gateway_errors else 0
    if rule.interval is not None:
        found.interval = timedelta(seconds=rule.interval)
    if rule.base_ejection_time is not None:
        found.base_ejection_time = timedelta(seconds=rule.base_ejection_time)
    if rule.max_ejection_percent:
        found.max_ejection_percent = rule.max_ejection_percent
    if rule.split_external_local_origin_errors:
        found.split_external_local_origin_errors = True
        found.enforcing_local_origin_success_rate = 0
        if rule.consecutive_local_origin_failures:
            found.consecutive_local_origin_failure = rule.consecutive_local_origin_failures
            found.enforcing_consecutive_local_origin_failure = 100
    return found


def _metadata(merged: Effective, services: tuple[Service, ...], subset: str = "") -> Metadata:
    istio: dict[str, object] = {
        "services": [{"host": one.host, "name": one.name, "namespace": one.namespace} for one in services]
    }
    if merged.rule:
        istio["config"] = config_path(merged.rule.kind, merged.rule.namespace, merged.rule.name)
    if subset:
        istio["subset"] = subset
    return metadata(istio=istio)


def exchange_filters(mesh: Mesh) -> list[UpstreamFilter]:
    """Istio's metadata exchange on the way to the endpoint, when the mesh has it."""
    if not mesh.options.metadata_exchange:
        return []
    struct = Struct.from_dict({"enable_discovery": True, "protocol": EXCHANGE_ALPN})
    # A TypedStruct has the fields of an Any; the package has no class for it.
    typed = PackedAny(type_url=PREFIX + "envoy.tcp.metadataexchange.config.MetadataExchange", value=bytes(struct))
    packed = PackedAny(type_url=PREFIX + "udpa.type.v1.TypedStruct", value=bytes(typed))
    return [UpstreamFilter(name="istio.metadata_exchange", typed_config=packed)]


def alpn(mesh: Mesh, *, http2: bool = False) -> list[str]:
    """What clients offer inside mesh mTLS."""
    exchange = mesh.options.metadata_exchange and mesh.options.metadata_exchange_alpn
    return [*([EXCHANGE_ALPN] if exchange else []), "istio", *(["h2"] if http2 else [])]


def _set_tls(cluster: Cluster, mesh: Mesh, key: ClusterKey, policy: Policy, node: NodeView) -> None:
    """Automatic mTLS by endpoint, unless the rule has its own word or the namespace has none.

    Where pods are dialled there are no endpoints to ask: mTLS if all of them have a sidecar.
    """
    mode = policy.tls.mode if policy.tls else ""
    pods = _dials_pods(key, node, policy)
    if not mode:
        behind = [one for one in mesh.workloads if key.service.selects(one)] if pods else []
        if pods and not (behind and all(one.mtls for one in behind)):
            return
        if namespace_mode(mesh, node.cluster, key.service.namespace) == "DISABLE":
            return
    if mode in ("", "ISTIO_MUTUAL"):
        tls = TransportSocket(
            name="envoy.transport_sockets.tls",
            typed_config=pack(_tls_context(mesh, key, policy)),
        )
        if mode or pods:
            cluster.transport_socket = tls
            return
        cluster.transport_socket_matches = [
            ClusterTransportSocketMatch(
                name="tlsMode-istio", match=Struct.from_dict({"tlsMode": "istio"}), transport_socket=tls
            ),
            ClusterTransportSocketMatch(
                name="tlsMode-disabled",
                match=Struct(),
                transport_socket=TransportSocket(
                    name="envoy.transport_sockets.raw_buffer", typed_config=pack(RawBuffer())
                ),
            ),
        ]


def spiffe_ids(mesh: Mesh, service: Service) -> list[str]:
    """Names that the service's workloads may have in their certificates."""
    domain = mesh.config.trust_domain
    return sorted({one.spiffe_id(domain) for one in mesh.workloads if service.selects(one)})


def _tls_context(mesh: Mesh, key: ClusterKey, policy: Policy) -> UpstreamTlsContext:
    tls = policy.tls
    names = list(tls.subject_alt_names) if tls and tls.subject_alt_names else spiffe_ids(mesh, key.service)
    validation = CertificateValidationContext(match_subject_alt_names=[StringMatcher(exact=name) for name in names])
    return UpstreamTlsContext(
        sni=(tls.sni if tls else "") or key.sni,
        common_tls_context=CommonTlsContext(
            alpn_protocols=alpn(mesh, http2=key.port.protocol in HTTP2),
            tls_params=TlsParameters(
                tls_minimum_protocol_version=TlsParametersTlsProtocol.TLSv1_2,
                tls_maximum_protocol_version=TlsParametersTlsProtocol.TLSv1_3,
            ),
            tls_certificate_sds_secret_configs=[SdsSecretConfig(name="default", sds_config=from_sds())],
            combined_validation_context=CommonTlsContextCombinedCertificateValidationContext(
                default_validation_context=validation,
                validation_context_sds_secret_config=SdsSecretConfig(name="ROOTCA", sds_config=from_sds()),
            ),
        ),
    )


def _downstream_protocol(common: HttpProtocolOptions | None = None) -> UpstreamHttpOptions:
    return UpstreamHttpOptions(
        use_downstream_protocol_config=HttpProtocolOptionsUseDownstreamHttpConfig(
            http_protocol_options=Http1ProtocolOptions(), http2_protocol_options=Http2ProtocolOptions()
        ),
        common_http_protocol_options=common,
    )


def _http_options(key: ClusterKey, node: NodeView) -> UpstreamHttpOptions | None:
    if key.port.protocol in HTTP2:
        return UpstreamHttpOptions(
            explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=Http2ProtocolOptions())
        )
    if key.port.protocol == "auto" and node.type == "sidecar":
        return _downstream_protocol()
    return None


def black_hole() -> Cluster:
    """Where connections end that may lead nowhere."""
    return Cluster(
        name="BlackHoleCluster",
        alt_stat_name="BlackHoleCluster;",
        type=ClusterDiscoveryType.STATIC,
        connect_timeout=timedelta(seconds=10),
    )


def _original_destination(name: str, stat_name: str) -> Cluster:
    return Cluster(
        name=name,
        alt_stat_name=stat_name + ";",
        type=ClusterDiscoveryType.ORIGINAL_DST,
        connect_timeout=timedelta(seconds=10),
        lb_policy=ClusterLbPolicy.CLUSTER_PROVIDED,
        circuit_breakers=CircuitBreakers(thresholds=[_unlimited()]),
    )


def _from_inbound() -> BindConfig:
    return BindConfig(source_address=SocketAddress(address=INBOUND_SOURCE, port_value=0))


def sidecar_clusters(mesh: Mesh, node: NodeView) -> list[Cluster]:
    """What only sidecars have: passthrough clusters, and one inbound cluster per port of its own services."""
    idle = HttpProtocolOptions(idle_timeout=timedelta(seconds=300))
    passthrough = _original_destination("PassthroughCluster", "PassthroughCluster")
    passthrough.filters = exchange_filters(mesh)
    inbound = _original_destination("InboundPassthroughCluster", "PassthroughCluster")
    inbound.upstream_bind_config = _from_inbound()
    for cluster in (passthrough, inbound):
        options = _downstream_protocol(idle)
        cluster.typed_extension_protocol_options[HTTP_OPTIONS] = pack(options)
    return [passthrough, inbound, *_inbound_clusters(mesh, node)]


def _inbound_clusters(mesh: Mesh, node: NodeView) -> list[Cluster]:
    if node.workload is None:
        return []
    services: dict[int, list[Service]] = {}
    automatic: set[int] = set()
    for service in mesh.services:
        if service.selects(node.workload):
            for port in service.ports:
                target = target_port(node.workload, port)
                if target and port.protocol != "udp":
                    services.setdefault(target, []).append(service)
                    automatic |= {target} if port.protocol == "auto" else set()
    found = []
    for target, behind in services.items():
        cluster = _original_destination(f"inbound|{target}||", f"inbound|{target}||")
        cluster.upstream_bind_config = _from_inbound()
        cluster.cleanup_interval = NEVER_CLEANED_UP
        cluster.common_lb_config = ClusterCommonLbConfig()
        rules = (rule_of(mesh, node.cluster, one, node.namespace) for one in behind)
        cluster.metadata = _metadata(Effective(Policy(), next(filter(None, rules), None)), tuple(behind))
        if target in automatic:
            cluster.typed_extension_protocol_options[HTTP_OPTIONS] = pack(_downstream_protocol())
        found.append(cluster)
    return found
