"""Where VirtualServices lead the connections of one proxy: clusters and their parts, by host and port. Pure.

Only what a VirtualService decides is here: a service port without one leads to its own cluster.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from eastgate.mesh.model import Mesh, Service, ServicePort
from eastgate.mesh.node_view import NodeView
from eastgate.mesh.outbound import TLS_PORTS
from eastgate.mesh.routes import Route, RoutesByHost, cluster_of, tcp_routes, tls_routes
from eastgate.mesh.scope import Egress, scope_of
from eastgate.mesh.virtual_hosts import HTTP, MAYBE_HTTP, port_routes
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher, RouteMatch
from envoy_data_plane.envoy.config.route.v3 import Route as RoutePb

HTTP_REST = "http"
"""What HTTP requests do that no other match is for."""
NO_ROUTE = "answered 404"

Parts = Mapping[str, float]
"""What is led where: parts, 0 to 1, by name of a cluster, or by what is answered at once."""


@dataclass(frozen=True, slots=True)
class Place:
    """Connections to a host and port. ``which`` of them: by server name, address or request; empty: all of TCP."""

    host: str
    port: int
    which: str = ""

    @property
    def rest(self) -> "Place":
        """What a connection is that nothing tells apart from the others of its kind."""
        return Place(self.host, self.port, HTTP_REST if self.which.startswith(HTTP_REST) else "")

    @property
    def own_cluster(self) -> str:
        """The cluster that it leads to without any VirtualService."""
        return f"outbound|{self.port}||{self.host}"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" + (f" {self.which}" if self.which else "")


def routed(mesh: Mesh, node: NodeView, hosts: frozenset[str] | None = None) -> dict[Place, Parts]:
    """What VirtualServices decide for a sidecar; a gateway's clusters are reached by name.

    ``hosts``: of these alone.
    """
    found: dict[Place, Parts] = {}
    if node.type != "sidecar" or not mesh.of_kind("VirtualService", node.cluster):
        return found
    scope = scope_of(mesh, node, hosts)
    for egress in scope.egress:
        by_host = RoutesByHost(egress.virtual_services)
        led: dict[str, list[Service]] = {}
        for one in egress.services:
            if by_host.of(one):
                led.setdefault(one.host, []).append(one)
        for host, services in led.items():
            # What is decided for one host asks for no other.
            alone = replace(egress, services=tuple(services), virtual_services=by_host.of(services[0]))
            for service in services:
                for port in service.ports:
                    if egress.port is None or egress.port.number == port.number:
                        found.update(_tcp(mesh, node, alone, service, port))
            numbers = {port.number for one in services for port in one.ports if port.protocol in MAYBE_HTTP}
            for number in sorted(number for number in numbers if scope.egress_of(number) is egress):
                routes = port_routes(mesh, node, replace(scope, egress=(alone,)), number)
                for virtual in routes.virtual_hosts:
                    if host in virtual.domains:
                        found.update(_http(host, number, virtual.routes))
    return found


def parts_of(place: Place, found: Mapping[Place, Parts]) -> Parts:
    """Where connections of a place go, also where no VirtualService speaks of just them."""
    return found.get(place) or found.get(place.rest) or {place.own_cluster: 1.0}


def _tcp(
    mesh: Mesh, node: NodeView, egress: Egress, service: Service, port: ServicePort
) -> Iterator[tuple[Place, Parts]]:
    if port.protocol in HTTP or port.protocol == "udp":
        return
    of_port = tls_routes if port.protocol in TLS_PORTS else tcp_routes
    for route in of_port(egress.virtual_services, node, service, port.number):
        asked = {"server name": sorted(route.server_names), "to": route.subnets}
        which = " ".join(f"{name} {', '.join(values)}" for name, values in asked.items() if values)
        yield Place(service.host, port.number, which), _destinations(mesh, node, route, port.number)


def _destinations(mesh: Mesh, node: NodeView, route: Route, port: int) -> Parts:
    names = [cluster_of(mesh, node, route.resource, one.destination, port)[1] for one in route.destinations]
    return _weighed(names, [one.weight for one in route.destinations])


def _weighed(names: Sequence[str], weights: Sequence[int]) -> Parts:
    """Weights are ratios; a single destination takes everything, whatever it weighs."""
    total = sum(weights)
    found: dict[str, float] = {}
    for name, weight in zip(names, weights, strict=True):
        part = 1.0 if len(names) == 1 else weight / total
        if part:
            found[name] = found.get(name, 0.0) + part
    return found


def _http(host: str, port: int, routes: Iterable[RoutePb]) -> Iterator[tuple[Place, Parts]]:
    rest: Parts = {NO_ROUTE: 1.0}
    for route in routes:
        which = told(route.match or RouteMatch())
        if which:
            yield Place(host, port, f"{HTTP_REST} {which}"), _action(route)
        else:
            rest = _action(route)
    place = Place(host, port, HTTP_REST)
    if rest != {place.own_cluster: 1.0}:
        yield place, rest


def _action(route: RoutePb) -> Parts:
    if route.redirect:
        return {"answered with a redirect": 1.0}
    if route.direct_response:
        return {f"answered {route.direct_response.status}": 1.0}
    assert route.route
    if route.route.weighted_clusters:
        clusters = route.route.weighted_clusters.clusters
        return _weighed([one.name for one in clusters], [int(one.weight or 0) for one in clusters])
    return {str(route.route.cluster): 1.0}


def told(match: RouteMatch) -> str:
    """What a route asks of a request; empty: nothing."""
    parts = []
    if match.path is not None:
        parts.append(match.path)
    elif match.safe_regex is not None:
        parts.append(f"~{match.safe_regex.regex}")
    elif match.prefix not in (None, "", "/"):
        parts.append(f"{match.prefix}*")
    parts += map(_header, match.headers)
    return " ".join(parts)


def _header(wanted: HeaderMatcher) -> str:
    said = wanted.string_match
    value = "*"
    if said and said.exact is not None:
        value = said.exact
    elif said and said.prefix is not None:
        value = f"{said.prefix}*"
    elif said and said.safe_regex:
        value = f"~{said.safe_regex.regex}"
    return f"{wanted.name}{'!' if wanted.invert_match else ''}={value}"
