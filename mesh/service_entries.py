"""Services that ServiceEntries add to those of Kubernetes, as the istiod of one cluster has them.

Pure functions. Source of the rules: istio, pilot/pkg/serviceregistry/serviceentry/conversion.go.
"""

from collections.abc import Iterator

from .locality import parse_locality
from .model import TLS_MODE_LABEL, Mesh, Resource, Service, ServicePort, Workload, port_protocol
from .service_entry import EntryEndpoint, EntryPort, ServiceEntrySpec

DNS = ("DNS", "DNS_ROUND_ROBIN")


def spec_of(resource: Resource) -> ServiceEntrySpec:
    """The spec of a ServiceEntry."""
    assert isinstance(resource.spec, ServiceEntrySpec)
    return resource.spec


def services_of(mesh: Mesh, cluster: str) -> tuple[Service, ...]:
    """All services that a cluster's istiod knows. One of Kubernetes hides entries for its host."""
    hosts = {one.host for one in mesh.services}
    entries = sorted(mesh.of_kind("ServiceEntry", cluster), key=lambda one: (one.created, one.name))
    found = [service for one in entries for service in _services(one, cluster) if service.host not in hosts]
    return (*mesh.services, *found)


def _services(resource: Resource, cluster: str) -> Iterator[Service]:
    """One for each host and address; hosts share everything else."""
    spec = spec_of(resource)
    selector = spec.workload_selector
    for host in spec.hosts:
        for address in spec.addresses or [""]:
            yield Service(
                name=host,
                namespace=resource.namespace,
                hostname=host,
                ports=tuple(_port(one) for one in spec.ports),
                selector=selector.labels if selector else {},
                clusters=resource.clusters,
                addresses={cluster: address.removesuffix("/32")} if address else {},
                export_to=frozenset(spec.export_to),
                external=spec.location == "MESH_EXTERNAL",
                resolution=spec.resolution,
                own=tuple(_members(resource, host, cluster)),
                accounts=tuple(spec.subject_alt_names),
            )


def _port(port: EntryPort) -> ServicePort:
    protocol = "udp" if port.protocol.upper() == "UDP" else port_protocol("", port.protocol, "TCP")
    return ServicePort(port.number, port.target_port or port.number, protocol, port.name)


def _members(resource: Resource, host: str, cluster: str) -> Iterator[Workload]:
    spec = spec_of(resource)
    for at, endpoint in enumerate(spec.endpoints):
        yield _member(resource, endpoint, at, cluster)
    if spec.resolution in DNS and not spec.endpoints and not spec.workload_selector:
        # What DNS says of the host itself.
        yield Workload(resource.name, resource.namespace, cluster, "", host, {})


def _member(resource: Resource, endpoint: EntryEndpoint, at: int, cluster: str) -> Workload:
    labels = dict(endpoint.labels)
    if endpoint.service_account:
        labels.setdefault(TLS_MODE_LABEL, "istio")
    targets = {one.name: one.target_port or one.number for one in spec_of(resource).ports}
    return Workload(
        name=f"{resource.name}-{at}",
        namespace=resource.namespace,
        cluster=cluster,
        network=endpoint.network,
        address=endpoint.address,
        labels=labels,
        locality=parse_locality(endpoint.locality),
        service_account=endpoint.service_account or "default",
        listens={targets[name]: number for name, number in endpoint.ports.items()},
        weight=endpoint.weight or 1,
    )
