"""Addresses for what has none yet, so that it counts where it will be. Pure; nobody connects to them."""

from dataclasses import replace
from hashlib import blake2b
from ipaddress import IPv6Address, ip_network

from eastgate.mesh.model import Mesh, Workload
from eastgate.mesh.split_horizon import NetworkGateway

# Where packets are discarded (RFC 6666): no endpoint of a mesh is there.
RANGE = ip_network("100::/64")


def with_addresses(mesh: Mesh) -> Mesh:
    """Addresses for workloads that have none, and gateways where only workloads stand for them.

    A workload's is the same in every mesh: what did not change does not move.
    """
    return mesh.known("with addresses", lambda: _with_addresses(mesh))


def _with_addresses(mesh: Mesh) -> Mesh:
    if all(one.address for one in mesh.workloads):
        placed = mesh
    else:
        placed = mesh.changed(lambda one: one if one.address else replace(one, address=_address(one)))
    if placed.gateways:
        return placed
    gateways = [one for one in placed.workloads if one.role == "gateway"]
    if not gateways:
        return placed
    return replace(
        placed, gateways=tuple(NetworkGateway(one.network, one.address, cluster=one.cluster) for one in gateways)
    )


def _address(workload: Workload) -> str:
    digest = blake2b("/".join(workload.identity).encode(), digest_size=8).digest()
    return str(IPv6Address(int(RANGE.network_address) + int.from_bytes(digest)))


def stands_in(address: str) -> bool:
    """Whether an address is one of these."""
    return address.startswith("100:")
