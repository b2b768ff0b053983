"""Services that ServiceEntries add to those of Kubernetes, as the istiod of one cluster has them.

Pure functions. Source of the rules: istio, pilot/pkg/serviceregistry/serviceentry/conversion.go.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from .locality import locality_label, parse_locality
from .model import TLS_MODE_LABEL, ClusterAddress, Mesh, Resource, Service, ServicePort, Workload, port_protocol
from .networks import is_address
from .service_entry import EntryEndpoint, EntryPort, EntrySelector, ServiceEntrySpec, WorkloadEntrySpec

DNS = ("DNS", "DNS_ROUND_ROBIN")


def spec_of(resource: Resource) -> ServiceEntrySpec:
    """The spec of a ServiceEntry."""
    assert isinstance(resource.spec, ServiceEntrySpec)
    return resource.spec


def services_of(mesh: Mesh, cluster: str) -> tuple[Service, ...]:
    """All services that a cluster's istiod knows: those of Kubernetes, then those of entries, the oldest first.

    A host may have several, of which a client has those of one namespace (`of_one_namespace`).
    """
    return mesh.known(("services", cluster), lambda: _all_services(mesh, cluster))


def _all_services(mesh: Mesh, cluster: str) -> tuple[Service, ...]:
    entries = sorted(mesh.of_kind("ServiceEntry", cluster), key=lambda one: (one.created, one.namespace, one.name))
    by_place: dict[tuple[str, str], list[Resource]] = {}
    for one in entries:
        for host in dict.fromkeys(spec_of(one).hosts):
            by_place.setdefault((one.namespace, host), []).append(one)
    known = []
    for service in mesh.services:
        found = by_place.pop((service.namespace, service.host), ())
        instances = _Instances.of(mesh, found, service.host, cluster) if found else NOBODY
        if chosen := list(_chosen_by(mesh, service)):
            instances = instances.with_chosen(service, chosen)
        nobody = not instances.members
        known.append(service if nobody else replace(service, own=instances.members, own_ports=instances.ports))
    added = (one for (_, host), found in by_place.items() for one in _merged(mesh, found, host, cluster))
    return tuple(_exported(one, mesh.config.default_service_export_to) for one in (*known, *added))


def _exported(service: Service, default: Iterable[str]) -> Service:
    """The service as meshConfig exports it where it has no word of its own."""
    return service if service.export_to or not default else replace(service, export_to=frozenset(default))


def of_one_namespace(services: Iterable[Service], namespace: str) -> list[Service]:
    """Of services of one host those that a client of a namespace has: its own namespace's, else that of Kubernetes,
    else those of the first (selectServices in pilot/pkg/model/sidecar.go). ``namespace`` empty: a gateway's.
    """
    ordered = list(services)
    chosen: dict[str, Service] = {}
    for one in ordered:
        known = chosen.setdefault(one.host, one)
        if known.namespace != namespace and (one.namespace == namespace or (known.is_entry and not one.is_entry)):
            chosen[one.host] = one
    return [one for one in ordered if one.namespace == chosen[one.host].namespace]


def contested(mesh: Mesh, cluster: str) -> Mapping[str, frozenset[str]]:
    """Hosts that services of several namespaces have, and these namespaces, whose clients have their own."""
    return mesh.known(("contested", cluster), lambda: _contested(services_of(mesh, cluster)))


def _contested(services: Iterable[Service]) -> dict[str, frozenset[str]]:
    by_host: dict[str, set[str]] = {}
    for one in services:
        by_host.setdefault(one.host, set()).add(one.namespace)
    return {host: frozenset(names) for host, names in by_host.items() if len(names) > 1}


def service_of(mesh: Mesh, cluster: str, host: str, namespace: str = "") -> Service | None:
    """The service of a host that clients of a namespace have, None: nobody knows it, or it is not theirs to see."""
    by_host = mesh.known(("service", cluster), lambda: _by_host(services_of(mesh, cluster)))
    found = by_host.get(host, ())
    seen = [one for one in found if one.is_visible_in(namespace)] if namespace else found
    return next(iter(of_one_namespace(seen, namespace)), None)


def _by_host(services: Iterable[Service]) -> dict[str, list[Service]]:
    found: dict[str, list[Service]] = {}
    for one in services:
        found.setdefault(one.host, []).append(one)
    return found


@dataclass(frozen=True, slots=True)
class _Instances:
    """Endpoints of a host in a namespace, and where they listen, by cluster address and name of the service's port."""

    members: tuple[Workload, ...]
    ports: Mapping[tuple[ClusterAddress, str], int]

    @classmethod
    def of(cls, mesh: Mesh, entries: list[Resource], host: str, cluster: str) -> "_Instances":
        """Those of all entries: each port has the endpoints of all that have one of its name
        (mergeServicesInstancesByNamespaceHost in serviceentry/conversion.go).
        """
        # Of names that DNS answers one at a time there can be only one.
        once = spec_of(entries[0]).resolution == "DNS_ROUND_ROBIN"
        members: dict[ClusterAddress, Workload] = {}
        ports: dict[tuple[ClusterAddress, str], int] = {}
        for one in entries[:1] if once else entries:
            for member, stated in _members(mesh, one, host, cluster):
                members.setdefault(member.cluster_address, member)
                for port in spec_of(one).ports:
                    number = stated.get(port.name) or port.target_port or port.number
                    ports.setdefault((member.cluster_address, port.name), number)
        return cls(tuple(members.values()), ports)

    def with_chosen(self, service: Service, chosen: Iterable[Workload]) -> "_Instances":
        """With WorkloadEntries that a service of Kubernetes selects, at their own port of the target port's name."""
        members, ports = list(self.members), dict(self.ports)
        for one in chosen:
            members.append(one)
            for port in service.ports:
                named = isinstance(port.target, str)
                number = one.named_ports.get(str(port.target) if named else port.name, 0)
                ports[one.cluster_address, port.name] = number or (0 if named else int(port.target) or port.number)
        return type(self)(tuple(members), ports)


NOBODY = _Instances((), {})


def _chosen_by(mesh: Mesh, service: Service) -> Iterator[Workload]:
    """WorkloadEntries of its own clusters that a service of Kubernetes selects (serviceInstancesFromWorkloadInstances
    in kube/controller/controller.go).
    """
    if service.selector and not service.headless:
        wanted = service.selector.items()
        for cluster in sorted(service.clusters):
            for one in _machines(mesh, cluster).get(service.namespace, ()):
                if wanted <= one.labels.items() and is_address(one.address):
                    yield one


def _machines(mesh: Mesh, cluster: str) -> Mapping[str, list[Workload]]:
    """What WorkloadEntries of a cluster stand for, by namespace."""
    return mesh.known(("machines", cluster), lambda: _made_machines(mesh, cluster))


def _made_machines(mesh: Mesh, cluster: str) -> dict[str, list[Workload]]:
    found: dict[str, list[Workload]] = {}
    for one in mesh.of_kind("WorkloadEntry", cluster):
        assert isinstance(one.spec, WorkloadEntrySpec)
        if not one.spec.address:
            continue
        member = replace(_member(one, one.spec, one.name, cluster), named_ports=one.spec.ports)
        found.setdefault(one.namespace, []).append(member)
    return found


def _merged(mesh: Mesh, entries: list[Resource], host: str, cluster: str) -> Iterator[Service]:
    """Entries of one namespace for one host: the oldest one's service, and the ports of those that are like it
    (appendSidecarServices in model/sidecar.go), one service for each address.
    """
    first = spec_of(entries[0])
    ports = {one.number: one for one in first.ports}
    for spec in (spec_of(one) for one in entries[1:]):
        if _kind(spec) == _kind(first):
            ports = {**{one.number: one for one in spec.ports}, **ports}
    instances = _Instances.of(mesh, entries, host, cluster)
    for address in first.addresses or [""]:
        yield Service(
            name=host,
            namespace=entries[0].namespace,
            hostname=host,
            ports=tuple(_port(one) for one in ports.values()),
            selector={},
            clusters=entries[0].clusters,
            addresses={cluster: (_alone(address),)} if address else {},
            export_to=frozenset(first.export_to),
            external=first.location == "MESH_EXTERNAL",
            resolution=first.resolution,
            own=instances.members,
            own_ports=instances.ports,
            # The last one that is registered leaves its names.
            accounts=tuple(spec_of(entries[-1]).subject_alt_names),
        )


def _alone(address: str) -> str:
    """A range of one address is that address, in both families."""
    return address.removesuffix("/128" if ":" in address else "/32")


def _kind(spec: ServiceEntrySpec) -> tuple[object, ...]:
    return spec.resolution, spec.workload_selector, frozenset(spec.export_to)


def _port(port: EntryPort) -> ServicePort:
    protocol = "udp" if port.protocol.upper() == "UDP" else port_protocol("", port.protocol, "TCP")
    return ServicePort(port.number, port.target_port or port.number, protocol, port.name)


def _members(mesh: Mesh, resource: Resource, host: str, cluster: str) -> Iterator[tuple[Workload, Mapping[str, int]]]:
    """Endpoints of an entry, each with what it says itself of its ports, by name."""
    spec = spec_of(resource)
    for at, endpoint in enumerate(spec.endpoints):
        yield _member(resource, endpoint, f"{resource.name}-{at}", cluster), endpoint.ports
    if spec.workload_selector:
        for one in _selected(mesh, resource.namespace, spec, cluster):
            yield one, one.named_ports
    elif spec.resolution in DNS and not spec.endpoints:
        # What DNS says of the host itself.
        yield Workload(resource.name, resource.namespace, cluster, "", host, {}, service_account="", watched=False), {}


def _selected(mesh: Mesh, namespace: str, spec: ServiceEntrySpec, cluster: str) -> Iterator[Workload]:
    """WorkloadEntries and pods of all clusters that an entry selects."""
    wanted = (spec.workload_selector or EntrySelector()).labels.items()
    own = _machines(mesh, cluster).get(namespace, ())
    places = [(one.name, one.address) for one in own]
    away: dict[str, Workload] = {}
    for name in (name for name in mesh.clusters if name != cluster):
        # Other clusters' WorkloadEntries and all pods are kept by namespace and name.
        away.update((one.name, one) for one in _machines(mesh, name).get(namespace, ()))
    pods = mesh.known("selectable", lambda: _selectable(mesh)).get(namespace, ())
    found = [*own, *(one for one in away.values() if (one.name, one.address) not in places)]
    found += [one for one in pods if one.invented_name or one.name not in away]
    for one in found:
        if wanted <= one.labels.items() and (spec.resolution in DNS or is_address(one.address) or not one.address):
            yield one


def _selectable(mesh: Mesh) -> dict[str, list[Workload]]:
    """Pods that entries may select, by namespace: of all clusters, while they are ready (kube/controller/pod.go).

    istiod keeps them by namespace and name without their cluster (ResourceName in model/service.go): of several with
    one name it has the one that it heard of last, which is the one that became ready last, unless it was restarted.
    """
    clusters = list(mesh.clusters)
    ready = [one for one in mesh.workloads if one.ready and not one.is_bare]
    kept = {twin_key(one): one for one in sorted(ready, key=lambda one: (one.ready_since, clusters.index(one.cluster)))}
    found: dict[str, list[Workload]] = {}
    for one in ready:
        if kept[twin_key(one)] is one:
            found.setdefault(one.namespace, []).append(one)
    return found


def twin_key(workload: Workload) -> tuple[str, ...]:
    """What pods have in common of which istiod gives an entry only one."""
    return (workload.namespace, workload.name, *([workload.cluster] if workload.invented_name else []))


def _member(resource: Resource, endpoint: EntryEndpoint, name: str, cluster: str) -> Workload:
    labels = dict(endpoint.labels)
    if endpoint.service_account:
        labels.setdefault(TLS_MODE_LABEL, "istio")
    place = endpoint.locality or locality_label(labels)
    return Workload(
        name=name,
        namespace=resource.namespace,
        cluster=cluster,
        network=endpoint.network,
        address=endpoint.address,
        labels=labels,
        locality=parse_locality(place),
        locality_text=place,
        service_account=endpoint.service_account,
        weight=endpoint.weight or 1,
        watched=False,
    )
