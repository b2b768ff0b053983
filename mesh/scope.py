"""What a proxy sees of the mesh: services and VirtualServices by exportTo, and what a Sidecar leaves of them.

Pure functions. Source of the rules: istio, pilot/pkg/model/sidecar.go.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from .model import Mesh, Resource, Service
from .node_view import NodeView
from .routes import MESH, RoutesByHost, entries_of, spec_of, virtual_services
from .rules import covers, full_host
from .service_entries import contested, of_one_namespace, services_of
from .sidecar import EgressEntry, IngressEntry, SidecarPort, SidecarSpec

ANYWHERE, HERE, NOT = "*", ".", "~"
HTTP_PROXY = "http_proxy"


@dataclass(frozen=True, slots=True)
class Egress:
    """What clients reach through one egress entry. ``port`` None: on every port that no entry before it has.

    ``bind``: where it listens, empty: the services' addresses. ``bound``: it has a socket of its own.
    """

    services: tuple[Service, ...]
    virtual_services: tuple[Resource, ...]
    port: SidecarPort | None = None
    bind: str = ""
    bound: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """``services``: all that clusters are made for. ``resource``: the Sidecar that says so, None: nobody does."""

    services: tuple[Service, ...]
    egress: tuple[Egress, ...]
    ingress: tuple[IngressEntry, ...] = ()
    allows_any: bool = True
    resource: Resource | None = None

    def egress_of(self, port: int) -> Egress:
        """The entry that a port's routes are made from; without one nothing is reached there."""
        for one in self.egress:
            if one.port is None or one.port.number == port:
                return one
        return Egress((), ())


def sidecar_spec(resource: Resource) -> SidecarSpec:
    """The spec of a Sidecar."""
    assert isinstance(resource.spec, SidecarSpec)
    return resource.spec


def scope_of(mesh: Mesh, node: NodeView, hosts: frozenset[str] | None = None) -> Scope:
    """The scope of a node; gateways have none of a Sidecar. ``hosts``: what it has of these alone.

    Made once for all nodes that have the same: most namespaces of a mesh, where no Sidecar and no exportTo names them.
    """
    resource = _sidecar_of(mesh, node) if node.type == "sidecar" else None
    named = mesh.known(("told apart", node.cluster), lambda: _told_apart(mesh, node.cluster))
    own = resource is not None and asks_own_namespace(sidecar_spec(resource))
    namespace = node.namespace if own or node.namespace in named else ""
    of = resource.identity if resource else None
    key = ("scope", node.type, node.cluster, namespace, node.interception, of)
    whole = mesh.known(key, lambda: _scope(mesh, node, resource))
    return whole if hosts is None else mesh.known((*key, hosts), lambda: _narrowed(whole, hosts))


def asks_own_namespace(spec: SidecarSpec) -> bool:
    """Whether what it leaves depends on the client's namespace."""
    places = (host.partition("/")[0] for entry in spec.egress for host in entry.hosts)
    return any(place.removeprefix(NOT) == HERE for place in places)


def _told_apart(mesh: Mesh, cluster: str) -> frozenset[str]:
    """Namespaces that an exportTo or a route's match names, or that have a host of several: the others see the same."""
    default = mesh.config.default_virtual_service_export_to
    found = {(one.namespace, name) for one in services_of(mesh, cluster) for name in one.export_to}
    routes = mesh.of_kind("VirtualService", cluster)
    found |= {(one.namespace, name) for one in routes for name in spec_of(one).export_to or default}
    own = [name for names in contested(mesh, cluster).values() for name in names]
    own += [match.source_namespace for one in routes for entry in entries_of(one) for match in entry.match]
    return frozenset((*own, *(namespace if name == HERE else name for namespace, name in found)))


def _narrowed(scope: Scope, hosts: frozenset[str]) -> Scope:
    """Of a scope what leads to these hosts, and where their VirtualServices say that it goes."""
    egress = []
    for one in scope.egress:
        services = tuple(service for service in one.services if service.host in hosts)
        routes = RoutesByHost(one.virtual_services)
        taken = {route.identity for service in services for route in routes.of(service)}
        left = tuple(route for route in one.virtual_services if route.identity in taken)
        egress.append(replace(one, services=services, virtual_services=left))
    services = tuple(service for service in scope.services if service.host in hosts)
    return replace(scope, services=services, egress=tuple(egress))


def _scope(mesh: Mesh, node: NodeView, resource: Resource | None) -> Scope:
    everyone = [one for one in services_of(mesh, node.cluster) if one.is_visible_in(node.namespace)]
    # What is meant for this namespace comes before what all see.
    seen = [*(one for one in everyone if not one.is_public), *(one for one in everyone if one.is_public)]
    routes = virtual_services(mesh, node, MESH) if node.type == "sidecar" else []
    policy = mesh.config.outbound_traffic_policy
    bound = node.interception == "NONE"
    if resource is None:
        own = node.namespace if node.type == "sidecar" else ""
        everything = Egress(tuple(_of_hosts(seen, own)), tuple(routes), bound=bound)
        return Scope(everything.services, (everything,), (), policy.mode == "ALLOW_ANY")
    spec = sidecar_spec(resource)
    entries = spec.egress or [EgressEntry(hosts=["*/*"])]
    egress = tuple(_egress(entry, node, seen, routes, bound=bound) for entry in entries)
    policy = spec.outbound_traffic_policy or policy
    services = tuple(_reached(egress, seen, node.namespace))
    return Scope(services, egress, tuple(spec.ingress), policy.mode == "ALLOW_ANY", resource)


def _sidecar_of(mesh: Mesh, node: NodeView) -> Resource | None:
    """The oldest of its namespace whose selector fits, then the oldest without one, then that of the root namespace."""
    found = mesh.known(("by age", node.cluster), lambda: _by_age(mesh.of_kind("Sidecar", node.cluster)))
    root = mesh.config.root_namespace
    own = [one for one in found if one.namespace == node.namespace]
    chosen = [one for one in own if (labels := _labels(one)) and labels.items() <= node.labels.items()]
    chosen += [one for one in own if not _labels(one)]
    chosen += [one for one in found if one.namespace == root and not _labels(one)]
    return chosen[0] if chosen else None


def _by_age(resources: Iterable[Resource]) -> list[Resource]:
    return sorted(resources, key=lambda one: (one.created, one.name))


def _labels(resource: Resource) -> dict[str, str]:
    selector = sidecar_spec(resource).workload_selector
    return selector.labels if selector else {}


def _egress(
    entry: EgressEntry, node: NodeView, seen: Sequence[Service], routes: Sequence[Resource], *, bound: bool
) -> Egress:
    hosts = _Hosts.of(entry.hosts, node.namespace)
    services = [one for one in seen if hosts.take(one.namespace, one.host)]
    if entry.port and entry.port.protocol.lower() != HTTP_PROXY:
        number = entry.port.number
        ports = [(one, tuple(own for own in one.ports if own.number == number)) for one in services]
        services = [replace(one, ports=found) for one, found in ports if found]
    services = list(_of_hosts(services, node.namespace))
    taken = [
        one
        for one in routes
        if any(hosts.take(one.namespace, full_host(host, one.namespace)) for host in spec_of(one).hosts)
    ]
    return Egress(tuple(services), tuple(taken), entry.port, entry.bind, bound or entry.capture_mode == "NONE")


def _of_hosts(services: Iterable[Service], namespace: str) -> Iterator[Service]:
    """Those of one namespace for each host; beside one of Kubernetes no entry is anything of its own."""
    found = of_one_namespace(services, namespace)
    kubernetes = {one.host for one in found if not one.is_entry}
    return (one for one in found if not (one.is_entry and one.host in kubernetes))


@dataclass(frozen=True, slots=True)
class _Hosts:
    """hosts of an egress entry: (namespace, name) pairs that are taken, and those that are left out."""

    taken: tuple[tuple[str, str], ...]
    left_out: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, hosts: Iterable[str], namespace: str) -> "_Hosts":
        pairs = [(place, name) for place, _, name in (host.partition("/") for host in hosts)]
        own = {HERE: namespace, "": ANYWHERE}
        out = [(place.removeprefix(NOT), name) for place, name in pairs if place.startswith(NOT)]
        inside = [(place, name) for place, name in pairs if not place.startswith(NOT)]
        return cls(
            tuple((own.get(place, place), name) for place, name in inside),
            tuple((own.get(place, place), name) for place, name in out),
        )

    def take(self, namespace: str, host: str) -> bool:
        def among(pairs: Iterable[tuple[str, str]]) -> bool:
            return any(
                place in (ANYWHERE, namespace) and (covers(name, host) or covers(host, name)) for place, name in pairs
            )

        return among(self.taken) and not among(self.left_out)


def _reached(egress: Sequence[Egress], seen: Sequence[Service], namespace: str) -> Iterator[Service]:
    """Services of all entries, their ports united, then those that only VirtualServices lead to.

    Of two namespaces that have one for a host the first counts, or that of Kubernetes.
    """
    owners: dict[str, Service] = {}
    ports: dict[str, set[int]] = {}

    def add(service: Service, numbers: Iterable[int]) -> None:
        owner = owners.get(service.host)
        if owner is None or (owner.is_entry and not service.is_entry):
            owner = owners[service.host] = service
            ports[service.host] = set()
        if _is_of(service, owner):
            ports[service.host].update(numbers)

    for entry in egress:
        for service in entry.services:
            add(service, (one.number for one in service.ports))
    visible = {one.host: one for one in reversed(of_one_namespace(seen, namespace))}
    for resource in (one for entry in egress for one in entry.virtual_services):
        for host, number in _destinations(resource, namespace):
            if target := visible.get(host):
                own = {one.number for one in target.ports}
                add(target, own if number is None else own & {number})
    for service in seen:
        numbers = ports.get(service.host)
        if numbers and _is_of(service, owners[service.host]):
            yield replace(service, ports=tuple(one for one in service.ports if one.number in numbers))


def _is_of(service: Service, owner: Service) -> bool:
    return (service.namespace, service.is_entry) == (owner.namespace, owner.is_entry)


def _destinations(resource: Resource, namespace: str) -> Iterator[tuple[str, int | None]]:
    """Hosts and ports that a VirtualService leads clients of a namespace to; no port: all of the service."""
    for entry in entries_of(resource):
        places = [match.source_namespace for match in entry.match]
        if places and not any(place in ("", namespace) for place in places):
            continue
        for one in entry.route:
            target = one.destination
            yield full_host(target.host, resource.namespace), target.port.number if target.port else None
