"""Network filters that several kinds of filter chains share: Istio's own, and tcp_proxy at their end."""

from datetime import timedelta

from envoy_data_plane.envoy.config.cluster.v3 import Filter as UpstreamFilter
from envoy_data_plane.envoy.config.listener.v3 import Filter
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import TcpProxy
from envoy_data_plane.envoy.type.v3 import HashPolicy, HashPolicySourceIp
from envoy_data_plane.google.protobuf import Any as PackedAny

from .messages import EXCHANGE_ALPN, PREFIX, pack, typed_struct
from .model import Mesh, Service
from .node_view import NodeView
from .policy import effective
from .rules import rule_of

PASSTHROUGH, BLACK_HOLE, INBOUND_PASSTHROUGH = "PassthroughCluster", "BlackHoleCluster", "InboundPassthroughCluster"
EXCHANGE = "istio.metadata_exchange"
STATS = "istio.stats"
# What istiod writes into its stats filter: nothing for clients, field 6 (no metadata is exchanged, or it was before)
# for gateways and inbound.
OUTBOUND_STATS, OTHER_STATS = b"", b"\x30\x01"
NO_PORT = 0


def stats_config(mesh: Mesh, node: NodeView, *, inbound: bool = False) -> PackedAny | None:
    """Configuration of Istio's stats filter, for network and HTTP filters; None without a provider of metrics."""
    if not mesh.config.default_providers.metrics:
        return None
    value = OTHER_STATS if inbound or node.type == "router" else OUTBOUND_STATS
    return PackedAny(type_url=PREFIX + "stats.PluginConfig", value=value)


def stats(mesh: Mesh, node: NodeView, *, inbound: bool = False) -> list[Filter]:
    """Istio's stats filter, where there is one."""
    config = stats_config(mesh, node, inbound=inbound)
    return [Filter(name=STATS, typed_config=config)] if config else []


def exchange(mesh: Mesh) -> list[Filter]:
    """Istio's metadata exchange in front of inbound chains, when the mesh has it."""
    return [Filter(name=EXCHANGE, typed_config=_exchange_config())] if mesh.options.metadata_exchange else []


def upstream_exchange(mesh: Mesh) -> list[UpstreamFilter]:
    """The same on the way to an endpoint."""
    return [UpstreamFilter(name=EXCHANGE, typed_config=_exchange_config())] if mesh.options.metadata_exchange else []


def _exchange_config() -> PackedAny:
    content = {"enable_discovery": True, "protocol": EXCHANGE_ALPN}
    return typed_struct("envoy.tcp.metadataexchange.config.MetadataExchange", content)


def ends_in(proxy: TcpProxy) -> Filter:
    """The filter at the end of a chain."""
    return Filter(name="envoy.filters.network.tcp_proxy", typed_config=pack(proxy))


def plain_proxy(node: NodeView, cluster: str) -> Filter:
    """To a cluster that no rule is for."""
    return ends_in(TcpProxy(stat_prefix=cluster, cluster=cluster, idle_timeout=_idle_timeout(node)))


def tcp_proxy(mesh: Mesh, node: NodeView, service: Service | None, subset: str, name: str) -> TcpProxy:
    """istiod asks the rule for timeouts, its subset as well for the hash, and settings of a port for neither."""
    rule = rule_of(mesh, node.cluster, service, node.namespace, node.labels) if service else None
    proxy = TcpProxy(stat_prefix=name, cluster=name, idle_timeout=_idle_timeout(node))
    balancer = effective(rule, subset, NO_PORT).policy.load_balancer
    if balancer and balancer.consistent_hash and balancer.consistent_hash.use_source_ip:
        proxy.hash_policy = [HashPolicy(source_ip=HashPolicySourceIp())]
    pool = effective(rule, "", NO_PORT).policy.connection_pool
    tcp = pool.tcp if pool else None
    if tcp and tcp.idle_timeout is not None:
        proxy.idle_timeout = timedelta(seconds=tcp.idle_timeout)
    if tcp and tcp.max_connection_duration is not None:
        proxy.max_downstream_connection_duration = timedelta(seconds=tcp.max_connection_duration)
    return proxy


def _idle_timeout(node: NodeView) -> timedelta | None:
    return None if node.idle_timeout_s is None else timedelta(seconds=node.idle_timeout_s)
