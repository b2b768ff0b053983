"""Which routes of VirtualServices a proxy's connections take: those of the mesh, and those of a gateway's server.

Pure functions. Source of the rules: istio, pilot/pkg/networking/core/tls.go and gateway.go, pilot/pkg/model
(initVirtualServices, SelectVirtualServices).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .model import Mesh, Resource, Service, port_protocol
from .node_view import NodeView
from .rules import PRIVATE, PUBLIC, covers, full_host
from .service_entries import service_of
from .virtual_service import (
    Destination,
    HttpRoute,
    L4Match,
    RouteDestination,
    Server,
    TcpRoute,
    TlsRoute,
    VirtualServiceSpec,
)

MESH = "mesh"


@dataclass(frozen=True, slots=True)
class Route:
    """Where the connections of one match go. ``server_names`` empty: any. ``subnets``: where they were going; empty: to
    the service.
    """

    resource: Resource
    destinations: tuple[RouteDestination, ...]
    server_names: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()


def spec_of(resource: Resource) -> VirtualServiceSpec:
    """The spec of a VirtualService."""
    assert isinstance(resource.spec, VirtualServiceSpec)
    return resource.spec


def entries_of(resource: Resource) -> list[HttpRoute | TcpRoute | TlsRoute]:
    """All routes of a VirtualService, of whichever protocol."""
    spec = spec_of(resource)
    return [*spec.http, *spec.tcp, *spec.tls]


def virtual_services(mesh: Mesh, node: NodeView, gateway: str) -> list[Resource]:
    """Those that apply to a gateway ("namespace/name", or "mesh"): private ones first, then public, each by age."""
    default = frozenset(mesh.config.default_virtual_service_export_to) or {PUBLIC}
    ranked: list[tuple[int, str, str, str, Resource]] = []
    for one in mesh.of_kind("VirtualService", node.cluster):
        to = {one.namespace if place == PRIVATE else place for place in spec_of(one).export_to or default}
        if gateway not in _gateways(one):
            continue
        if PUBLIC in to:
            ranked.append((2, one.created, one.name, one.namespace, one))
        elif node.namespace in to:
            ranked.append((0 if one.namespace == node.namespace else 1, one.created, one.name, one.namespace, one))
    return [one for *_, one in sorted(ranked, key=lambda entry: entry[:-1])]


def _gateways(resource: Resource) -> list[str]:
    return [gateway_name(name, resource.namespace) for name in spec_of(resource).gateways] or [MESH]


def gateway_name(name: str, namespace: str) -> str:
    """ "namespace/name" of a gateway that a VirtualService of `namespace` names; "mesh" is itself."""
    if name == MESH or "/" in name:
        return name
    short, _, rest = name.partition(".")
    return f"{rest.partition('.')[0] or namespace}/{short}"


def _fits(match: L4Match, resource: Resource, gateway: str, port: int) -> bool:
    names = [gateway_name(name, resource.namespace) for name in match.gateways]
    return match.port in (0, port) and (not names or gateway in names)


def _fits_client(match: L4Match, resource: Resource, node: NodeView, port: int) -> bool:
    return (
        _fits(match, resource, MESH, port)
        and match.source_labels.items() <= node.labels.items()
        and match.source_namespace in ("", node.namespace)
    )


def tcp_routes(resources: Sequence[Resource], node: NodeView, service: Service, port: int) -> list[Route]:
    """The tcp routes of these VirtualServices that this proxy's connections to a service port take: those of subnets,
    and the first one without, which ends them.
    """
    found: list[Route] = []
    for resource in of_host(resources, service):
        for entry in spec_of(resource).tcp:
            fitting = [match for match in entry.match if _fits_client(match, resource, node, port)]
            if not entry.match or any(not match.destination_subnets for match in fitting):
                return [*found, Route(resource, tuple(entry.route))]
            if fitting:
                subnets = tuple(sorted(one for match in fitting for one in match.destination_subnets))
                found.append(Route(resource, tuple(entry.route), subnets=subnets))
    return found


def tls_routes(resources: Sequence[Resource], node: NodeView, service: Service, port: int) -> list[Route]:
    """The tls routes of a port whose protocol is TLS; of two for the same server names and subnets the first.

    Subnets hold on for the matches after them that have none, as in istiod's loop.
    """
    found: dict[tuple[tuple[str, ...], tuple[str, ...]], Route] = {}
    subnets: tuple[str, ...] = ()
    for resource in of_host(resources, service):
        for entry in spec_of(resource).tls:
            for match in entry.match:
                if _fits_client(match, resource, node, port):
                    names, own = tuple(match.sni_hosts), tuple(match.destination_subnets)
                    subnets = own or subnets
                    found.setdefault((names, own), Route(resource, tuple(entry.route), names, subnets))
    return list(found.values())


def of_host(resources: Sequence[Resource], service: Service) -> Iterator[Resource]:
    """Those of VirtualServices that have a host of the service."""
    for resource in resources:
        hosts = (full_host(host, resource.namespace) for host in spec_of(resource).hosts)
        if any(covers(host, service.host) or covers(service.host, host) for host in hosts):
            yield resource


class RoutesByHost:
    """VirtualServices by their hosts, for who asks of many services."""

    def __init__(self, resources: Sequence[Resource]) -> None:
        self._resources = resources
        self._by_host: dict[str, list[int]] = {}
        for at, resource in enumerate(resources):
            for host in dict.fromkeys(full_host(host, resource.namespace) for host in spec_of(resource).hosts):
                self._by_host.setdefault(host, []).append(at)
        self._wild = [host for host in self._by_host if host.startswith("*")]

    def of(self, service: Service) -> tuple[Resource, ...]:
        """What `of_host` yields."""
        hosts = {service.host, *(one for one in self._wild if covers(one, service.host))}
        if service.host.startswith("*"):
            hosts |= {one for one in self._by_host if covers(service.host, one)}
        places = {at for host in hosts for at in self._by_host.get(host, ())}
        return tuple(self._resources[at] for at in sorted(places))


def is_auto_passthrough(server: Server) -> bool:
    """Whether a server routes by the names of SNI-DNAT clusters."""
    return server.tls is not None and server.tls.mode == "AUTO_PASSTHROUGH"


def is_served(server: Server) -> bool:
    """Whether a server is made: what passes TLS through, and plain TCP."""
    if server.tls:
        return server.tls.mode in ("AUTO_PASSTHROUGH", "PASSTHROUGH")
    return port_protocol("", server.port.protocol, "TCP") in ("tcp", "mongo", "redis", "mysql")


def gateway_routes(mesh: Mesh, node: NodeView, gateway: Resource, server: Server) -> list[Route]:
    """Routes of a gateway's server: by server name for PASSTHROUGH, else the first tcp route.

    Server names that an earlier route of the server has are left out with their whole match, as istiod does.
    """
    name = f"{gateway.namespace}/{gateway.name}"
    passthrough = server.tls is not None and server.tls.mode == "PASSTHROUGH"
    found: list[Route] = []
    taken: set[str] = set()
    for resource in virtual_services(mesh, node, name):
        if not any(_serves(host, resource, gateway) for host in server.hosts):
            continue
        if not passthrough:
            for entry in spec_of(resource).tcp:
                if not entry.match or any(_fits(one, resource, name, server.port.number) for one in entry.match):
                    return [Route(resource, tuple(entry.route))]
            continue
        for tls in spec_of(resource).tls:
            for match in tls.match:
                if _fits(match, resource, name, server.port.number) and not taken & set(match.sni_hosts):
                    taken |= set(match.sni_hosts)
                    found.append(Route(resource, tuple(tls.route), tuple(match.sni_hosts)))
    return found


def _serves(host: str, resource: Resource, gateway: Resource) -> bool:
    """Whether a server's host ("namespace/host", "./host" or a host) covers a host of the VirtualService."""
    place, slash, name = host.rpartition("/")
    if slash and place != "*" and (gateway.namespace if place == "." else place) != resource.namespace:
        return False
    hosts = (full_host(one, resource.namespace) for one in spec_of(resource).hosts)
    return any(covers(name, one) or covers(one, name) for one in hosts)


def cluster_of(
    mesh: Mesh, node: NodeView, resource: Resource, destination: Destination, port: int
) -> tuple[Service | None, str]:
    """The service of a destination, None when the mesh has none, and the name of the cluster that istiod makes of it.

    Without a port of its own it is the service's only one, else that of the listener.
    """
    host = full_host(destination.host, resource.namespace)
    service = service_of(mesh, node.cluster, host, node.namespace)
    number = destination.port.number if destination.port else port
    if destination.port is None and service is not None and len(service.ports) == 1:
        number = service.ports[0].number
    return service, f"outbound|{number}|{destination.subset}|{host}"
