"""What a proxy of a mesh file would have, with shares, without running anything; and what a change moves. Pure.

The embedded control plane makes its messages, and the tables that a proxy compiles of them say the shares.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network

from eastgate.insight.endpoint_table import padded, shown_address
from eastgate.mesh.assignments import further_places_of, place_of
from eastgate.mesh.clusters import keys
from eastgate.mesh.documents import Progress, silent
from eastgate.mesh.listeners import gateway_clusters
from eastgate.mesh.model import Mesh, Service, Workload
from eastgate.mesh.node_view import NodeView
from eastgate.mesh.routes import is_auto_passthrough
from eastgate.mesh.scenario import workload_named
from eastgate.mesh.virtual_service import GatewaySpec
from eastgate.xds.dns import is_address, resolved_assignment
from eastgate.xds.resources import Assignment, DnsSettings

from .alike import PartOfHosts, asked, parts_of_hosts
from .changed import changed_hosts, known_hosts
from .outcomes import Outcome, outcomes, rows_of, why_refused
from .routed import Parts, Place, parts_of, routed
from .stand_ins import stands_in, view_of, with_addresses

GATEWAY_LABEL = ("istio", "eastwestgateway")
# Reserved for tests of networks: no endpoint of a mesh is there.
STAND_INS = ip_network("198.18.0.0/15")
BY_NAME = "; a name, as if it had one address"
TO_BE = "; not there yet, as if it had an address"


@dataclass(frozen=True, slots=True)
class Predicted:
    """One endpoint of a cluster. ``share`` of the cluster's new connections, 0 to 1; ``why``: how that comes about.

    ``additional_addresses``: its addresses beside the first one.
    """

    cluster: str
    address: str
    stands_for: str
    priority: int
    locality: str
    weight: int
    health: str
    share: float
    why: str
    additional_addresses: tuple[str, ...] = ()


def is_gateway(workload: Workload, mesh: Mesh | None = None) -> bool:
    """Whether it is an east-west gateway: by role, by the label that Istio's have, or by a Gateway's selector."""
    if workload.role == "gateway" or GATEWAY_LABEL in workload.labels.items():
        return True
    found = mesh.of_kind("Gateway", workload.cluster) if mesh else ()
    specs = [one.spec for one in found if isinstance(one.spec, GatewaySpec)]
    return any(
        one.selector
        and one.selector.items() <= workload.labels.items()
        and any(is_auto_passthrough(server) for server in one.servers)
        for one in specs
    )


def predicted(
    mesh: Mesh,
    workload: Workload,
    *,
    gateway: bool,
    hosts: frozenset[str] | None = None,
    progress: Progress = silent,
) -> tuple[Predicted, ...]:
    """Endpoints of all clusters that a client routes to, or that a gateway has for its clients.

    ``hosts``: only clusters that lead to these. ``progress``: how many clusters are done, of how many.
    """
    mesh = with_addresses(mesh)
    node = view_of(mesh, workload, gateway=gateway)
    names = _Names(mesh, node)
    led = gateway_clusters(mesh, node, hosts) if gateway else None
    found: list[Predicted] = []
    for one in outcomes(mesh, node, hosts, gateway=gateway, progress=progress):
        if led is not None and one.key.name not in led:
            found.append(_nothing(one.key.name, "no server of a Gateway leads to it: connections are refused"))
        else:
            found += _rows(mesh, node, names, one)
    return tuple(found)


def _nothing(name: str, why: str) -> Predicted:
    return Predicted(name, "", "", 0, "", 0, "", 0.0, why)


def _rows(mesh: Mesh, node: NodeView, names: "_Names", one: Outcome) -> Iterator[Predicted]:
    cluster, name = one.shape, one.key.name
    if cluster.type == "ORIGINAL_DST":
        yield Predicted(name, "original destination", "", 0, "", 1, "", 1.0, "goes where the client wanted to go")
        return
    rows = one.rows
    looked_up: Mapping[str, str] = {}
    if cluster.dns is not None:
        looked_up, assignment = _by_name(name, cluster.dns)
        rows = rows_of(cluster, assignment)
    further = {place_of(each.endpoint): each.endpoint for group in one.groups for each in group.candidates}
    if not rows:
        yield _nothing(name, f"no endpoints: connections are refused: {why_refused(mesh, node, one)}")
    for address, row in rows:
        host, _, port = address.rpartition(":")
        stands_for = names.behind(host.strip("[]"), one.key.service)
        afar = names.afar(host.strip("[]"), one.key.service)
        to_be = stands_in(host.strip("[]")) and bool(stands_for)
        shown = f"{stands_for.rpartition('/')[2]}:{port}" if to_be else looked_up.get(address, address)
        yield Predicted(
            cluster=name,
            address=shown,
            stands_for=stands_for,
            priority=row.priority,
            locality=row.locality,
            weight=row.weight,
            health=row.health,
            share=row.share,
            why=row.why
            + (BY_NAME if address in looked_up else TO_BE if to_be else "")
            + (f"; a pod of network {afar}, to which no gateway is known" if afar else ""),
            additional_addresses=further_places_of(further[address]) if address in further else (),
        )


def _by_name(cluster: str, settings: DnsSettings) -> tuple[Mapping[str, str], Assignment]:
    """Names by the addresses that stand for them, one for each, and the assignment of these."""
    hosts = dict.fromkeys(target.host for target in settings.targets if not is_address(target.host))
    made_up = {host: str(STAND_INS[index]) for index, host in enumerate(hosts)}
    names = {
        f"{made_up[one.host]}:{one.port}": f"{one.host}:{one.port}" for one in settings.targets if one.host in hosts
    }
    return names, resolved_assignment(cluster, settings, {host: [address] for host, address in made_up.items()})


def _by_address(mesh: Mesh) -> Mapping[str, list[Workload]]:
    found: dict[str, list[Workload]] = {}
    for one in mesh.workloads:
        found.setdefault(one.address, []).append(one)
    return found


class _Names:
    """What stands behind an address as one node sees it: pods of two networks may have the same."""

    def __init__(self, mesh: Mesh, node: NodeView) -> None:
        self._mesh, self._node = mesh, node
        self._gateways = {one.address: f"gateway of {one.cluster or one.network}" for one in mesh.gateways}
        self._at = mesh.known("by address", lambda: _by_address(mesh))

    def behind(self, address: str, service: Service | None) -> str:
        """A gateway of a network, or a workload: of several the one that is behind the service, and near."""
        if address in self._gateways:
            return self._gateways[address]
        near = self._workload(address, service)
        return f"{near.cluster}/{near.name}" if near else ""

    def afar(self, address: str, service: Service | None) -> str:
        """The other network that a pod is in whose own address is sent; empty for all others."""
        near = None if address in self._gateways else self._workload(address, service)
        # Without a network on one side istiod takes both for one.
        return near.network if near and self._node.network not in ("", near.network) else ""

    def _workload(self, address: str, service: Service | None) -> Workload | None:
        there = self._at.get(address, ())
        fitting = [one for one in there if service is None or service.selects(one)] or there
        near = [one for one in fitting if one.network in ("", self._node.network)] or fitting
        return near[0] if near else None


def clients(mesh: Mesh, names: tuple[str, ...]) -> tuple[Workload, ...]:
    """Workloads of these names, or one for each cluster, namespace and set of labels. Raises LookupError.

    A pod that takes no mTLS has no sidecar, unless it is named: what would change is not asked there.
    """
    if names:
        return tuple(workload_named(mesh, name) for name in names)
    alike: dict[tuple[object, ...], Workload] = {}
    for one in mesh.workloads:
        if not (one.mtls or is_gateway(one, mesh)):
            continue
        key = (one.cluster, one.namespace, one.locality, one.network, tuple(sorted(one.labels.items())))
        alike.setdefault(key, one)
    return tuple(alike.values())


@dataclass(frozen=True, slots=True)
class Moved:
    """What a change moves for one client: ``before`` and ``after`` are shares by what stands behind, 0 to 1.

    ``client``: its name; of many that are alike the first one's, and how many more. ``cluster``: whose connections; or
    a host and port, where it is a route that changes.
    """

    client: str
    cluster: str
    before: Mapping[str, float]
    after: Mapping[str, float]

    @property
    def points(self) -> float:
        """Percentage points of the cluster's connections that go elsewhere; all, where it comes or goes."""
        if bool(self.before) != bool(self.after):
            return 100.0
        names = {*self.before, *self.after}
        return 50 * sum(abs(self.after.get(name, 0) - self.before.get(name, 0)) for name in names)


REFUSED = "refused"
OF_ONE_POD = frozenset(
    {
        "pod-template-hash",
        "controller-revision-hash",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
    }
)
"""Labels that Kubernetes gives each pod, or each version of its template."""


def pairs(old: Mesh, new: Mesh, names: tuple[str, ...] = ()) -> tuple[tuple[Workload, Workload | None], ...]:
    """Clients of the new mesh, each with what it was in the old one: of the same name, else of the same kind.

    Pods have other names after every rollout. None: nothing like it was there. Raises LookupError.
    """
    known = {one.identity: one for one in old.workloads}
    alike: dict[tuple[object, ...], Workload] = {}
    for one in old.workloads:
        alike.setdefault(_kind(one), one)
    return tuple((one, known.get(one.identity) or alike.get(_kind(one))) for one in clients(new, names))


def _kind(one: Workload) -> tuple[object, ...]:
    labels = tuple(sorted((name, value) for name, value in one.labels.items() if name not in OF_ONE_POD))
    return one.cluster, one.namespace, one.service_account, labels


Members = Sequence[tuple[Workload, Workload]]
"""Clients that are alike, as they were and as they are."""


def moved(old: Mesh, new: Mesh, names: tuple[str, ...] = (), progress: Progress = silent) -> tuple[Moved, ...]:
    """What the change of a mesh moves, for each client that both have, most points first. Raises LookupError.

    Predicted once for hosts and clients that nothing tells apart; of many such clients one is named. ``progress``: how
    much of the work is done, of how much.
    """
    meshes = old, new
    wanted = list(_predictions(meshes, names))
    everything = known_hosts(meshes)
    sizes = [len(part.reached if part else everything) for _, part, _ in wanted]
    total, done = 2 * sum(sizes), 0
    found: list[Moved] = []
    for (members, part, gateway), size in zip(wanted, sizes, strict=True):
        sides = _span(progress, total, done, size), _span(progress, total, done + size, size)
        found += _named(_moved_for(meshes, members[0], part, sides, gateway=gateway), members)
        done += 2 * size
    return tuple(sorted(found, key=lambda change: (-change.points, change.client, change.cluster)))


def _span(progress: Progress, total: int, begin: int, size: int) -> Progress:
    """Progress of a part, in terms of the whole."""
    return lambda done, of: progress(begin + size * done // of, total)


def _predictions(
    meshes: tuple[Mesh, Mesh], names: tuple[str, ...]
) -> Iterator[tuple[Members, PartOfHosts | None, bool]]:
    """What has to be predicted: for which clients, of which hosts (None: of all), and whether these are gateways."""
    old, new = meshes
    changed = changed_hosts(old, new)
    everything = asked(meshes)
    kinds: dict[tuple[bool, Hashable, Hashable], list[tuple[Workload, Workload]]] = {}
    for one, was in pairs(old, new, names):
        if was is not None:
            key = (is_gateway(one, new), everything.answer(was), everything.answer(one))
            kinds.setdefault(key, []).append((was, one))
    stay = {key: members for key, members in kinds.items() if key[1] == key[2]}
    for (gateway, *_), members in ((key, of) for key, of in kinds.items() if key not in stay):
        # Who is asked for other things than before may find anything changed.
        yield members, None, gateway
    for part in parts_of_hosts(meshes, known_hosts(meshes) if changed is None else changed):
        groups: dict[tuple[bool, Hashable], list[tuple[Workload, Workload]]] = {}
        for (gateway, *_), members in stay.items():
            groups.setdefault((gateway, part.asked.answer(members[0][1])), []).extend(members)
        for (gateway, _), members in groups.items():
            yield members, part, gateway


MOST_NAMED = 20
"""Clients of one kind that are named; of more the first, with the number of the others."""


def _named(changes: Iterable[Moved], members: Members) -> Iterator[Moved]:
    names = [f"{one.cluster}/{one.namespace}/{one.name}" for _, one in members]
    told = names if len(names) <= MOST_NAMED else [f"{names[0]} and {len(names) - 1:,} more"]
    for change in changes:
        yield from (replace(change, client=name) for name in told)


def _moved_for(
    meshes: tuple[Mesh, Mesh],
    works: tuple[Workload, Workload],
    part: PartOfHosts | None,
    progress: tuple[Progress, Progress],
    *,
    gateway: bool,
) -> Iterator[Moved]:
    """What the change moves for one client, who is not named. ``part``: of these hosts; None: of all. ``progress``: of
    what was before, and of what is after it.
    """
    hosts = part.reached if part else None
    sides = tuple(zip(meshes, works, strict=True))
    before, after = (
        _shares(predicted(mesh, work, gateway=gateway, hosts=hosts, progress=told))
        for (mesh, work), told in zip(sides, progress, strict=True)
    )
    changes = [
        Moved("", cluster, before.get(cluster, {}), after.get(cluster, {}))
        for cluster in sorted({*before, *after})
        if part is None or host_of(cluster) in part.hosts
    ]
    led = [routed(mesh, view_of(mesh, work, gateway=gateway), part.hosts if part else None) for mesh, work in sides]
    changes += _moved_routes((led[0], led[1]), (before, after))
    yield from (change for change in changes if change.points > 1e-6)


def host_of(cluster: str) -> str:
    """The host that stands in a cluster's name."""
    return cluster.rpartition("|" if "|" in cluster else "_.")[2]


Shares = Mapping[str, Mapping[str, float]]


def _moved_routes(
    led: tuple[Mapping[Place, Parts], Mapping[Place, Parts]], shares: tuple[Shares, Shares]
) -> Iterator[Moved]:
    """Places whose connections are led otherwise. What moves inside of clusters is told of the clusters."""
    for place in sorted({*led[0], *led[1]}, key=str):
        before, after = (parts_of(place, one) for one in led)
        if before != after:
            yield Moved("", str(place), _composed(before, shares[0]), _composed(after, shares[1]))


def _composed(parts: Parts, shares: Shares) -> dict[str, float]:
    """What stands behind the clusters of a route, by its part of the route's connections."""
    found: dict[str, float] = {}
    for name, part in parts.items():
        inside = shares.get(name) or {REFUSED if "|" in name else name: 1.0}
        for behind, share in inside.items():
            found[behind] = found.get(behind, 0.0) + part * share
    return found


def _shares(rows: Iterable[Predicted]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for row in rows:
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
    place = shown_address(row.address, row.additional_addresses)
    return (place, row.stands_for or "-", row.cluster, *numbers, f"{row.share:.2%}", row.why)


def hosts_within(mesh: Mesh, node: NodeView, text: str) -> frozenset[str] | None:
    """Hosts of clusters of a node with `text` in their names; None: of all."""
    if not text:
        return None
    directions = (False,) if node.type == "sidecar" else (False, True)
    found = (key for sni_dnat in directions for key in keys(mesh, node, sni_dnat=sni_dnat))
    return frozenset(key.service.host for key in found if text in key.name)


def routes_within(mesh: Mesh, node: NodeView, text: str) -> Iterator[tuple[Place, Parts]]:
    """Where VirtualServices lead connections that without them would go to a cluster with `text` in its name."""
    led = routed(mesh, node, hosts_within(mesh, node, text))
    return ((place, parts) for place, parts in led.items() if text in place.own_cluster)


def routes_text(mesh: Mesh, node: NodeView, routes: Iterable[tuple[Place, Parts]]) -> str:
    """Routes of a node for people; empty: nothing is led elsewhere."""
    led = list(routes)
    hosts = frozenset(host_of(name) for _, parts in led for name in parts if "|" in name)
    there = {key.name for key in keys(mesh, node, sni_dnat=False, hosts=hosts)} if hosts else set()

    def named(cluster: str) -> str:
        return cluster if "|" not in cluster or cluster in there else f"{cluster} (no such cluster: {REFUSED})"

    rows = [(str(place), told({named(name): part for name, part in parts.items()})) for place, parts in led]
    return "\n" + padded([("CONNECTIONS TO", "GO TO"), *rows]) if rows else ""
