"""LDS for the clients of a sidecar: a listener for each place where a service is reached, and the one behind it.

Source of the rules: istio, pilot/pkg/networking/core/listener.go (buildSidecarOutboundListeners) and tls.go. What
connections to an address and port may be, is collected first, service by service; then each such place becomes a
listener. Two services on one place share it as far as their connections can be told apart; else the first one has it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from ipaddress import ip_interface

from envoy_data_plane.envoy.config.core.v3 import CidrRange, TrafficDirection
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, FilterChainMatch, Listener

from .connection_manager import client_manager
from .endpoints import ClusterKey, as_endpoints
from .filters import BLACK_HOLE, PASSTHROUGH, ends_in, plain_proxy, stats, tcp_proxy
from .inspectors import HTTP_NAMES, http_inspector, tls_inspector
from .messages import additional, address
from .model import Mesh, Service, ServicePort, port_protocol
from .node_view import NodeView
from .routed_chain import TLS_HANDSHAKE, routed_filters, where_from
from .routes import Route, tcp_routes, tls_routes
from .scope import HTTP_PROXY, Egress, Scope
from .virtual_hosts import HTTP

WILDCARD = "0.0.0.0"
TLS_PORTS = frozenset({"tls", "https"})
TCP_PORTS = TLS_PORTS | {"tcp", "mongo", "redis", "mysql"}
SERVER_FIRST = frozenset({"mongo", "mysql"})
"""Ports where sniffing would wait for a client that waits itself."""
PRIVILEGED = 1024
AUTO = "auto"


def _is_anything(prefix: str) -> bool:
    """Whether istiod leaves a range out of a match; a chain of such ranges alone is not the default for that."""
    return prefix.partition("/")[0] == WILDCARD


@dataclass(frozen=True, slots=True)
class _Chain:
    """A filter chain to be. ``route_name``: of its RouteConfiguration, empty: it is TCP, with these filters."""

    server_names: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    http_only: bool = False
    route_name: str = ""
    filters: tuple[Filter, ...] = ()
    route: Route | None = None

    @property
    def takes_all(self) -> bool:
        return not self.prefixes and not self.http_only and (not self.server_names or "*" in self.server_names)

    @property
    def _asks(self) -> tuple[set[str], set[str], bool]:
        ranges = {str(ip_interface(one).network) for one in self.prefixes if not _is_anything(one)}
        return set(self.server_names) - {"*"}, ranges, self.http_only

    def is_like(self, other: "_Chain") -> bool:
        """Whether nobody could tell which of the two is meant."""
        return self._asks == other._asks


@dataclass(slots=True)
class _Place:
    """What listens on a port, at one address or one of each family, of which the first names it.

    ``protocol`` "auto": TCP and HTTP are told apart by their first bytes.
    """

    binds: tuple[str, ...]
    port: int
    bound: bool
    protocol: str
    service_protocol: str
    chains: list[_Chain]
    locked: bool = False


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One service port to be reached through an egress entry. ``binds`` empty: where the service is."""

    egress: Egress
    service: Service
    port: ServicePort
    binds: tuple[str, ...]
    prefixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outbound:
    """Listeners, and the RouteConfigurations they refer to: a port, and the service where it is one service's own."""

    listeners: tuple[Listener, ...]
    routes: tuple[tuple[int, Service | None], ...]


def outbound(mesh: Mesh, node: NodeView, scope: Scope) -> Outbound:
    """All of a sidecar, with what takes what is redirected; with INTERCEPTION_MODE NONE nothing is."""
    book = _Book(mesh, node)
    owners: dict[str, Service] = {}
    for egress in scope.egress:
        for wanted in _wanted(mesh, node, egress):
            owners[wanted.service.host] = wanted.service
            book.add(wanted)
        book.close(egress)
    places = book.places.values()
    names = [chain.route_name for place in places for chain in place.chains if chain.route_name]
    listeners = [_listener(mesh, node, scope, place) for place in places]
    if node.interception != "NONE":
        listeners.append(_virtual_outbound(mesh, node, scope))
    parts = [name.rpartition(":") for name in dict.fromkeys(names)]
    return Outbound(tuple(listeners), tuple((int(port), owners.get(host)) for host, _, port in parts))


def _wanted(mesh: Mesh, node: NodeView, egress: Egress) -> Iterator[_Wanted]:
    """Service ports of an egress entry, each with where it is to listen."""
    binds = (egress.bind,) if egress.bind else node.loopbacks if egress.bound else ()
    if egress.port:
        number, protocol = egress.port.number, egress.port.protocol
        port = ServicePort(number, 0, _protocol(protocol), egress.port.name)
        if _may_bind(mesh, node, egress, binds, port):
            for service in egress.services:
                yield _Wanted(egress, service, port, binds)
        return
    for service in egress.services:
        for port in service.ports:
            if port.protocol == "udp" or not _may_bind(mesh, node, egress, binds, port):
                continue
            if not binds and service.headless and port.protocol in TCP_PORTS | {AUTO}:
                for _, pod in as_endpoints(mesh, service):
                    if pod.address and pod.address != node.address:
                        yield _Wanted(egress, service, port, pod.all_addresses)
            else:
                yield _Wanted(egress, service, port, binds)


def _protocol(text: str) -> str:
    """Protocol of a port that a Sidecar opens."""
    return HTTP_PROXY if text.lower() == HTTP_PROXY else port_protocol("", text, "TCP")


def _may_bind(mesh: Mesh, node: NodeView, egress: Egress, binds: tuple[str, ...], port: ServicePort) -> bool:
    """Not where the proxy itself listens; below 1024 only with the privilege, where a socket is bound."""
    if egress.bound and port.number < PRIVILEGED and node.unprivileged:
        return False
    wild = binds[:1] == node.wildcards[:1] or (not binds and port.protocol in HTTP)
    own = node.own_ports | {mesh.config.proxy_listen_port, mesh.config.proxy_inbound_listen_port}
    return not (wild and port.number in own)


class _Book:
    """Places by address and port, in the order in which the first service came."""

    def __init__(self, mesh: Mesh, node: NodeView) -> None:
        self._mesh, self._node = mesh, node
        self.places: dict[tuple[str, int], _Place] = {}

    def close(self, egress: Egress) -> None:
        """Entries with ports keep what they have: those after them add nothing to it."""
        if egress.port:
            for place in self.places.values():
                place.locked = True

    def add(self, wanted: _Wanted) -> None:
        """Give a service port its place, or its part of one that is there."""
        protocol = wanted.port.protocol
        http = protocol in HTTP or protocol == HTTP_PROXY
        binds, prefixes = self._where(wanted, http=http)
        wanted = replace(wanted, binds=binds, prefixes=prefixes)
        key = binds[0], wanted.port.number
        there = self.places.get(key)
        if there is None:
            kind = AUTO if http and self._is_wild(binds) and protocol != HTTP_PROXY else protocol
            chains = self._chains(wanted, binds)
            self.places[key] = _Place(binds, key[1], wanted.egress.bound, kind, protocol, chains)
        elif not there.locked:
            self._join(there, wanted, http=http)

    def _is_wild(self, binds: tuple[str, ...]) -> bool:
        return binds[0] == self._node.wildcards[0]

    def _where(self, wanted: _Wanted, *, http: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """HTTP is told apart by host and listens anywhere; a service that is a range is told apart by address."""
        if wanted.binds:
            return wanted.binds, ()
        anywhere = self._node.wildcards
        found = () if http else self._node.addresses_of(wanted.service)
        if any("/" in one for one in found[:1]):
            return anywhere, found[:1]
        # Of a Service without an address istiod takes IPv4 for granted.
        return found or (anywhere if http or wanted.service.is_entry else (WILDCARD,)), ()

    def _join(self, there: _Place, wanted: _Wanted, *, http: bool) -> None:
        incoming = wanted.port.protocol
        if http and there.protocol not in TCP_PORTS:
            # Its hosts are in the routes that are there.
            return
        if incoming != there.service_protocol and {incoming, there.service_protocol} & SERVER_FIRST:
            return
        if incoming == AUTO and there.protocol in HTTP:
            there.protocol, there.chains = AUTO, self._chains(wanted, there.binds)
            return
        more = self._chains(wanted, there.binds)
        if incoming == AUTO and there.protocol == AUTO:
            more = [one for one in more if not one.route_name]
        for chain in more:
            if not any(chain.is_like(one) for one in there.chains):
                there.chains.append(chain)
        if (incoming in TCP_PORTS) != (there.protocol in TCP_PORTS):
            there.protocol = AUTO

    def _chains(self, wanted: _Wanted, binds: tuple[str, ...]) -> list[_Chain]:
        protocol = wanted.port.protocol
        if protocol == HTTP_PROXY:
            return [_Chain(route_name=str(wanted.port.number))]
        if protocol in HTTP:
            return [_Chain(http_only=self._is_wild(binds), route_name=str(wanted.port.number))]
        found = list(self._tcp_chains(wanted))
        if protocol == AUTO:
            own = not self._is_wild(binds)
            name = f"{wanted.service.host}:{wanted.port.number}" if own else str(wanted.port.number)
            found.append(_Chain(http_only=True, route_name=name))
        return found

    def _tcp_chains(self, wanted: _Wanted) -> Iterator[_Chain]:
        mesh, node, service, port = self._mesh, self._node, wanted.service, wanted.port
        resources = wanted.egress.virtual_services
        tls = port.protocol in TLS_PORTS
        routes = (tls_routes if tls else tcp_routes)(resources, node, service, port.number)
        for route in routes:
            led = tuple(routed_filters(mesh, node, route, port.number))
            # Of subnets for TCP, istiod does not say where a chain comes from.
            source = route if tls or not route.subnets else None
            prefixes = route.subnets or wanted.prefixes
            yield _Chain(tuple(sorted(route.server_names)), prefixes, filters=led, route=source)
        if any(tls or route.subnets in ((), tuple(sorted(wanted.prefixes))) for route in routes):
            return
        # With a port of the Sidecar's own, it is the service's that counts, where it has only one.
        real = service.ports[0] if len(service.ports) == 1 else port
        name = ClusterKey(service, real).name
        filters = [*stats(mesh, node), ends_in(tcp_proxy(mesh, node, service, "", name))]
        unnamed = self._is_wild(wanted.binds) and not service.addresses
        named = tls and (bool(wanted.prefixes) or unnamed)
        yield _Chain((service.host,) if named else (), wanted.prefixes, filters=tuple(filters))


def _listener(mesh: Mesh, node: NodeView, scope: Scope, place: _Place) -> Listener:
    name = f"{place.binds[0]}_{place.port}"
    listener = Listener(
        name=name,
        address=address(place.binds[0], place.port),
        additional_addresses=additional(place.binds[1:] if node.dual_stack else (), place.port),
        listener_filters_timeout=timedelta(0),
        continue_on_listener_filters_timeout=True,
        traffic_direction=TrafficDirection.OUTBOUND,
    )
    if place.bound:
        listener.max_connections_to_accept_per_socket_event = 1
    else:
        listener.bind_to_port = False
    if any(chain.server_names for chain in place.chains):
        listener.listener_filters.append(tls_inspector())
    if any(chain.http_only for chain in place.chains):
        listener.listener_filters.append(http_inspector())
        listener.listener_filters_timeout = timedelta(seconds=mesh.config.protocol_detection_timeout)
    for chain in place.chains:
        made = _filter_chain(mesh, node, name, place, chain)
        if chain.takes_all:
            # What matches everything is the default; of several the last, as in istiod's loop.
            listener.default_filter_chain = made
        else:
            listener.filter_chains.append(made)
    if listener.default_filter_chain and not listener.filter_chains:
        listener.filter_chains = [listener.default_filter_chain]
        listener.default_filter_chain = None
    elif not listener.default_filter_chain:
        listener.default_filter_chain = FilterChain(
            filter_chain_match=FilterChainMatch(),
            name="PassthroughFilterChain",
            filters=_elsewhere(mesh, node, scope),
        )
    return listener


def _filter_chain(mesh: Mesh, node: NodeView, listener: str, place: _Place, chain: _Chain) -> FilterChain:
    made = FilterChain(filters=list(chain.filters), transport_socket_connect_timeout=TLS_HANDSHAKE)
    if chain.route_name:
        made.filters = [client_manager(mesh, node, listener, chain.route_name, place.service_protocol)]
    if chain.route:
        made.metadata = where_from(chain.route)
    if not chain.takes_all:
        made.filter_chain_match = FilterChainMatch(
            server_names=[] if "*" in chain.server_names else list(chain.server_names),
            prefix_ranges=[_range(one) for one in sorted(chain.prefixes) if not _is_anything(one)],
            transport_protocol="raw_buffer" if chain.http_only else "",
            application_protocols=list(HTTP_NAMES) if chain.http_only else [],
        )
    return made


def _range(text: str) -> CidrRange:
    # As it was written, host bits included: Envoy masks them.
    one = ip_interface(text)
    return CidrRange(address_prefix=str(one.ip), prefix_len=one.network.prefixlen)


def _elsewhere(mesh: Mesh, node: NodeView, scope: Scope) -> list[Filter]:
    """Where connections go that no service is for."""
    return [*stats(mesh, node), plain_proxy(node, PASSTHROUGH if scope.allows_any else BLACK_HOLE)]


def _virtual_outbound(mesh: Mesh, node: NodeView, scope: Scope) -> Listener:
    """The listener that redirected connections arrive at; what goes to its own port would go round in circles."""
    port = mesh.config.proxy_listen_port
    loop = FilterChain(
        filter_chain_match=FilterChainMatch(destination_port=port),
        name="virtualOutbound-blackhole",
        filters=[*stats(mesh, node), plain_proxy(replace(node, idle_timeout_s=None), BLACK_HOLE)],
    )
    rest = FilterChain(name="virtualOutbound-catchall-tcp", filters=_elsewhere(mesh, node, scope))
    return Listener(
        name="virtualOutbound",
        address=address(node.wildcards[0], port),
        additional_addresses=additional(node.wildcards[1:], port),
        filter_chains=[loop, rest],
        use_original_dst=True,
        transparent=True if node.interception == "TPROXY" else None,
        traffic_direction=TrafficDirection.OUTBOUND,
        max_connections_to_accept_per_socket_event=1,
    )
