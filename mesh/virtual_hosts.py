"""RDS of a sidecar: for each port the hosts that clients may name, and for each sniffed port the one of its service.

Source of the rules: istio, pilot/pkg/networking/core/httproute.go.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.config.route.v3 import Route as RoutePb

from .endpoints import ClusterKey
from .filters import PASSTHROUGH
from .http_routes import EVERYTHING, NO_LIMIT, resource_routes, service_route
from .model import DOMAIN, Mesh, Resource, Service, ServicePort
from .node_view import NodeView
from .routes import spec_of
from .rules import covers, full_host
from .scope import Egress, Scope

HTTP = frozenset({"http", "http2", "grpc", "grpc-web"})
MAYBE_HTTP = HTTP | {"auto"}
LARGEST_RESPONSE = 1 << 20
"""Bytes of a direct response's body, as istiod limits it."""
REFUSED_STATUS = 502
WEB_PORT = 80


@dataclass(frozen=True, slots=True)
class _Routed:
    """Routes for services of one port, or for names that no service has."""

    routes: list[RoutePb]
    services: tuple[Service, ...]
    names: tuple[str, ...] = ()


def port_routes(mesh: Mesh, node: NodeView, scope: Scope, port: int) -> RouteConfiguration:
    """The RouteConfiguration that all HTTP services of a port share."""
    hosts = sorted(_virtual_hosts(mesh, node, scope.egress_of(port), port), key=lambda one: one.name)
    return _configuration(str(port), [*hosts, _everything_else(scope)])


def sniffed_routes(mesh: Mesh, node: NodeView, scope: Scope, service: Service, port: int) -> RouteConfiguration:
    """The one of a service's port whose connections may be HTTP: any host leads to it."""
    found = []
    for host in _virtual_hosts(mesh, node, scope.egress_of(port), port):
        if service.host in host.domains:
            host.domains = ["*"]
            found.append(host)
    return _configuration(f"{service.host}:{port}", found)


def _configuration(name: str, hosts: list[VirtualHost]) -> RouteConfiguration:
    return RouteConfiguration(
        name=name,
        virtual_hosts=hosts,
        validate_clusters=False,
        max_direct_response_body_size_bytes=LARGEST_RESPONSE,
        ignore_port_in_host_matching=True,
    )


def _virtual_hosts(mesh: Mesh, node: NodeView, egress: Egress, port: int) -> Iterator[VirtualHost]:
    services = {one.host: one for one in egress.services if any(own.number == port for own in one.ports)}
    routed = list(_by_virtual_service(mesh, node, egress, services, port))
    taken = {one.host for entry in routed for one in entry.services}
    for service in services.values():
        own = _port(service, port)
        if service.host not in taken and own.protocol in MAYBE_HTTP:
            routed.append(_Routed([service_route(mesh, node, ClusterKey(service, own))], (service,)))
    known = {one.host for entry in routed for one in entry.services}
    domains: set[str] = set()
    names: set[str] = set()
    for entry in routed:
        hosts = [(name.lower(), [name.lower()]) for name in entry.names]
        hosts += [(one.host, list(_domains(one, node, known))) for one in entry.services]
        for name, wanted in hosts:
            title = f"{name}:{port}"
            free = [domain for domain in wanted if domain.lower() not in domains]
            if title in names or not free:
                continue
            names.add(title)
            domains.update(domain.lower() for domain in free)
            yield VirtualHost(name=title, domains=free, routes=entry.routes, include_request_attempt_count=True)


def _port(service: Service, number: int) -> ServicePort:
    return next(one for one in service.ports if one.number == number)


def _by_virtual_service(
    mesh: Mesh, node: NodeView, egress: Egress, services: dict[str, Service], port: int
) -> Iterator[_Routed]:
    """Names that no service has are served on port 80 alone, as istiod does."""
    owners = {host: _owner(egress.virtual_services, host) for host in services}
    for resource in egress.virtual_services:
        named = tuple(one for host, one in services.items() if owners[host] is resource)
        mine = tuple(one for one in named if _port(one, port).protocol in MAYBE_HTTP)
        hosts = [full_host(host, resource.namespace) for host in spec_of(resource).hosts]
        unknown = tuple(host for host in hosts if not any(covers(host, one) for one in services))
        if not mine and (port != WEB_PORT or named or not unknown):
            continue
        routes = resource_routes(mesh, node, resource, port)
        if routes:
            yield _Routed(routes, mine, unknown)


def _owner(resources: Iterable[Resource], host: str) -> Resource | None:
    """The VirtualService of a host: the most specific one, of equals the first."""
    best: tuple[tuple[bool, int], Resource] | None = None
    for resource in resources:
        for pattern in spec_of(resource).hosts:
            full = full_host(pattern, resource.namespace).lower()
            rank = (not full.startswith("*"), len(full))
            if covers(full, host) and (best is None or rank > best[0]):
                best = rank, resource
    return best[1] if best else None


def _domains(service: Service, node: NodeView, known: set[str]) -> Iterator[str]:
    """The host, its short forms as seen from the client's namespace, then the service's addresses."""
    host = service.host
    names = [host, f"{host}."]
    if host.endswith(f".svc.{DOMAIN}") and ".svc." in node.domain:
        short = host.removesuffix(f".svc.{DOMAIN}")
        name, _, namespace = short.partition(".")
        if namespace == node.domain.partition(".svc.")[0]:
            names += [name, f"{short}.svc", short]
        else:
            names += [short, f"{short}.svc"]
    names = [host, *(one for one in names[1:] if one not in known)]
    yield from names
    if service.headless:
        yield from (f"*.{one}" for one in names)
    yield from (f"[{address}]" if ":" in address else address for address in node.addresses_of(service))


def _everything_else(scope: Scope) -> VirtualHost:
    """What no host of the port is: it goes where it wanted to, or is refused."""
    match = RouteMatch(prefix=EVERYTHING)
    if scope.allows_any:
        action = RouteAction(cluster=PASSTHROUGH, timeout=NO_LIMIT, max_grpc_timeout=NO_LIMIT)
        route = RoutePb(name="allow_any", match=match, route=action)
    else:
        refusal = DirectResponseAction(status=REFUSED_STATUS)
        route = RoutePb(name="block_all", match=match, direct_response=refusal)
    return VirtualHost(name=route.name, domains=["*"], routes=[route], include_request_attempt_count=True)
