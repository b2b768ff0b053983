"""What stands at the two ends of a trial: who connects, and who answers. Two kinds fill this in, `bare_ends` and
`sidecar_ends`; what lies between, control planes and gateways, is the same for both.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.mesh.ads_server import AdsServer
from eastgate.mesh.model import Identity, Mesh, Resource, Workload
from eastgate.mesh.source import MeshSource
from eastgate.xds.columns import Columns


@dataclass(slots=True)
class Traffic:
    """What became of connections: answers by text, connections by endpoint address, failures by kind."""

    answers: Counter[str] = field(default_factory=Counter)
    endpoints: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Traffic") -> None:
        self.answers += other.answers
        self.endpoints += other.endpoints
        self.errors += other.errors


@dataclass(frozen=True, slots=True)
class Shares:
    """The cluster that the client's connections go to, as it picks from it. ``health``: by endpoint."""

    table: ClusterTable
    columns: Columns
    health: Sequence[str]
    overprovisioning_factor: int


@dataclass(frozen=True, slots=True)
class Ejection:
    """An endpoint went out, or came back: ``kind`` is ejected or returned. ``moved``: share of picks, 0 to 1."""

    kind: str
    address: str
    cause: str
    moved: float

    def named(self, stands_for: Mapping[str, str]) -> "Ejection":
        """With what stands behind the address in its place."""
        name = stands_for.get(self.address, self.address)
        return replace(self, address=name, cause=self.cause.replace(self.address, name))


class Ends(Protocol):
    """One kind. ``start`` raises TrialError; what it has started, the caller's stack stops."""

    def open_server(self, source: MeshSource, debounce_s: float) -> AdsServer:
        """A control plane, not yet listening."""
        ...

    def discovery_flags(self, workload: Workload, discovery: str) -> list[str]:
        """How a proxy of this workload reaches its control plane."""
        ...

    async def start_workloads(self) -> None: ...
    async def start_proxies(self, discovery: Mapping[str, str]) -> None:
        """What stands before the workloads; control planes are up, by cluster."""
        ...

    async def start_client(self, discovery: str) -> None: ...

    def place(self, workload: Workload) -> Workload:
        """The workload with the address that it really has."""
        ...

    def resources(self, mesh: Mesh) -> Iterable[Resource]:
        """What the run adds to a mesh."""
        ...

    def addresses(self, workload: Workload) -> Iterable[str]:
        """Where clients of this workload connect to: host and port."""
        ...

    async def settled(self) -> None:
        """Until the proxies and the client have their whole configuration."""
        ...

    async def shares(self) -> Shares: ...
    async def ejections(self) -> list[Ejection]:
        """Endpoints of the client that went out or came back since the last time; none where nobody ejects."""
        ...

    async def connect(self, count: int, progress: Callable[[int], None]) -> Traffic: ...

    async def answered(self) -> dict[Identity, int]:
        """Connections that each workload answered since the last time, by its own count."""
        ...
