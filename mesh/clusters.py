"""CDS: one cluster per visible service port and subset, as istiod builds them for sidecars and gateways.

Source of the rules: istio, pilot/pkg/networking/core/cluster*.go.
"""

from datetime import timedelta

from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterCommonLbConfig,
    ClusterCommonLbConfigLocalityWeightedLbConfig,
    ClusterCommonLbConfigZoneAwareLbConfig,
    ClusterDiscoveryType,
    ClusterDnsLookupFamily,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
    ClusterMaglevLbConfig,
    ClusterRingHashLbConfig,
    ClusterTransportSocketMatch,
    OutlierDetection,
)
from envoy_data_plane.envoy.config.core.v3 import Metadata, TransportSocket, TypedExtensionConfig
from envoy_data_plane.envoy.extensions.network.dns_resolver.cares.v3 import CaresDnsResolverConfig
from envoy_data_plane.envoy.extensions.transport_sockets.raw_buffer.v3 import RawBuffer
from envoy_data_plane.envoy.type.v3 import Percent
from envoy_data_plane.google.protobuf import Struct

from .assignments import assignment
from .connection_pool import (
    HTTP_OPTIONS,
    circuit_breakers,
    connect_timeout,
    http_options,
    keepalive_options,
    with_checked_names,
    with_timeouts,
)
from .endpoints import ClusterKey
from .filters import upstream_exchange
from .istio import OutlierDetection as OutlierRule
from .istio import Policy
from .messages import config_path, from_ads, metadata, pack
from .model import Mesh, Service
from .node_view import NodeView
from .peer_authentication import DISABLE, namespace_mode
from .policy import Effective, effective, is_locality_weighted, locality_choice, subsets
from .rules import rule_of
from .scope import scope_of
from .tls_contexts import client_socket, origination_socket

MINIMUM_RING_SIZE = 1024
DNS_JITTER = timedelta(milliseconds=100)
DNS_QUERIES = 100
POLICIES = {
    "RANDOM": ClusterLbPolicy.RANDOM,
    "ROUND_ROBIN": ClusterLbPolicy.ROUND_ROBIN,
    "LEAST_REQUEST": ClusterLbPolicy.LEAST_REQUEST,
    "LEAST_CONN": ClusterLbPolicy.LEAST_REQUEST,
    "PASSTHROUGH": ClusterLbPolicy.CLUSTER_PROVIDED,
}


def keys(mesh: Mesh, node: NodeView, *, sni_dnat: bool, hosts: frozenset[str] | None = None) -> tuple[ClusterKey, ...]:
    """Clusters of every service port, each followed by its subsets; UDP ports have none. ``hosts``: of these alone."""
    found: list[ClusterKey] = []
    for service in scope_of(mesh, node, hosts).services:
        if sni_dnat and service.external:
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
        connect_timeout=connect_timeout(mesh, policy),
        circuit_breakers=circuit_breakers(policy),
        common_lb_config=_common_lb_config(mesh, key.service, policy),
        metadata=service_metadata(merged, (key.service,), key.subset),
        filters=upstream_exchange(mesh),
    )
    _set_balancer(cluster, policy)
    if _dials_pods(key, node, policy):
        cluster.type = ClusterDiscoveryType.ORIGINAL_DST
        cluster.eds_cluster_config = None
        cluster.lb_policy = ClusterLbPolicy.CLUSTER_PROVIDED
    if key.service.by_name:
        _set_names(cluster, mesh, node, key)
    if policy.outlier_detection:
        cluster.outlier_detection = outlier_detection(policy.outlier_detection)
    cluster.upstream_connection_options = keepalive_options(mesh, policy)
    if not key.sni_dnat:
        _set_tls(cluster, mesh, key, policy, node)
    options = with_timeouts(
        with_checked_names(http_options(key.port.protocol, node), policy, sni_dnat=key.sni_dnat), policy
    )
    if options:
        cluster.typed_extension_protocol_options[HTTP_OPTIONS] = pack(options)
    return cluster


def _set_names(cluster: Cluster, mesh: Mesh, node: NodeView, key: ClusterKey) -> None:
    """Endpoints are names, which the proxy looks up itself; they stand in the cluster."""
    once = key.service.resolution == "DNS_ROUND_ROBIN"
    cluster.type = ClusterDiscoveryType.LOGICAL_DNS if once else ClusterDiscoveryType.STRICT_DNS
    cluster.eds_cluster_config = None
    cluster.load_assignment = assignment(mesh, node, key)
    cluster.dns_lookup_family = ClusterDnsLookupFamily.V4_ONLY if node.ipv4 else ClusterDnsLookupFamily.V6_ONLY
    if node.serves_both:
        cluster.dns_lookup_family = ClusterDnsLookupFamily.ALL
    cluster.dns_refresh_rate = timedelta(seconds=mesh.config.dns_refresh_rate)
    cluster.dns_jitter = DNS_JITTER
    cluster.respect_dns_ttl = True
    resolver = pack(CaresDnsResolverConfig(udp_max_queries=DNS_QUERIES))
    cluster.typed_dns_resolver_config = TypedExtensionConfig(
        name="envoy.network.dns_resolver.cares", typed_config=resolver
    )


def _dials_pods(key: ClusterKey, node: NodeView, policy: Policy) -> bool:
    """Whether a sidecar goes where the client wanted to: behind a headless service, or as the rule says."""
    passed = policy.load_balancer is not None and policy.load_balancer.simple == "PASSTHROUGH"
    # istiod looks names up before it asks the rule.
    return node.type == "sidecar" and (key.service.dials_destination or passed) and not key.service.by_name


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


def service_metadata(merged: Effective, services: tuple[Service, ...], subset: str = "") -> Metadata:
    istio: dict[str, object] = {
        "services": [{"host": one.host, "name": one.name, "namespace": one.namespace} for one in services]
    }
    if merged.rule:
        istio["config"] = config_path(merged.rule.kind, merged.rule.namespace, merged.rule.name)
    if subset:
        istio["subset"] = subset
    if merged.policy.tls and merged.policy.tls.originates:
        istio["alpn_override"] = "false"
    if any(one.external for one in services):
        istio["external"] = True
    return metadata(istio=istio)


def _set_tls(cluster: Cluster, mesh: Mesh, key: ClusterKey, policy: Policy, node: NodeView) -> None:
    """Automatic mTLS by endpoint, unless the rule has its own word or the namespace has none.

    Where pods are dialled there are no endpoints to ask: mTLS if all of them have a sidecar.
    """
    mode = policy.tls.mode if policy.tls else ""
    pods = _dials_pods(key, node, policy)
    if not mode:
        behind = mesh.behind(key.service) if pods else []
        if key.service.external or (pods and not (behind and all(one.mtls for one in behind))):
            return
        if namespace_mode(mesh, node.cluster, key.service.namespace) == DISABLE:
            return
    if policy.tls and policy.tls.originates:
        cluster.transport_socket = origination_socket(mesh, key, policy.tls)
    elif mode in ("", "ISTIO_MUTUAL"):
        tls = client_socket(mesh, key, policy.tls)
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


def black_hole() -> Cluster:
    """Where connections end that may lead nowhere."""
    return Cluster(
        name="BlackHoleCluster",
        alt_stat_name="BlackHoleCluster;",
        type=ClusterDiscoveryType.STATIC,
        connect_timeout=timedelta(seconds=10),
    )
