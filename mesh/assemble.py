"""Sections of a mesh file and Kubernetes objects, put together as the workloads and services of the model."""

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address

from eastgate.xds.resources import Locality

from .families import Family
from .gather import Gathered, Place
from .locality import locality_label, parse_locality
from .mesh_schema import ClusterSection, MeshSection, NodeSection, ServiceSection, WorkloadSection
from .model import TLS_MODE_LABEL, Service, ServicePort, Workload, port_protocol
from .networks import network_of

AUTO_ADDRESSES: Mapping[Family, int] = {
    "IPv4": int(ip_address("240.240.0.1")),
    "IPv6": int(ip_address("2001:2::f0f0:1")),
}
"""Virtual addresses of services that have none are counted up from here, as Istio does for ServiceEntries."""


def with_gathered(section: MeshSection, gathered: Gathered) -> MeshSection:
    """The section with nodes and networks of Kubernetes objects; what it says itself counts first."""
    clusters: dict[str, ClusterSection] = {}
    for name, one in section.clusters.items():
        changes = {
            "nodes": {**gathered.nodes.get(name, {}), **one.nodes},
            "network": one.network or gathered.networks.get(name, ""),
        }
        clusters[name] = one.model_copy(update=changes)
    return section.model_copy(update={"clusters": clusters})


def workloads(section: MeshSection, place: Place, gathered: Gathered) -> tuple[Workload, ...]:
    """All workloads. Raises MeshError for unknown nodes, and for names or addresses that stand twice."""
    own = [
        (name, entry, Place(place.document, ("clusters", name, "workloads", index)))
        for name, cluster in section.clusters.items()
        for index, entry in enumerate(cluster.workloads)
    ]
    for cluster, entry, where in own:
        if entry.node and entry.node not in section.clusters[cluster].nodes:
            cause = f"workload {entry.name}: unknown node {entry.node!r} of cluster {cluster}"
            raise where.document.error((*where.path, "node"), cause)
    made = [(where, _workload(section, cluster, entry)) for cluster, entry, where in own]
    _refuse_twice(made, addresses=True)
    made += [(where, _workload(section, cluster, entry)) for cluster, entry, where in gathered.workloads]
    _refuse_twice(made, addresses=False)
    return tuple(one for _, one in made)


def _workload(section: MeshSection, cluster: str, entry: WorkloadSection) -> Workload:
    labels = dict(entry.labels)
    if entry.mtls and entry.role != "gateway":
        labels.setdefault(TLS_MODE_LABEL, "istio")
    return Workload(
        name=entry.name,
        namespace=entry.namespace,
        cluster=cluster,
        network=network_of(section, cluster, entry.address, labels),
        address=entry.address or "",
        further=tuple(entry.additional_addresses),
        labels=labels,
        locality=_locality(section.clusters[cluster].nodes.get(entry.node), labels),
        locality_text=locality_label(labels),
        node=entry.node,
        service_account=entry.service_account,
        ready=entry.ready,
        ready_since=entry.ready_since,
        invented_name=entry.invented_name,
        named_ports=entry.ports,
        role=entry.role,
        answer=entry.answer,
    )


def _locality(node: NodeSection | None, labels: Mapping[str, str]) -> Locality:
    """Of the pod's own label, else of its node, as istiod has it (getPodLocality)."""
    if text := locality_label(labels):
        return parse_locality(text)
    return Locality(node.region, node.zone, node.sub_zone) if node else Locality()


def _refuse_twice(found: Iterable[tuple[Place, Workload]], *, addresses: bool) -> None:
    """Names are unique in a cluster's namespace; addresses in a network, but for pods of a host's network."""
    names: dict[tuple[str, str, str], Workload] = {}
    known: dict[tuple[str, str], Workload] = {}
    for place, one in found:
        if one.identity in names:
            raise place.document.error(place.path, f"a second workload {'/'.join(one.identity)}")
        names[one.identity] = one
        for address in one.all_addresses if addresses else ():
            other = known.setdefault((one.network, address), one)
            if other is not one:
                raise place.document.error(
                    (*place.path, "address"),
                    f"workload {one.name}: {other.name} of cluster {other.cluster} has {address} in network"
                    f" {one.network or '(none)'} already",
                )


def services(section: MeshSection, place: Place, gathered: Gathered) -> tuple[Service, ...]:
    """All services. Raises MeshError for unknown clusters, and for names or ports that stand twice."""
    found: dict[tuple[str, str], Service] = {}
    own = [(entry, None, Place(place.document, ("services", at))) for at, entry in enumerate(section.services)]
    for index, (entry, addresses, where) in enumerate([*own, *gathered.services]):
        if (entry.namespace, entry.name) in found:
            raise where.document.error(where.path, f"a second service {entry.name}.{entry.namespace}")
        named = (entry.clusters, entry.endpoints, entry.endpoint_ports, entry.endpoint_ready, entry.anonymous)
        for name in (one for part in named for one in part):
            if name not in section.clusters:
                raise where.document.error((*where.path, "clusters"), f"service {entry.name}: unknown cluster {name!r}")
        ports = [one.port for one in entry.ports]
        if len(set(ports)) != len(ports):
            raise where.document.error((*where.path, "ports"), f"service {entry.name}: a port stands twice")
        found[entry.namespace, entry.name] = _service(section, entry, addresses, index)
    known = {f"{one.name}.{one.namespace}" for one in found.values()}
    for cluster_name, one_cluster in section.clusters.items():
        for short in one_cluster.addresses:
            if short not in known:
                raise place.document.error(("clusters", cluster_name, "addresses", short), f"unknown service {short!r}")
    return tuple(found.values())


def _service(
    section: MeshSection, entry: ServiceSection, addresses: Mapping[str, list[str]] | None, index: int
) -> Service:
    clusters = frozenset(entry.clusters or section.clusters)
    if addresses is None and not entry.headless:
        short = f"{entry.name}.{entry.namespace}"
        families: Sequence[Family] = entry.families or ["IPv4"]
        automatic = [str(ip_address(AUTO_ADDRESSES[one] + index)) for one in families]
        addresses = {name: section.clusters[name].addresses.get(short, automatic) for name in clusters}
    return Service(
        name=entry.name,
        namespace=entry.namespace,
        ports=tuple(
            ServicePort(
                number=one.port,
                target=one.port if one.target_port is None else one.target_port,
                protocol=port_protocol(one.name, one.app_protocol, one.protocol),
                name=one.name,
            )
            for one in entry.ports
        ),
        selector=entry.selector,
        clusters=clusters,
        addresses={name: tuple(found) for name, found in (addresses or {}).items() if found},
        families=tuple(entry.families),
        traffic_distribution=entry.traffic_distribution,
        headless=entry.headless,
        export_to=frozenset(entry.export_to),
        endpoints={name: frozenset(found) for name, found in entry.endpoints.items()},
        node_local=entry.node_local,
        publishes_unready=entry.publishes_unready,
        endpoint_ports={
            cluster: {
                (address, name): number for address, ports in by_address.items() for name, number in ports.items()
            }
            for cluster, by_address in entry.endpoint_ports.items()
        },
        endpoint_ready=entry.endpoint_ready,
        anonymous={
            cluster: {address: _anonymous(section, entry, cluster, address) for address in addresses}
            for cluster, addresses in entry.anonymous.items()
        },
    )


def _anonymous(section: MeshSection, entry: ServiceSection, cluster: str, address: str) -> Workload:
    """An address of which nothing else is known."""
    network = network_of(section, cluster, address, {})
    return Workload(address, entry.namespace, cluster, network, address, {}, service_account="")
