"""Which hosts a change of a mesh can concern at all, so that nothing else is predicted twice. Pure."""

from collections.abc import Iterable, Iterator

from eastgate.mesh.model import Mesh, Resource, Service
from eastgate.mesh.routes import entries_of
from eastgate.mesh.routes import spec_of as routes_of
from eastgate.mesh.rules import covers, full_host
from eastgate.mesh.rules import spec_of as rule_of
from eastgate.mesh.service_entries import services_of
from eastgate.mesh.service_entries import spec_of as entry_of

OF_ITS_HOSTS = frozenset({"DestinationRule", "ServiceEntry", "VirtualService"})
"""Kinds that concern the hosts that they name, and no other."""


def changed_hosts(old: Mesh, new: Mesh) -> frozenset[str] | None:
    """Hosts whose endpoints, rules or routes differ, and where their connections are led; None: any host may be."""
    if _everywhere(old) != _everywhere(new):
        return None
    differ = list(_different(old.resources, new.resources))
    if any(one.kind not in OF_ITS_HOSTS for one in differ):
        return None
    meshes = old, new
    rules = [_full(one, rule_of(one).host) for one in differ if one.kind == "DestinationRule"]
    routed = [host for one in differ if one.kind == "VirtualService" for host in hosts_of_routes(one)]
    listed = [host for one in differ if one.kind == "ServiceEntry" for host in entry_of(one).hosts]
    listed += _of_services(old.services, new.services)
    known = known_hosts(meshes)
    places = {*routed, *listed, *(host for one, _ in _leading_to(meshes, listed) for host in hosts_of_routes(one))}
    targets = _targets(meshes, differ, places)
    named = [*rules, *places, *targets]
    return frozenset((*_of_workloads(old, new), *(host for host in known if concerns(named, host))))


def concerns(names: Iterable[str], host: str) -> bool:
    """Whether a rule for one of these, each a host or a wildcard, may be one for the host."""
    return any(covers(name, host) or covers(host, name) for name in names)


def hosts_of_routes(resource: Resource) -> tuple[str, ...]:
    """Hosts of a VirtualService in full."""
    return tuple(_full(resource, host) for host in routes_of(resource).hosts)


def targets_of_routes(resource: Resource) -> tuple[str, ...]:
    """Hosts that a VirtualService leads to, in full."""
    return tuple(_full(resource, one.destination.host) for entry in entries_of(resource) for one in entry.route)


def _full(resource: Resource, host: str) -> str:
    return full_host(host, resource.namespace)


def _everywhere(mesh: Mesh) -> tuple[object, ...]:
    """What no single host answers for."""
    return mesh.clusters, mesh.gateways, mesh.config, mesh.options


def _different(old: Iterable[Resource], new: Iterable[Resource]) -> Iterator[Resource]:
    """Resources of either side that the other does not have as they are, also where only their order is another."""
    sides: list[dict[tuple[str, str, str], list[Resource]]] = [{}, {}]
    for side, found in zip(sides, (old, new), strict=True):
        for one in found:
            side.setdefault(one.identity, []).append(one)
    for identity in {*sides[0], *sides[1]}:
        before, after = (side.get(identity, []) for side in sides)
        if before != after:
            yield from (*before, *after)


def _of_services(old: Iterable[Service], new: Iterable[Service]) -> set[str]:
    """Hosts of services that are not as they were."""
    sides: list[dict[str, list[Service]]] = [{}, {}]
    for side, found in zip(sides, (old, new), strict=True):
        for one in found:
            side.setdefault(one.host, []).append(one)
    return {host for host in {*sides[0], *sides[1]} if sides[0].get(host) != sides[1].get(host)}


def known_hosts(meshes: Iterable[Mesh]) -> set[str]:
    """Hosts of all services of these meshes."""
    return {one.host for mesh in meshes for cluster in mesh.clusters for one in services_of(mesh, cluster)}


def led_to(meshes: Iterable[Mesh]) -> dict[str, set[str]]:
    """Hosts that connections to a host, or to those that a wildcard covers, may be led to."""
    found: dict[str, set[str]] = {}
    for one, targets in _routes(meshes):
        for host in hosts_of_routes(one):
            found.setdefault(host, set()).update(targets)
    return found


def _of_workloads(old: Mesh, new: Mesh) -> Iterator[str]:
    """Hosts of services behind which something else stands."""
    if old.workloads == new.workloads:
        return
    for cluster in new.clusters:
        was = {(one.namespace, one.host): one for one in services_of(old, cluster)}
        for service in services_of(new, cluster):
            before = was.get((service.namespace, service.host))
            if before is None or old.behind(before) != new.behind(service):
                yield service.host


def _routes(meshes: Iterable[Mesh]) -> Iterator[tuple[Resource, tuple[str, ...]]]:
    """VirtualServices, each with the hosts that it leads to."""
    for mesh in meshes:
        for one in mesh.resources:
            if one.kind == "VirtualService":
                yield one, targets_of_routes(one)


def _leading_to(meshes: Iterable[Mesh], hosts: Iterable[str]) -> Iterator[tuple[Resource, tuple[str, ...]]]:
    """VirtualServices that lead to one of these."""
    wanted = set(hosts)
    return ((one, targets) for one, targets in _routes(meshes) if wanted & set(targets))


def _targets(meshes: Iterable[Mesh], differ: Iterable[Resource], places: set[str]) -> Iterator[str]:
    """Where connections to these places are led, by whichever VirtualService counts before and after the change."""
    if places:
        for one, targets in _routes(meshes):
            if one in differ or any(concerns(places, host) for host in hosts_of_routes(one)):
                yield from targets
