"""A scenario: steps that change a mesh, each with the shares that must follow. Pure; trial/ runs it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from .model import Identity, Mesh, Service, ServicePort, Workload

NAMED = 20
"""Names that an error lists."""


@dataclass(frozen=True, slots=True)
class Outage:
    """What fails or comes back: one of region, zone ("region/zone") and gateway (a cluster, or "cluster/name") is set.

    ``after``: a gateway's process ends when this part of the step's connections, 0 to 1, has been answered.
    """

    region: str = ""
    zone: str = ""
    gateway: str = ""
    after: float = 0.0

    def hits(self, workload: Workload) -> bool:
        """Whether a workload is part of it: an echo workload by its locality, a gateway by its name or cluster."""
        if self.gateway:
            return workload.role == "gateway" and is_meant(self.gateway, workload, by_place=False)
        if workload.role != "echo":
            return False
        where = workload.locality
        return where.region == self.region if self.region else f"{where.region}/{where.zone}" == self.zone


@dataclass(frozen=True, slots=True)
class Step:
    """The whole mesh as it is in this step, and what breaks or comes back on the way to it.

    ``expected``: share by cluster, locality ("region/zone") or workload ("cluster/name"), "refused" for connections
    that nobody answered; empty: nothing is expected. ``through``: share of all connections by gateway
    that routes them.
    """

    name: str
    why: str
    mesh: Mesh
    failed: tuple[Outage, ...]
    repaired: tuple[Outage, ...]
    expected: Mapping[str, float]
    through: Mapping[Identity, float] = field(default_factory=dict)

    def down(self, before: frozenset[Identity] = frozenset()) -> frozenset[Identity]:
        """Gateways whose processes have ended after this step, where these had before it."""
        up = {one.identity for one in self._gateways(self.repaired)}
        return (before - up) | {one.identity for one in self._gateways(self.failed)}

    def ended(self, at: float) -> frozenset[Identity]:
        """Gateways that end when this part of the connections, 0 to 1, has been answered."""
        return frozenset(one.identity for one in self._gateways(tuple(o for o in self.failed if o.after == at)))

    def _gateways(self, outages: tuple[Outage, ...]) -> list[Workload]:
        return [one for one in self.mesh.workloads if any(o.gateway and o.hits(one) for o in outages)]


@dataclass(frozen=True, slots=True)
class Scenario:
    """``client`` connects `connections` times to the service port in each step. Each step holds the whole mesh.

    ``sidecars``: client and echo workloads have one each, and themselves know nothing of a mesh.
    """

    client: Workload
    service: Service
    port: ServicePort
    connections: int
    steps: tuple[Step, ...]
    sidecars: bool = False


REFUSED = "refused"


def is_meant(name: str, workload: Workload, *, by_place: bool = True) -> bool:
    """Whether a text means a workload: cluster[/name], cluster/namespace/name, by place region[/zone[/sub zone]]."""
    parts = tuple(name.split("/"))
    named = ((workload.cluster, workload.name), workload.identity, (workload.cluster,))
    where = tuple(workload.locality)
    return parts in named or (by_place and bool(where[0]) and parts == where[: len(parts)])


def meant_by(names: Iterable[str], workload: Workload) -> str:
    """The expectation that means a workload, the most specific one; without one its cluster."""
    meant = [name for name in names if is_meant(name, workload)]
    return max(meant, key=lambda name: (name.count("/"), name != workload.cluster), default=workload.cluster)


def with_readiness(mesh: Mesh, identities: set[tuple[str, str, str]], *, ready: bool) -> Mesh:
    """These workloads ready, or not."""
    return mesh.changed(lambda one: replace(one, ready=ready) if one.identity in identities else one)


def with_outages(mesh: Mesh, outages: tuple[Outage, ...], *, ready: bool) -> Mesh:
    """The workloads that an outage hits become unready, or ready again; a gateway's outage the mesh does not know."""
    return mesh.changed(
        lambda one: replace(one, ready=ready) if any(o.hits(one) for o in outages if not o.gateway) else one
    )


def with_options(mesh: Mesh, changes: Mapping[str, object]) -> Mesh:
    """Options with some of them changed; the names and kinds were checked when the file was read."""
    return replace(mesh, options=replace(mesh.options, **changes)) if changes else mesh  # type: ignore[arg-type]


def workload_named(mesh: Mesh, text: str) -> Workload:
    """The workload that "cluster/name" or "cluster/namespace/name" means. Raises LookupError."""
    parts = text.split("/")
    found = [
        one for one in mesh.workloads if parts in ([one.cluster, one.name], [one.cluster, one.namespace, one.name])
    ]
    if len(found) != 1:
        known = some_of(["/".join(one.identity) for one in mesh.workloads])
        raise LookupError(f"{text!r} means {len(found) or 'no'} workloads; known are {known}")
    return found[0]


def some_of(names: list[str]) -> str:
    """Names in a sentence: not all of thousands."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def service_named(mesh: Mesh, text: str) -> Service:
    """The service "name", "name.namespace" or a full host means. Raises LookupError."""
    found = [one for one in mesh.services if text in (one.name, f"{one.name}.{one.namespace}", one.host)]
    if len(found) != 1:
        known = some_of([one.host for one in mesh.services])
        raise LookupError(f"{text!r} means {len(found) or 'no'} services; known are {known}")
    return found[0]
