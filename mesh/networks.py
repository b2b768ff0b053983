"""Networks of a mesh file: whose workloads are in which, how one gets in, and what is contradictory about it."""

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import combinations

from eastgate.xds.outside_text import may_be_host

from .documents import Document, Path
from .mesh_schema import MeshSection
from .model import NETWORK_LABEL
from .part import unread
from .split_horizon import NetworkGateway


def network_of(section: MeshSection, cluster: str, address: str | None, labels: Mapping[str, str]) -> str:
    """The network of a workload: its label, else its cluster's (the label of the root namespace), else meshNetworks.

    There, fromRegistry counts before fromCidr. Source: istio, pilot/pkg/serviceregistry/kube/controller (Network).
    """
    if own := labels.get(NETWORK_LABEL) or section.clusters[cluster].network:
        return own
    networks = section.mesh_networks.networks
    for name, network in networks.items():
        if any(entry.from_registry == cluster for entry in network.endpoints):
            return name
    for name, network in networks.items():
        for entry in network.endpoints:
            if address and entry.from_cidr and ip_address(address) in ip_network(entry.from_cidr, strict=False):
                return name
    return ""


def gateways(section: MeshSection, services: Mapping[tuple[str, str], list[str]]) -> tuple[NetworkGateway, ...]:
    """All gateways of the mesh: those of clusters, and those that meshNetworks names by address or by service.

    ``services``: outside addresses by host and cluster.
    """
    found = [
        NetworkGateway(one.network or cluster.network, one.address, one.port, name)
        for name, cluster in section.clusters.items()
        for one in cluster.gateways
    ]
    for name, network in section.mesh_networks.networks.items():
        found += [NetworkGateway(name, one.address, one.port) for one in network.gateways if one.address]
        registries = [entry.from_registry for entry in network.endpoints if entry.from_registry]
        found += [
            NetworkGateway(name, address, one.port, cluster)
            for one in network.gateways
            for cluster in registries
            for address in services.get((one.registry_service_name, cluster), ())
        ]
    return tuple(dict.fromkeys(found))


Resolve = Callable[[str], list[str]]


def resolved(found: Iterable[NetworkGateway], resolve: Resolve) -> tuple[NetworkGateway, ...]:
    """Gateways with the addresses of their names, sorted. Raises LookupError for a name that has none."""
    made: list[NetworkGateway] = []
    for one in found:
        if is_address(one.address):
            made.append(one)
            continue
        addresses = resolve(one.address)
        if not addresses:
            raise LookupError(one.address)
        made += [replace(one, address=address) for address in sorted(addresses)]
    return tuple(dict.fromkeys(made))


def is_address(text: str) -> bool:
    """Whether it is an IP address, rather than a name."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def look_up(name: str) -> list[str]:
    """Addresses of a name, as the machine resolves it; empty when it does not."""
    if not may_be_host(name):
        return []
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(entry[4][0]) for entry in found})


def unread_of_networks(section: MeshSection, document: Document) -> Iterator[Path]:
    """Where meshNetworks says what nobody reads: a misspelt field there leaves a network without what it names."""
    for path in unread(section.mesh_networks, ("meshNetworks",)):
        # As Helm has it, there is no "networks" around the networks.
        yield path if path[:2] in document.lines else (*path[:1], *path[2:])


def network_problems(section: MeshSection) -> Iterator[tuple[Path, str]]:
    """Gateways without a network, one address for two networks, ranges that overlap or are none."""
    owners: dict[tuple[str, int], str] = {}
    for name, cluster in section.clusters.items():
        for index, one in enumerate(cluster.gateways):
            path: Path = ("clusters", name, "gateways", index)
            network = one.network or cluster.network
            if not network:
                yield path, f"cluster {name} has a gateway and no network: nobody would go through it"
            owner = owners.setdefault((one.address, one.port), network)
            if owner != network:
                yield path, f"overlapping networks: {one.address}:{one.port} leads into {owner} and {network}"
    ranges = []
    for name, part in section.mesh_networks.networks.items():
        for index, entry in enumerate(part.endpoints):
            path = ("meshNetworks", "networks", name, "endpoints", index)
            if entry.from_registry and entry.from_registry not in section.clusters:
                yield (*path, "fromRegistry"), f"network {name}: unknown cluster {entry.from_registry!r}"
            if entry.from_cidr:
                try:
                    ranges.append((name, ip_network(entry.from_cidr, strict=False), (*path, "fromCidr")))
                except ValueError as error:
                    yield (*path, "fromCidr"), f"network {name}: {error}"
    for (name, first, _), (other, second, path) in combinations(ranges, 2):
        if name != other and first.version == second.version and first.overlaps(second):
            yield path, f"overlapping networks: {second} of {other} and {first} of {name}"
