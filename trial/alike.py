"""Which clients of a mesh no rule can tell apart: what is predicted for one of them holds for all. Pure.

A proxy is told by its cluster, network and locality, and beside these by what some rule asks for: labels of selectors,
of sourceLabels and of failoverPriority, its node where traffic stays there, its namespace where rules stand in it or
are exported to it.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

from eastgate.mesh.istio import LocalityLbSetting, Policy, ZoneAwareLbSetting
from eastgate.mesh.locality import locality_label
from eastgate.mesh.model import HOSTNAME_LABEL, Mesh, Resource, Service, Workload
from eastgate.mesh.policy import TRAFFIC_DISTRIBUTION
from eastgate.mesh.routes import entries_of
from eastgate.mesh.routes import spec_of as routes_of
from eastgate.mesh.rules import PRIVATE, exports, full_host
from eastgate.mesh.rules import spec_of as rule_of
from eastgate.mesh.scope import asks_own_namespace, sidecar_spec
from eastgate.mesh.service_entries import contested, services_of
from eastgate.mesh.virtual_service import GatewaySpec

from .changed import concerns, hosts_of_routes, known_hosts, led_to, targets_of_routes


class Told(Protocol):
    """Tells clients apart."""

    def answer(self, client: Workload) -> Hashable:
        """Equal for clients that are one kind."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What rules ask of a client: values of these labels, and whether it is in one of these namespaces.

    ``namespaces`` None: each namespace may be another.
    """

    labels: frozenset[str]
    namespaces: frozenset[str] | None

    def answer(self, client: Workload) -> Hashable:
        """Equal for clients that nothing tells apart."""
        labels = {name: value for name, value in client.labels.items() if name in self.labels}
        return (
            client.cluster,
            client.network,
            client.locality if any(client.locality) else locality_label(client.labels),
            client.namespace if self.namespaces is None or client.namespace in self.namespaces else "",
            client.node if HOSTNAME_LABEL in self.labels else "",
            frozenset(labels.items()),
        )


def asked(meshes: Iterable[Mesh]) -> Asked:
    """What rules of any of these meshes ask, whatever they are for."""
    by_host = asked_of_hosts(meshes)
    found = [by_host.of_all, *by_host.own.values()]
    labels = frozenset(label for one in found for label in one.labels)
    apart = any(one.namespaces is None for one in found)
    return Asked(labels, None if apart else frozenset(name for one in found for name in one.namespaces or ()))


@dataclass(frozen=True, slots=True)
class AskedOfHosts:
    """What rules ask: ``of_all``: for whichever host; ``own``: for one host, beside that, where it is more."""

    of_all: Asked
    own: Mapping[str, Asked]

    def of(self, hosts: Iterable[str]) -> Asked:
        """What is asked for any of these hosts."""
        found = [self.of_all, *(self.own[host] for host in hosts if host in self.own)]
        labels = frozenset(label for one in found for label in one.labels)
        if self.of_all.namespaces is None:
            return Asked(labels, None)
        return Asked(labels, frozenset(name for one in found for name in one.namespaces or ()))


def asked_of_hosts(meshes: Iterable[Mesh]) -> AskedOfHosts:
    """What rules of any of these meshes ask for each host."""
    everything = list(meshes)
    gathering = _Gathering(known_hosts(everything))
    for mesh in everything:
        gathering.add(mesh)
    own = {
        host: Asked(frozenset(gathering.labels.get(host, ())), frozenset(gathering.namespaces.get(host, ())))
        for host in {*gathering.labels, *gathering.namespaces} - {""}
    }
    of_all = frozenset(gathering.namespaces.get("", ()))
    labels = frozenset(gathering.labels.get("", ()))
    return AskedOfHosts(Asked(labels, None if gathering.apart else of_all), own)


@dataclass(frozen=True, slots=True)
class PartOfHosts:
    """Hosts for which the same is asked of clients. ``reached``: they, and where their connections are led."""

    asked: Told
    hosts: frozenset[str]
    reached: frozenset[str]


def parts_of_hosts(meshes: Sequence[Mesh], hosts: Iterable[str]) -> list[PartOfHosts]:
    """These hosts in parts: for each of them clients that answer alike have the same."""
    by_host, led = asked_of_hosts(meshes), led_to(meshes)
    wild = [name for name in led if name.startswith("*")]
    alike: dict[Asked, tuple[set[str], set[str]]] = {}
    for host in sorted(hosts):
        names = led if host.startswith("*") else (host, *wild)
        targets = {target for name in names if concerns((name,), host) for target in led.get(name, ())}
        own, reached = alike.setdefault(by_host.of((host, *targets)), (set(), set()))
        own.add(host)
        reached.update((host, *targets))
    return [PartOfHosts(one, frozenset(own), frozenset(reached)) for one, (own, reached) in alike.items()]


class _Gathering:
    """Labels and namespaces by host; those of none in particular under an empty one."""

    def __init__(self, hosts: Set[str]) -> None:
        self._hosts = hosts
        self._wild = [host for host in hosts if host.startswith("*")]
        self.labels: dict[str, set[str]] = {}
        self.namespaces: dict[str, set[str]] = {}
        self.apart = False

    def add(self, mesh: Mesh) -> None:
        root = mesh.config.root_namespace
        self.namespaces.setdefault("", set()).add(root)
        for setting in (mesh.config.locality_lb_setting, mesh.config.zone_aware_lb_setting):
            self._note([""], _priorities(setting), ())
        everywhere = [sidecar_spec(one) for one in mesh.resources if one.kind == "Sidecar" and one.namespace == root]
        self.apart |= any(asks_own_namespace(one) for one in everywhere)
        for one in mesh.resources:
            concerned = self._concerned(one, reached=bool(everywhere))
            self._note(concerned, set(_labels(one)), set(_namespaces(mesh, one)))
        for cluster in mesh.clusters:
            for host, names in contested(mesh, cluster).items():
                self._note([host], (), names)
            for service in services_of(mesh, cluster):
                labels = set(_labels_of_service(service))
                self._note([service.host], labels, _exported(service.export_to, service.namespace))

    def _concerned(self, resource: Resource, *, reached: bool) -> Iterable[str]:
        """Hosts that a resource can count for; an empty one: any.

        ``reached``: those that a route leads to as well, which a Sidecar leaves only because of it.
        """
        if resource.kind == "DestinationRule":
            names: tuple[str, ...] = (full_host(rule_of(resource).host, resource.namespace),)
        elif resource.kind == "VirtualService":
            names = (*hosts_of_routes(resource), *(targets_of_routes(resource) if reached else ()))
        else:
            return ("",)
        found: list[str] = []
        for name in names:
            near = self._hosts if name.startswith("*") else (name, *self._wild)
            found += [host for host in near if host == name or concerns((name,), host)]
        return dict.fromkeys(found)

    def _note(self, hosts: Iterable[str], labels: Iterable[str], namespaces: Iterable[str]) -> None:
        more, places = set(labels), set(namespaces)
        for host in hosts:
            if more:
                self.labels.setdefault(host, set()).update(more)
            if places:
                self.namespaces.setdefault(host, set()).update(places)


def _exported(to: Iterable[str], namespace: str) -> Iterator[str]:
    return (namespace if one == PRIVATE else one for one in to)


def _namespaces(mesh: Mesh, resource: Resource) -> Iterator[str]:
    """Namespaces for which a resource counts otherwise than for the rest."""
    if resource.kind in ("DestinationRule", "Sidecar", "VirtualService"):
        yield resource.namespace
    if resource.kind == "DestinationRule":
        yield from exports(resource)
    elif resource.kind == "VirtualService":
        yield from routes_of(resource).export_to or mesh.config.default_virtual_service_export_to
        yield from (match.source_namespace for entry in entries_of(resource) for match in entry.match)


def _labels(resource: Resource) -> Iterator[str]:
    """Labels of clients that a resource looks at."""
    if resource.kind == "DestinationRule":
        rule = rule_of(resource)
        yield from rule.workload_selector.match_labels if rule.workload_selector else ()
        for policy in (rule.traffic_policy, *(one.traffic_policy for one in rule.subsets)):
            for part in (policy, *policy.port_level_settings) if policy else ():
                yield from _of_policy(part)
    elif resource.kind == "VirtualService":
        for entry in entries_of(resource):
            for match in entry.match:
                yield from match.source_labels
    elif resource.kind == "Sidecar":
        selector = sidecar_spec(resource).workload_selector
        yield from selector.labels if selector else ()
    elif isinstance(resource.spec, GatewaySpec):
        yield from resource.spec.selector


def _of_policy(policy: Policy) -> Iterator[str]:
    if policy.load_balancer:
        yield from _priorities(policy.load_balancer.locality_lb_setting)
        yield from _priorities(policy.load_balancer.zone_aware_lb_setting)


def _priorities(setting: LocalityLbSetting | ZoneAwareLbSetting | None) -> Iterator[str]:
    return (one.partition("=")[0] for one in (setting.failover_priority if setting else None) or ())


def _labels_of_service(service: Service) -> Iterator[str]:
    yield from TRAFFIC_DISTRIBUTION.get(service.traffic_distribution, ())
    if service.node_local:
        yield HOSTNAME_LABEL
