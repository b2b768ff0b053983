"""LDS of gateways: listeners that pass TLS or TCP through. Those of sidecars stand in outbound.py and inbound.py.

Source of the rules: istio, pilot/pkg/networking/core/gateway.go.
"""

from envoy_data_plane.envoy.config.core.v3 import TrafficDirection
from envoy_data_plane.envoy.config.listener.v3 import FilterChain, FilterChainMatch, Listener

from .clusters import keys
from .endpoints import target_port
from .filters import ends_in, stats, tcp_proxy
from .inspectors import tls_inspector
from .messages import additional, address
from .model import Mesh, Resource
from .node_view import NodeView
from .routed_chain import TLS_HANDSHAKE, routed_filters
from .routes import gateway_routes, is_auto_passthrough, is_served
from .rules import covers
from .virtual_service import GatewaySpec, Server

ISTIO_ALPN = ("istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2")


Place = tuple[tuple[str, ...], int]
"""Addresses, the first one the name, and a port."""


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


def gateway_listeners(mesh: Mesh, node: NodeView) -> list[Listener]:
    """One listener per address and port; servers of the same place are merged.

    A server one of whose hosts another one of the place has is skipped, as istiod does. What terminates TLS or speaks
    HTTP is not made: mesh_file.py says so when it reads the Gateway.
    """
    places: dict[Place, list[FilterChain]] = {}
    taken: dict[Place, set[str]] = {}
    for gateway, server in gateway_servers(mesh, node):
        place = ((server.bind,) if server.bind else node.wildcards, _bound_port(mesh, node, server.port.number))
        hosts = set(server.hosts) if server.tls else set()
        if hosts & taken.setdefault(place, set()):
            continue
        taken[place] |= hosts
        chains = _server_chains(mesh, node, gateway, server)
        if chains:
            places.setdefault(place, []).extend(chains)
    return [
        _gateway_listener(binds, port, chains, inspected=bool(taken[binds, port]))
        for (binds, port), chains in places.items()
    ]


def gateway_clusters(mesh: Mesh, node: NodeView, hosts: frozenset[str] | None = None) -> frozenset[str]:
    """SNI-DNAT clusters that a filter chain of the gateway leads to. ``hosts``: of these alone."""
    patterns = [
        host.rpartition("/")[2]
        for _, server in gateway_servers(mesh, node)
        if is_auto_passthrough(server)
        for host in server.hosts
    ]
    return frozenset(
        key.name
        for key in keys(mesh, node, sni_dnat=True, hosts=hosts)
        if any(covers(pattern, key.service.host) for pattern in patterns)
    )


def _gateway_listener(binds: tuple[str, ...], port: int, chains: list[FilterChain], *, inspected: bool) -> Listener:
    return Listener(
        name=f"{binds[0]}_{port}",
        address=address(binds[0], port),
        additional_addresses=additional(binds[1:], port),
        filter_chains=chains,
        listener_filters=[tls_inspector()] if inspected else [],
        traffic_direction=TrafficDirection.OUTBOUND,
        max_connections_to_accept_per_socket_event=1,
    )


def _server_chains(mesh: Mesh, node: NodeView, gateway: Resource, server: Server) -> list[FilterChain]:
    if is_auto_passthrough(server):
        hosts = [host.rpartition("/")[2] for host in server.hosts]
        return [
            FilterChain(
                filter_chain_match=FilterChainMatch(server_names=[key.name], application_protocols=list(ISTIO_ALPN)),
                filters=[*stats(mesh, node), ends_in(tcp_proxy(mesh, node, key.service, key.subset, key.name))],
                transport_socket_connect_timeout=TLS_HANDSHAKE,
            )
            for key in keys(mesh, node, sni_dnat=True)
            if any(covers(host, key.service.host) for host in hosts)
        ]
    if not is_served(server):
        return []
    # Of a gateway, istiod does not say where a chain comes from.
    return [
        FilterChain(
            filter_chain_match=_named(route.server_names),
            filters=routed_filters(mesh, node, route, server.port.number),
            transport_socket_connect_timeout=TLS_HANDSHAKE,
        )
        for route in gateway_routes(mesh, node, gateway, server)
    ]


def _named(server_names: tuple[str, ...]) -> FilterChainMatch | None:
    """Any name is no match at all."""
    return FilterChainMatch(server_names=list(server_names)) if server_names and "*" not in server_names else None


def _bound_port(mesh: Mesh, node: NodeView, number: int) -> int:
    """The port to bind for a server's: the target port where the gateway's own Service exposes it."""
    if node.workload is None:
        return number
    for service in mesh.services:
        for port in service.ports:
            if port.number == number and service.selects(node.workload):
                return target_port(node.workload, port) or number
    return node.workload.listens.get(number, number)
