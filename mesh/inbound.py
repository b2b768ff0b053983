"""LDS for what arrives at a sidecar: chains for each of its ports, by mTLS mode and protocol.

Source of the rules: istio, pilot/pkg/networking/core/listener_inbound.go and filterchain_options.go.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from envoy_data_plane.envoy.config.core.v3 import Metadata, TrafficDirection
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration

from .authorization import Policies
from .connection_manager import server_manager
from .endpoints import target_port
from .filters import BLACK_HOLE, INBOUND_PASSTHROUGH, exchange, plain_proxy, stats
from .http_routes import inbound_routes
from .inspectors import HTTP_NAMES, http_inspector, original_destination, original_source, tls_inspector
from .messages import additional, address, config_path, metadata
from .model import Mesh, port_protocol
from .node_view import NodeView
from .peer_authentication import PERMISSIVE, STRICT, PeerModes, workload_modes
from .scope import Scope
from .tls_contexts import server_socket
from .virtual_hosts import HTTP

AUTO = "auto"
TLS, RAW = "tls", "raw_buffer"
MESH_TCP = ("istio-peer-exchange", "istio")
MESH_HTTP = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
MESH_ALL = ("istio", "istio-peer-exchange", *MESH_HTTP)
NO_PORT = 0
PRIVILEGED = 1024


@dataclass(frozen=True, slots=True)
class InboundPort:
    """A port of the workload. ``service_port`` and ``title``: what telemetry calls it; ``binds``: where it listens."""

    number: int
    service_port: int
    protocol: str
    title: str
    binds: tuple[str, ...]
    bound: bool = False
    metadata: Metadata | None = None

    @property
    def is_rest(self) -> bool:
        """Whether it stands for all ports that no service has."""
        return self.title == ""

    @property
    def cluster(self) -> str:
        """Where it leads."""
        return INBOUND_PASSTHROUGH if self.is_rest else f"inbound|{self.number}||"


@dataclass(frozen=True, slots=True)
class Match:
    """What a chain is for. ``http``: it ends in a connection manager; ``terminates``: the mesh's TLS ends there."""

    transport: str
    alpn: tuple[str, ...] = ()
    http: bool = False
    terminates: bool = False


def matches(mode: str, protocol: str) -> tuple[Match, ...]:
    """The matrix of modes and kinds of ports: which connections there are, each with a chain of its own."""
    if mode == STRICT:
        http = Match(TLS, MESH_HTTP if protocol == AUTO else (), http=True, terminates=True)
        tcp = Match(TLS, terminates=True)
        return {AUTO: (http, tcp)}.get(protocol, (http,) if protocol in HTTP else (tcp,))
    raw_http = Match(RAW, HTTP_NAMES if protocol == AUTO else (), http=True)
    raw_tcp = Match(RAW)
    if mode != PERMISSIVE:
        return {AUTO: (raw_http, raw_tcp)}.get(protocol, (raw_http,) if protocol in HTTP else (raw_tcp,))
    if protocol == AUTO:
        mesh_http = Match(TLS, MESH_HTTP, http=True, terminates=True)
        return (mesh_http, raw_http, Match(TLS, MESH_TCP, terminates=True), raw_tcp, Match(TLS))
    if protocol in HTTP:
        return (Match(TLS, MESH_ALL, http=True, terminates=True), raw_http)
    return (Match(TLS, MESH_ALL, terminates=True), Match(TLS), raw_tcp)


def inbound_listeners(mesh: Mesh, node: NodeView, scope: Scope) -> list[Listener]:
    """The listener that redirected connections arrive at, and those that bind ports of their own."""
    modes = workload_modes(mesh, node.cluster, node.namespace, node.labels)
    policies = Policies.of(mesh, node)
    ports = sorted(inbound_ports(mesh, node, scope), key=lambda one: one.number)
    made = [(port, list(_chains(mesh, node, port, modes.of(port.number), policies))) for port in ports]
    found = [
        _listener(mesh, node, f"{port.binds[0]}_{port.number}", port.binds, port.number, chains, bound=True)
        for port, chains in made
        if port.bound
    ]
    if node.interception == "NONE":
        return found
    chains = list(_rest(mesh, node, modes, ports, policies))
    chains += [chain for port, own in made if not port.bound for chain in own]
    number = mesh.config.proxy_inbound_listen_port
    return [_listener(mesh, node, "virtualInbound", node.wildcards, number, chains, bound=False), *found]


def inbound_ports(mesh: Mesh, node: NodeView, scope: Scope) -> Iterator[InboundPort]:
    """Ports that a Sidecar names, else those of the node's services; of two for the same the first counts.

    With INTERCEPTION_MODE NONE nobody listens for services: it would be where the application wants to.
    """
    if scope.ingress:
        yield from _ingress_ports(node, scope)
        return
    if node.interception == "NONE" or node.workload is None:
        return
    own = node.own_ports | {mesh.config.proxy_listen_port, mesh.config.proxy_inbound_listen_port}
    taken = set(own)
    for service in mesh.services:
        if service.selects(node.workload):
            for port in service.ports:
                number = target_port(node.workload, port)
                if number and port.protocol != "udp" and number not in taken:
                    taken.add(number)
                    yield InboundPort(number, port.number, port.protocol, service.host, node.wildcards)


def _ingress_ports(node: NodeView, scope: Scope) -> Iterator[InboundPort]:
    assert scope.resource
    name = f"{scope.resource.name}.{scope.resource.namespace}"
    path = config_path(scope.resource.kind, scope.resource.namespace, scope.resource.name)
    for entry in scope.ingress:
        bound = node.interception == "NONE" if entry.capture_mode == "DEFAULT" else entry.capture_mode == "NONE"
        number = entry.port.number
        if bound and number < PRIVILEGED and node.unprivileged:
            continue
        if number in node.own_ports and entry.bind == node.wildcards[0]:
            continue
        yield InboundPort(
            number,
            number,
            port_protocol("", entry.port.protocol, "TCP"),
            name,
            (entry.bind,) if entry.bind else node.inbound_binds,
            bound,
            metadata(istio={"config": path}),
        )


def _rest(
    mesh: Mesh, node: NodeView, modes: PeerModes, ports: Sequence[InboundPort], policies: Policies
) -> Iterator[FilterChain]:
    """For what goes to the listener itself, and to ports that nobody has named; some have a mode of theirs."""
    proxy = plain_proxy(node, BLACK_HOLE)
    yield FilterChain(
        filter_chain_match=FilterChainMatch(destination_port=mesh.config.proxy_inbound_listen_port),
        name="virtualInbound-blackhole",
        filters=[*exchange(mesh), *stats(mesh, node, inbound=True), proxy],
    )
    named = {one.number for one in ports}
    for number in (NO_PORT, *(port for port in sorted(modes.ports) if port not in named)):
        yield from _chains(mesh, node, InboundPort(number, 0, AUTO, "", node.wildcards), modes.of(number), policies)


def _chains(mesh: Mesh, node: NodeView, port: InboundPort, mode: str, policies: Policies) -> Iterator[FilterChain]:
    for match in matches(mode, port.protocol):
        filters = _http(mesh, node, port, policies) if match.http else _tcp(mesh, node, port, policies)
        yield FilterChain(
            filter_chain_match=FilterChainMatch(
                destination_port=port.number or None,
                transport_protocol=match.transport,
                application_protocols=list(match.alpn),
            ),
            filters=filters,
            transport_socket=server_socket(mesh, http=match.http) if match.terminates else None,
            name=_name(port, http=match.http),
            metadata=port.metadata,
        )


def _name(port: InboundPort, *, http: bool) -> str:
    if port.is_rest:
        return "virtualInbound-catchall-http" if http else "virtualInbound"
    return f"{port.binds[0]}_{port.number}"


def _tcp(mesh: Mesh, node: NodeView, port: InboundPort, policies: Policies) -> list[Filter]:
    # Metadata comes first, so that what policies refuse is counted with it.
    proxy = plain_proxy(node, port.cluster)
    return [*exchange(mesh), *policies.network_filters(), *stats(mesh, node, inbound=True), proxy]


def _http(mesh: Mesh, node: NodeView, port: InboundPort, policies: Policies) -> list[Filter]:
    prefix = port.cluster if port.is_rest else f"inbound_{port.binds[0]}_{port.number}"
    routes: RouteConfiguration = inbound_routes(port.cluster, port.service_port, port.title, port.protocol)
    manager = server_manager(mesh, node, prefix, routes, policies.http_filters(), port.protocol)
    return [*exchange(mesh), manager]


def _listener(
    mesh: Mesh, node: NodeView, name: str, binds: tuple[str, ...], port: int, chains: list[FilterChain], *, bound: bool
) -> Listener:
    transparent = node.interception == "TPROXY" and not bound
    return Listener(
        name=name,
        address=address(binds[0], port),
        additional_addresses=additional(binds[1:], port),
        filter_chains=chains,
        listener_filters=_listener_filters(chains, bound=bound, transparent=transparent),
        listener_filters_timeout=timedelta(seconds=mesh.config.protocol_detection_timeout),
        continue_on_listener_filters_timeout=True,
        transparent=True if transparent else None,
        traffic_direction=TrafficDirection.INBOUND,
        max_connections_to_accept_per_socket_event=1,
    )


def _listener_filters(chains: list[FilterChain], *, bound: bool, transparent: bool) -> list[ListenerFilter]:
    """Inspectors, for those ports whose chains ask what they find out."""
    hellos: dict[int, bool] = {}
    http: dict[int, bool] = {}
    for match in (chain.filter_chain_match for chain in chains):
        assert match
        port = match.destination_port or NO_PORT
        hellos[port] = hellos.get(port, False) or match.transport_protocol == TLS
        http[port] = http.get(port, False) or bool({*match.application_protocols} & {*HTTP_NAMES})
    found = [] if bound else [original_destination()]
    if transparent:
        found.append(original_source())
    if any(hellos.values()):
        found.append(tls_inspector(hellos))
    if any(http.values()):
        found.append(http_inspector(http))
    return found
