"""What a proxy of a mesh file would have, with shares, without running anything; and what a change moves. Pure.

The embedded control plane makes its messages, and the tables that a proxy compiles of them say the shares.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from eastgate.insight.cluster_model import compile_model
from eastgate.insight.explain import explain
from eastgate.insight.snapshot_model import cluster_of
from eastgate.mesh.control_plane import cluster_resources
from eastgate.mesh.messages import CDS, EDS
from eastgate.mesh.model import Mesh, Workload
from eastgate.mesh.node_view import NodeView, node_view
from eastgate.mesh.scenario import workload_named
from eastgate.xds.decode import decode_assignment
from eastgate.xds.decode_cluster import decode_cluster

GATEWAY_LABEL = ("istio", "eastwestgateway")
PREFIXES = {"sidecar": "outbound|", "router": "outbound_."}


@dataclass(frozen=True, slots=True)
class Predicted:
    """One endpoint of a cluster. ``share`` of the cluster's new connections, 0 to 1; ``why``: how that comes about."""

    cluster: str
    address: str
    stands_for: str
    priority: int
    locality: str
    weight: int
    health: str
    share: float
    why: str


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
    identity = f"{kind}~{address}~{workload.name}.{workload.namespace}~{workload.namespace}.svc.cluster.local"
    return node_view(identity, metadata, workload.locality, mesh)


def is_gateway(workload: Workload) -> bool:
    """Whether a workload is an east-west gateway, by its role or by the label that Istio's have."""
    return workload.role == "gateway" or GATEWAY_LABEL in workload.labels.items()


def predicted(mesh: Mesh, workload: Workload, *, gateway: bool) -> tuple[Predicted, ...]:
    """Endpoints of all clusters that a client routes to, or that a gateway has for its clients."""
    found: list[Predicted] = []
    for name, raw, assigned in _clusters(mesh, view_of(mesh, workload, gateway=gateway), gateway=gateway):
        found += _rows(mesh, name, raw, assigned)
    return tuple(found)


def _clusters(mesh: Mesh, node: NodeView, *, gateway: bool) -> Iterator[tuple[str, bytes, bytes | None]]:
    sent: Mapping[str, Mapping[str, bytes]] = cluster_resources(mesh, node)
    prefix = PREFIXES["router" if gateway else "sidecar"]
    for name, raw in sent[CDS].items():
        if name.startswith(prefix):
            yield name, raw, sent[EDS].get(name)


def _rows(mesh: Mesh, name: str, raw: bytes, assigned: bytes | None) -> Iterator[Predicted]:
    model = cluster_of(decode_cluster(raw), decode_assignment(assigned) if assigned is not None else None)
    if not model.endpoints:
        without = sum(not one.address for one in mesh.workloads)
        why = f"; {without} workloads have no address in this file" if without else ""
        yield Predicted(name, "", "", 0, "", 0, "", 0.0, f"no endpoints: connections are refused{why}")
        return
    explanation = explain(compile_model(model))
    loads = {one.priority: one.arithmetic for one in explanation.priorities}
    behind = _behind(mesh)
    for endpoint, share in zip(model.endpoints, explanation.endpoints, strict=True):
        yield Predicted(
            cluster=name,
            address=endpoint.address,
            stands_for=behind.get(endpoint.address.rpartition(":")[0], ""),
            priority=endpoint.priority,
            locality=str(endpoint.locality),
            weight=endpoint.weight,
            health=endpoint.health,
            share=share.share or 0.0,
            why=share.reason or "; ".join(loads.get(endpoint.priority, ())),
        )


def _behind(mesh: Mesh) -> dict[str, str]:
    """What stands behind an address: a gateway of a network, or a workload."""
    found = {one.address: "/".join((one.cluster, one.name)) for one in mesh.workloads if one.address}
    for gateway in mesh.gateways:
        found[gateway.address] = f"gateway of {gateway.cluster or gateway.network}"
    return found


def clients(mesh: Mesh, names: tuple[str, ...]) -> tuple[Workload, ...]:
    """Workloads of these names, or one for each cluster, namespace and set of labels. Raises LookupError."""
    if names:
        return tuple(workload_named(mesh, name) for name in names)
    alike: dict[tuple[object, ...], Workload] = {}
    for one in mesh.workloads:
        key = (one.cluster, one.namespace, one.locality, one.network, tuple(sorted(one.labels.items())))
        alike.setdefault(key, one)
    return tuple(alike.values())


@dataclass(frozen=True, slots=True)
class Moved:
    """What a change moves for one client: ``before`` and ``after`` are shares by what stands behind, 0 to 1."""

    client: str
    cluster: str
    before: Mapping[str, float]
    after: Mapping[str, float]

    @property
    def points(self) -> float:
        """Percentage points of the cluster's connections that go elsewhere."""
        names = {*self.before, *self.after}
        return 50 * sum(abs(self.after.get(name, 0) - self.before.get(name, 0)) for name in names)


REFUSED = "refused"


def moved(old: Mesh, new: Mesh, names: tuple[str, ...] = ()) -> tuple[Moved, ...]:
    """What the change of a mesh moves, for each client that both have, most points first. Raises LookupError."""
    known = {one.identity for one in old.workloads}
    found = []
    for one in clients(new, names):
        if one.identity not in known:
            continue
        was = next(other for other in old.workloads if other.identity == one.identity)
        gateway = is_gateway(one)
        before, after = (_shares(mesh, work, gateway=gateway) for mesh, work in ((old, was), (new, one)))
        name = f"{one.cluster}/{one.namespace}/{one.name}"
        for cluster in sorted({*before, *after}):
            change = Moved(name, cluster, before.get(cluster, {}), after.get(cluster, {}))
            if change.points > 1e-6:
                found.append(change)
    return tuple(sorted(found, key=lambda change: (-change.points, change.client, change.cluster)))


def _shares(mesh: Mesh, workload: Workload, *, gateway: bool) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for row in predicted(mesh, workload, gateway=gateway):
        shares = found.setdefault(row.cluster, {})
        name = row.stands_for or row.address or REFUSED
        shares[name] = shares.get(name, 0.0) + row.share
    for shares in found.values():
        if (left := 1.0 - sum(shares.values())) > 1e-9:
            shares[REFUSED] = shares.get(REFUSED, 0.0) + left
    return found


def moved_text(changes: tuple[Moved, ...], *, markdown: bool) -> str:
    """One line for each change; a table for GitHub with ``markdown``."""
    cells = [("client", "cluster", "before", "after", "moved")]
    cells += [
        (one.client, one.cluster, told(one.before), told(one.after), f"{one.points:.1f} points") for one in changes
    ]
    if not changes:
        return "No shares change.\n"
    if markdown:
        head, *rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in cells]
        return "\n".join([head, "|---|---|---|---|---:|", *rows]) + "\n"
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells)
    return "\n".join(padded) + "\n"


def told(shares: Mapping[str, float]) -> str:
    """Shares in one cell, largest first; what is not there is said as well."""
    if not shares:
        return "(not there)"
    ordered = sorted(shares.items(), key=lambda entry: (-entry[1], entry[0]))
    return ", ".join(f"{name} {share:.1%}" for name, share in ordered if share) or REFUSED


CELLS = ("ENDPOINT", "STANDS FOR", "CLUSTER", "PRIORITY", "LOCALITY", "WEIGHT", "HEALTH", "SHARE", "WHY")


def cells_of(row: Predicted) -> tuple[str, ...]:
    """A row for people."""
    if not row.address:
        return ("(none)", "", row.cluster, "", "", "", "", "", row.why)
    numbers = (str(row.priority), row.locality or "-", str(row.weight), row.health)
    return (row.address, row.stands_for or "-", row.cluster, *numbers, f"{row.share:.2%}", row.why)
