"""Addresses for what has none yet, so that it counts where it will be, and nodes that see them.

Pure; nobody connects to them.
"""

from dataclasses import replace
from hashlib import blake2b
from ipaddress import IPv6Address, ip_network

from eastgate.mesh.model import Mesh, Workload
from eastgate.mesh.node_view import NodeView, node_view
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


def view_of(mesh: Mesh, workload: Workload, *, gateway: bool) -> NodeView:
    """The workload as the node that it would be. ``gateway``: an east-west gateway, which sees its own network only."""
    kind, network = ("router" if gateway else "sidecar"), workload.network
    metadata: dict[str, object] = {
        "CLUSTER_ID": workload.cluster,
        "NETWORK": network,
        "NAMESPACE": workload.namespace,
        "LABELS": dict(workload.labels),
    }
    if gateway:
        metadata["REQUESTED_NETWORK_VIEW"] = network
    address = workload.address or "127.0.0.1"
    addresses = [address, *workload.further]
    if any(stands_in(one.address) for one in mesh.gateways):
        # Of whichever family gateways will be that are not there yet.
        addresses.append(str(RANGE.network_address))
    metadata["INSTANCE_IPS"] = ",".join(addresses)
    identity = f"{kind}~{address}~{workload.name}.{workload.namespace}~{workload.namespace}.svc.cluster.local"
    return node_view(identity, metadata, workload.locality, mesh)
