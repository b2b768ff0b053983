"""Networks of a mesh file: whose workloads are in which, how one gets in, and what is contradictory about it."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from itertools import combinations

from .documents import Path
from .mesh_schema import MeshSection
from .split_horizon import NetworkGateway


def network_of(section: MeshSection, cluster: str, address: str | None) -> str:
    """The network of a workload: by fromCidr, else by fromRegistry, else its cluster's."""
    networks = section.mesh_networks.networks
    for name, network in networks.items():
        for entry in network.endpoints:
            if address and entry.from_cidr and ip_address(address) in ip_network(entry.from_cidr, strict=False):
                return name
    for name, network in networks.items():
        if any(entry.from_registry == cluster for entry in network.endpoints):
            return name
    return section.clusters[cluster].network


def gateways(section: MeshSection) -> tuple[NetworkGateway, ...]:
    """All gateways of the mesh: those of clusters, and those that meshNetworks names by address."""
    found = [
        NetworkGateway(cluster.network, one.address, one.port, name)
        for name, cluster in section.clusters.items()
        for one in cluster.gateways
    ]
    for name, network in section.mesh_networks.networks.items():
        found += [NetworkGateway(name, one.address, one.port) for one in network.gateways if one.address]
    return tuple(found)


def network_problems(section: MeshSection) -> Iterator[tuple[Path, str]]:
    """Gateways without a network, one address for two networks, ranges that overlap or are none."""
    owners: dict[tuple[str, int], str] = {}
    for name, cluster in section.clusters.items():
        for index, one in enumerate(cluster.gateways):
            path: Path = ("clusters", name, "gateways", index)
            if not cluster.network:
                yield path, f"cluster {name} has a gateway and no network: nobody would go through it"
            owner = owners.setdefault((one.address, one.port), cluster.network)
            if owner != cluster.network:
                yield path, f"overlapping networks: {one.address}:{one.port} leads into {owner} and {cluster.network}"
    ranges = []
    for name, network in section.mesh_networks.networks.items():
        for index, entry in enumerate(network.endpoints):
            path = ("meshNetworks", "networks", name, "endpoints", index)
            if entry.from_registry and entry.from_registry not in section.clusters:
                yield (*path, "fromRegistry"), f"network {name}: unknown cluster {entry.from_registry!r}"
            if entry.from_cidr:
                try:
                    ranges.append((name, ip_network(entry.from_cidr, strict=False), (*path, "fromCidr")))
                except ValueError as error:
                    yield (*path, "fromCidr"), f"network {name}: {error}"
        for index, gateway in enumerate(network.gateways):
            if gateway.registry_service_name:
                where = ("meshNetworks", "networks", name, "gateways", index)
                yield where, f"network {name}: registryServiceName is not supported, name the gateway's address"
    for (name, first, _), (other, second, path) in combinations(ranges, 2):
        if name != other and first.version == second.version and first.overlaps(second):
            yield path, f"overlapping networks: {second} of {other} and {first} of {name}"
