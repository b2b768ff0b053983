"""What a proxy sees of the mesh: services and VirtualServices by exportTo, and what a Sidecar leaves of them.

Pure functions. Source of the rules: istio, pilot/pkg/model/sidecar.go.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from .model import Mesh, Resource, Service
from .node_view import NodeView
from .routes import MESH, spec_of, virtual_services
from .rules import covers, full_host
from .service_entries import services_of
from .sidecar import EgressEntry, IngressEntry, SidecarPort, SidecarSpec
from .virtual_service import HttpRoute, TcpRoute, TlsRoute

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


def scope_of(mesh: Mesh, node: NodeView) -> Scope:
    """The scope of a node; gateways have none of a Sidecar."""
    seen = [one for one in services_of(mesh, node.cluster) if one.is_visible_in(node.namespace)]
    routes = virtual_services(mesh, node, MESH) if node.type == "sidecar" else []
    resource = _sidecar_of(mesh, node) if node.type == "sidecar" else None
    policy = mesh.config.outbound_traffic_policy
    bound = node.interception == "NONE"
    if resource is None:
        everything = Egress(tuple(seen), tuple(routes), bound=bound)
        return Scope(everything.services, (everything,), (), policy.mode == "ALLOW_ANY")
    spec = sidecar_spec(resource)
    entries = spec.egress or [EgressEntry(hosts=["*/*"])]
    egress = tuple(_egress(entry, node, seen, routes, bound=bound) for entry in entries)
    policy = spec.outbound_traffic_policy or policy
    services = tuple(_reached(egress, seen, node.namespace))
    return Scope(services, egress, tuple(spec.ingress), policy.mode == "ALLOW_ANY", resource)


def _sidecar_of(mesh: Mesh, node: NodeView) -> Resource | None:
    """The oldest of its namespace whose selector fits, then the oldest without one, then that of the root namespace."""
    found = sorted(mesh.of_kind("Sidecar", node.cluster), key=lambda one: (one.created, one.name))
    root = mesh.config.root_namespace
    own = [one for one in found if one.namespace == node.namespace]
    chosen = [one for one in own if (labels := _labels(one)) and labels.items() <= node.labels.items()]
    chosen += [one for one in own if not _labels(one)]
    chosen += [one for one in found if one.namespace == root and not _labels(one)]
    return chosen[0] if chosen else None


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
    taken = [
        one
        for one in routes
        if any(hosts.take(one.namespace, full_host(host, one.namespace)) for host in spec_of(one).hosts)
    ]
    return Egress(tuple(services), tuple(taken), entry.port, entry.bind, bound or entry.capture_mode == "NONE")


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
    """Services of all entries, their ports united, then those that only VirtualServices lead to."""
    ports: dict[str, set[int]] = {}
    for entry in egress:
        for service in entry.services:
            ports.setdefault(service.host, set()).update(one.number for one in service.ports)
    for resource in (one for entry in egress for one in entry.virtual_services):
        for host, number in _destinations(resource, namespace):
            target = next((one for one in seen if one.host == host), None)
            if target:
                own = {one.number for one in target.ports}
                ports.setdefault(host, set()).update(own if number is None else own & {number})
    for service in seen:
        numbers = ports.get(service.host)
        if numbers:
            yield replace(service, ports=tuple(one for one in service.ports if one.number in numbers))


def _destinations(resource: Resource, namespace: str) -> Iterator[tuple[str, int | None]]:
    """Hosts and ports that a VirtualService leads clients of a namespace to; no port: all of the service."""
    spec = spec_of(resource)
    entries: list[HttpRoute | TcpRoute | TlsRoute] = [*spec.http, *spec.tcp, *spec.tls]
    for entry in entries:
        places = [match.source_namespace for match in entry.match]
        if places and not any(place in ("", namespace) for place in places):
            continue
        for one in entry.route:
            target = one.destination
            yield full_host(target.host, resource.namespace), target.port.number if target.port else None
