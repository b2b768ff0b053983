"""LDS: the listeners of gateways that pass TLS or TCP through, and the outbound TCP listeners of sidecars.

Not made: what a proxy would need for HTTP (shared HTTP ports, protocol detection, inbound). docs/mesh-vs-istiod.md
lists it. Source of the rules: istio, pilot/pkg/networking/core/{gateway,listener}.go.
"""

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
from .istio import GatewaySpec, Server
from .messages import PREFIX, address, config_path, metadata, pack
from .model import Mesh, Resource, Service, ServicePort
from .node_view import NodeView
from .policy import effective
from .routes import Route, cluster_of, gateway_routes, is_auto_passthrough, is_served, tcp_route, tls_routes
from .rules import covers, rule_of

ISTIO_ALPN = ("istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2")
TLS_HANDSHAKE = timedelta(seconds=15)
# What istiod writes into its stats filter: nothing for sidecars, field 6 (a gateway exchanges no metadata) for routers.
STATS_OF = {"sidecar": b"", "router": b"\x30\x01"}
TLS_PORTS = frozenset({"tls", "https"})
PLAIN_TCP = TLS_PORTS | {"tcp", "mongo", "redis", "mysql"}
WILDCARD = "0.0.0.0"
PASSTHROUGH = "PassthroughCluster"
NO_PORT = 0


def listeners(mesh: Mesh, node: NodeView) -> list[Listener]:
    """All listeners of a node."""
    return _gateway_listeners(mesh, node) if node.type == "router" else _outbound_listeners(mesh, node)


def gateway_servers(mesh: Mesh, node: NodeView) -> list[tuple[Resource, Server]]:
    """Servers of the Gateways whose selector covers this router, by the Gateways' age."""
    found = []
    for resource in sorted(mesh.of_kind("Gateway", node.cluster), key=lambda one: (one.created, one.name)):
        spec = resource.spec
        assert isinstance(spec, GatewaySpec)
        if node.type == "router" and spec.selector.items() <= node.labels.items():
            found += [(resource, server) for server in spec.servers]
    return found


def has_passthrough(mesh: Mesh, node: NodeView) -> bool:
    """Whether a router has an AUTO_PASSTHROUGH server, for which it needs SNI-DNAT clusters."""
    return any(is_auto_passthrough(server) for _, server in gateway_servers(mesh, node))


def _stats(mesh: Mesh, node: NodeView) -> list[Filter]:
    if not mesh.config.default_providers.metrics:
        return []
    config = PackedAny(type_url=PREFIX + "stats.PluginConfig", value=STATS_OF[node.type])
    return [Filter(name="istio.stats", typed_config=config)]


def _tcp_proxy(mesh: Mesh, node: NodeView, service: Service | None, subset: str, name: str) -> TcpProxy:
    """istiod asks the rule for timeouts, its subset as well for the hash, and settings of a port for neither."""
    rule = rule_of(mesh, node.cluster, service, node.namespace, node.labels) if service else None
    proxy = TcpProxy(stat_prefix=name, cluster=name)
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


def _ends_in(proxy: TcpProxy) -> Filter:
    return Filter(name="envoy.filters.network.tcp_proxy", typed_config=pack(proxy))


def _gateway_listeners(mesh: Mesh, node: NodeView) -> list[Listener]:
    """One listener per address and port; servers of the same place are merged.

    A server one of whose hosts another one of the place has is skipped, as istiod does. What terminates TLS or speaks
    HTTP is not made: mesh_file.py says so when it reads the Gateway.
    """
    places: dict[tuple[str, int], list[FilterChain]] = {}
    taken: dict[tuple[str, int], set[str]] = {}
    for gateway, server in gateway_servers(mesh, node):
        place = (server.bind or WILDCARD, _bound_port(mesh, node, server.port.number))
        hosts = set(server.hosts) if server.tls else set()
        if hosts & taken.setdefault(place, set()):
            continue
        taken[place] |= hosts
        chains = _server_chains(mesh, node, gateway, server)
        if chains:
            places.setdefault(place, []).extend(chains)
    return [
        _gateway_listener(bind, port, chains, inspected=bool(taken[bind, port]))
        for (bind, port), chains in places.items()
    ]


def _gateway_listener(bind: str, port: int, chains: list[FilterChain], *, inspected: bool) -> Listener:
    inspector = TlsInspector(initial_read_buffer_size=512)
    return Listener(
        name=f"{bind}_{port}",
        address=address(bind, port),
        filter_chains=chains,
        listener_filters=[ListenerFilter(name="envoy.filters.listener.tls_inspector", typed_config=pack(inspector))]
        if inspected
        else [],
        traffic_direction=TrafficDirection.OUTBOUND,
        max_connections_to_accept_per_socket_event=1,
    )


def _server_chains(mesh: Mesh, node: NodeView, gateway: Resource, server: Server) -> list[FilterChain]:
    if is_auto_passthrough(server):
        hosts = [host.rpartition("/")[2] for host in server.hosts]
        return [
            FilterChain(
                filter_chain_match=FilterChainMatch(server_names=[key.name], application_protocols=list(ISTIO_ALPN)),
                filters=[*_stats(mesh, node), _ends_in(_tcp_proxy(mesh, node, key.service, key.subset, key.name))],
                transport_socket_connect_timeout=TLS_HANDSHAKE,
            )
            for key in keys(mesh, node, sni_dnat=True)
            if any(covers(host, key.service.host) for host in hosts)
        ]
    if not is_served(server):
        return []
    chains = []
    for route in gateway_routes(mesh, node, gateway, server):
        chain = _routed_chain(mesh, node, route, server.port.number)
        # Of a gateway, istiod does not say where a chain comes from.
        chain.metadata = None
        chains.append(chain)
    return chains


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
        _outbound_listener(mesh, node, service, port, where)
        for service in mesh.services
        if service.is_visible_in(node.namespace)
        for port in service.ports
        if (where := service.addresses.get(node.cluster, "")) and port.protocol in PLAIN_TCP
    ]


def _outbound_listener(mesh: Mesh, node: NodeView, service: Service, port: ServicePort, where: str) -> Listener:
    chains = [_routed_chain(mesh, node, route, port.number) for route in _outbound_routes(mesh, node, service, port)]
    filters = []
    default = None
    if any(chain.filter_chain_match for chain in chains):
        inspector = TlsInspector(initial_read_buffer_size=512)
        filters.append(ListenerFilter(name="envoy.filters.listener.tls_inspector", typed_config=pack(inspector)))
        # What matches everything is the default; without one, what no route names goes where it wanted to.
        default = next((chain for chain in chains if not chain.filter_chain_match), None) or _passed_on(mesh, node)
        chains = [chain for chain in chains if chain.filter_chain_match]
    return Listener(
        name=f"{where}_{port.number}",
        address=address(where, port.number),
        filter_chains=chains or [_own_chain(mesh, node, service, port)],
        default_filter_chain=default,
        listener_filters=filters,
        listener_filters_timeout=timedelta(0),
        continue_on_listener_filters_timeout=True,
        traffic_direction=TrafficDirection.OUTBOUND,
        bind_to_port=False,
    )


def _passed_on(mesh: Mesh, node: NodeView) -> FilterChain:
    proxy = TcpProxy(stat_prefix=PASSTHROUGH, cluster=PASSTHROUGH)
    filters = [*_stats(mesh, node), _ends_in(proxy)]
    return FilterChain(filter_chain_match=FilterChainMatch(), name="PassthroughFilterChain", filters=filters)


def _outbound_routes(mesh: Mesh, node: NodeView, service: Service, port: ServicePort) -> list[Route]:
    """Routes of VirtualServices: by server name for a port that is TLS, where tcp routes are not asked."""
    if port.protocol in TLS_PORTS:
        return tls_routes(mesh, node, service, port)
    route = tcp_route(mesh, node, service, port)
    return [route] if route else []


def _own_chain(mesh: Mesh, node: NodeView, service: Service, port: ServicePort) -> FilterChain:
    """To the service's own cluster."""
    name = ClusterKey(service, port).name
    filters = [*_stats(mesh, node), _ends_in(_tcp_proxy(mesh, node, service, "", name))]
    return FilterChain(transport_socket_connect_timeout=TLS_HANDSHAKE, filters=filters)


def _routed_chain(mesh: Mesh, node: NodeView, route: Route, port: int) -> FilterChain:
    """Where a VirtualService sends connections: one cluster, or several by weight."""
    resource = route.resource
    targets = [(*cluster_of(mesh, resource, one.destination, port), one) for one in route.destinations]
    (service, name, first), *more = targets
    # The rule of the first one counts for all, without its subset.
    proxy = _tcp_proxy(mesh, node, service, "" if more else first.destination.subset, name)
    if more:
        proxy.cluster = None
        proxy.stat_prefix = f"{resource.name}.{resource.namespace}"
        proxy.weighted_clusters = TcpProxyWeightedCluster(
            clusters=[
                TcpProxyWeightedClusterClusterWeight(name=name, weight=one.weight)
                for _, name, one in targets
                if one.weight
            ]
        )
    # Any name is no match at all.
    named = route.server_names and "*" not in route.server_names
    match = FilterChainMatch(server_names=list(route.server_names)) if named else None
    return FilterChain(
        filter_chain_match=match,
        filters=[*_stats(mesh, node), _ends_in(proxy)],
        transport_socket_connect_timeout=TLS_HANDSHAKE,
        metadata=metadata(istio={"config": config_path(resource.kind, resource.namespace, resource.name)}),
    )
