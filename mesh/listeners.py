"""LDS: the AUTO_PASSTHROUGH listeners of gateways, and the outbound TCP listeners of sidecars.

Not made: what a proxy would need for HTTP (shared HTTP ports, protocol detection, inbound). docs/mesh-vs-istiod.md
lists it. Source of the rules: istio, pilot/pkg/networking/core/{gateway,listener}.go.
"""

from dataclasses import replace
from datetime import timedelta

from envoy_data_plane.envoy.config.core.v3 import TrafficDirection
from envoy_data_plane.envoy.config.listener.v3 import (
    Filter,
    FilterChain,
    FilterChainMatch,
    Listener,
    ListenerFilter,
)
from envoy_data_plane.envoy.extensions.filters.listener.tls_inspector.v3 import TlsInspector
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import (
    TcpProxy,
    TcpProxyWeightedCluster,
    TcpProxyWeightedClusterClusterWeight,
)
from envoy_data_plane.envoy.type.v3 import HashPolicy, HashPolicySourceIp
from envoy_data_plane.google.protobuf import Any as PackedAny

from .clusters import keys
from .endpoints import ClusterKey, target_port
from .istio import Destination, GatewaySpec, Server, TcpRoute, VirtualServiceSpec
from .messages import PREFIX, address, config_path, metadata, pack
from .model import Mesh, Resource, Service, ServicePort
from .node_view import NodeView
from .policy import covers, effective, full_host, rule_of

ISTIO_ALPN = ("istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2")
TLS_HANDSHAKE = timedelta(seconds=15)
# What istiod writes into its stats filter: nothing for sidecars, field 6 (a gateway exchanges no metadata) for routers.
STATS_OF = {"sidecar": b"", "router": b"\x30\x01"}
PLAIN_TCP = frozenset({"tcp", "tls", "https", "mongo", "redis", "mysql"})
WILDCARD = "0.0.0.0"
NO_PORT = 0


def listeners(mesh: Mesh, node: NodeView) -> list[Listener]:
    """All listeners of a node."""
    return _gateway_listeners(mesh, node) if node.type == "router" else _outbound_listeners(mesh, node)


def passthrough_servers(mesh: Mesh, node: NodeView) -> list[Server]:
    """AUTO_PASSTHROUGH servers of the Gateways whose selector covers this router."""
    found = []
    for resource in mesh.of_kind("Gateway", node.cluster):
        spec = resource.spec
        assert isinstance(spec, GatewaySpec)
        if node.type == "router" and spec.selector.items() <= node.labels.items():
            found += [one for one in spec.servers if one.tls and one.tls.mode == "AUTO_PASSTHROUGH"]
    return found


def _stats(mesh: Mesh, node: NodeView) -> list[Filter]:
    if not mesh.config.default_providers.metrics:
        return []
    config = PackedAny(type_url=PREFIX + "stats.PluginConfig", value=STATS_OF[node.type])
    return [Filter(name="istio.stats", typed_config=config)]


def _tcp_proxy(mesh: Mesh, node: NodeView, key: ClusterKey) -> TcpProxy:
    """istiod asks the rule for timeouts, its subset as well for the hash, and settings of a port for neither."""
    rule = rule_of(mesh, node.cluster, key.service, node.namespace)
    proxy = TcpProxy(stat_prefix=key.name, cluster=key.name)
    balancer = effective(rule, key.subset, NO_PORT).policy.load_balancer
    if balancer and balancer.consistent_hash and balancer.consistent_hash.use_source_ip:
        proxy.hash_policy = [HashPolicy(source_ip=HashPolicySourceIp())]
    pool = effective(rule, "", NO_PORT).policy.connection_pool
    tcp = pool.tcp if pool else None
    if tcp and tcp.idle_timeout is not None:
        proxy.idle_timeout = timedelta(seconds=tcp.idle_timeout)
    if tcp and tcp.max_connection_duration is not None:
        proxy.max_downstream_connection_duration = timedelta(seconds=tcp.max_connection_duration)
    return proxy


def _ends_in(proxy: TcpProxy) -> Filter:
    return Filter(name="envoy.filters.network.tcp_proxy", typed_config=pack(proxy))


def _gateway_listeners(mesh: Mesh, node: NodeView) -> list[Listener]:
    """One listener per address and port; servers of the same place are merged."""
    places: dict[tuple[str, int], list[str]] = {}
    for server in passthrough_servers(mesh, node):
        place = (server.bind or WILDCARD, _bound_port(mesh, node, server.port.number))
        places.setdefault(place, []).extend(host.rpartition("/")[2] for host in server.hosts)
    found = []
    for (bind, port), hosts in places.items():
        chains = [
            FilterChain(
                filter_chain_match=FilterChainMatch(server_names=[key.name], application_protocols=list(ISTIO_ALPN)),
                filters=[*_stats(mesh, node), _ends_in(_tcp_proxy(mesh, node, key))],
                transport_socket_connect_timeout=TLS_HANDSHAKE,
            )
            for key in keys(mesh, node, sni_dnat=True)
            if any(covers(host, key.service.host) for host in hosts)
        ]
        if not chains:
            continue
        inspector = TlsInspector(initial_read_buffer_size=512)
        found.append(
            Listener(
                name=f"{bind}_{port}",
                address=address(bind, port),
                filter_chains=chains,
                listener_filters=[
                    ListenerFilter(name="envoy.filters.listener.tls_inspector", typed_config=pack(inspector))
                ],
                traffic_direction=TrafficDirection.OUTBOUND,
                max_connections_to_accept_per_socket_event=1,
            )
        )
    return found


def _bound_port(mesh: Mesh, node: NodeView, number: int) -> int:
    """The port to bind for a server's: the target port where the gateway's own Service exposes it."""
    if node.workload is None:
        return number
    for service in mesh.services:
        for port in service.ports:
            if port.number == number and service.selects(node.workload):
                return target_port(node.workload, port) or number
    return node.workload.listens.get(number, number)


def _outbound_listeners(mesh: Mesh, node: NodeView) -> list[Listener]:
    """One per TCP port of each service with a virtual address in this cluster."""
    return [
        Listener(
            name=f"{where}_{port.number}",
            address=address(where, port.number),
            filter_chains=[_outbound_chain(mesh, node, service, port)],
            listener_filters_timeout=timedelta(0),
            continue_on_listener_filters_timeout=True,
            traffic_direction=TrafficDirection.OUTBOUND,
            bind_to_port=False,
        )
        for service in mesh.services
        for port in service.ports
        if (where := service.addresses.get(node.cluster, "")) and port.protocol in PLAIN_TCP
    ]


def _outbound_chain(mesh: Mesh, node: NodeView, service: Service, port: ServicePort) -> FilterChain:
    """The chain of a TCP port: to the service's own cluster unless a VirtualService sends it elsewhere."""
    chain = FilterChain(transport_socket_connect_timeout=TLS_HANDSHAKE)
    route = tcp_route(mesh, node, service, port)
    if route is None:
        proxy = _tcp_proxy(mesh, node, ClusterKey(service, port))
    else:
        resource, entry = route
        chain.metadata = metadata(istio={"config": config_path(resource.kind, resource.namespace, resource.name)})
        targets = [(_destination(mesh, resource, one.destination, port), one.weight) for one in entry.route]
        (first, _), *more = targets
        proxy = _tcp_proxy(mesh, node, replace(first, subset="") if more else first)
        if more:
            # The rule of the first one counts for all, without its subset.
            proxy.cluster = None
            proxy.stat_prefix = f"{resource.name}.{resource.namespace}"
            proxy.weighted_clusters = TcpProxyWeightedCluster(
                clusters=[
                    TcpProxyWeightedClusterClusterWeight(name=key.name, weight=weight)
                    for key, weight in targets
                    if weight
                ]
            )
    chain.filters = [*_stats(mesh, node), _ends_in(proxy)]
    return chain


def _destination(mesh: Mesh, resource: Resource, destination: Destination, port: ServicePort) -> ClusterKey:
    """The cluster that a route's destination names. Hosts and subsets were checked when the mesh was read."""
    host = full_host(destination.host, resource.namespace)
    service = next(one for one in mesh.services if one.host == host)
    number = destination.port.number if destination.port else port.number
    found = next((one for one in service.ports if one.number == number), port)
    return ClusterKey(service, found, destination.subset)


def tcp_route(mesh: Mesh, node: NodeView, service: Service, port: ServicePort) -> tuple[Resource, TcpRoute] | None:
    """The first tcp route of a VirtualService that this proxy's connections to the port take, None: none."""
    for resource in mesh.of_kind("VirtualService", node.cluster):
        spec = resource.spec
        assert isinstance(spec, VirtualServiceSpec)
        if spec.gateways and "mesh" not in spec.gateways:
            continue
        if not any(covers(full_host(host, resource.namespace), service.host) for host in spec.hosts):
            continue
        for entry in spec.tcp:
            if not entry.match or any(
                match.source_labels.items() <= node.labels.items()
                and match.source_namespace in ("", node.namespace)
                and match.port in (0, port.number)
                and (not match.gateways or "mesh" in match.gateways)
                for match in entry.match
            ):
                return resource, entry
    return None
