from collections.abc import Collection, Iterable
from typing import NamedTuple, final

from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.fastpath.tls.context import Context

from .histogram import Durations

class TlsCounters(NamedTuple):
    """TLS handshakes with endpoints: how many succeeded, how many of these resumed a session, and why others failed."""

    handshakes: int
    resumed: int
    fail_verify_error: int
    fail_verify_san: int
    connection_error: int

class Ended(NamedTuple):
    """Connections to endpoints that are over, by who had the last word; `relays`: those that had been established."""

    attempts_by_us: int
    attempts_by_endpoint: int
    relays_by_us: int
    relays_by_endpoint: int

class ClusterCounters(NamedTuple):
    """Plain integers, summed over workers; totals since the cluster was first known. None: no connections."""

    name: str
    cx_total: int
    cx_active: int
    cx_connect_fail: int
    cx_connect_timeout: int
    cx_attempts_exceeded: int
    cx_none_healthy: int
    cx_overflow: int
    pending_active: int
    pending_overflow: int
    rx_bytes: int
    tx_bytes: int
    ended: Ended = ...
    connect_ms: Durations | None = None
    length_ms: Durations | None = None
    tls: TlsCounters | None = None

@final
class ClusterSlots:
    """Places of the clusters' current tables, shared by all engines of a process. Control side only.

    A slot is a small integer that a RouteTable refers to. State of a cluster (counters, active connections) belongs to
    its name and outlives tables; a connection keeps its own reference, so a reused slot never mixes two clusters.
    """

    @property
    def capacity(self) -> int: ...
    def __init__(self, capacity: int = 65536) -> None: ...
    def __len__(self) -> int: ...
    def __contains__(self, name: str, /) -> bool: ...
    def acquire(self, name: str, *, view_of: int | None = None) -> int:
        """Return the slot of `name`, taking a free one at first; each call must be paired with a release.

        `view_of`: the slot of the cluster whose state (counters, limits, connections) a new one shares; its table is
        its own. It outlives that slot.
        """
    def release(self, slot: int) -> None:
        """Give back one acquire; the last one frees the slot. Connections of the cluster go on."""
    def publish(
        self,
        slot: int,
        table: ClusterTable | None,
        *,
        connect_timeout_ms: int = 5000,
        max_connections: int = 1024,
        max_pending: int = 1024,
        max_per_endpoint: int = 4294967295,
        keepalive_time_s: int = 0,
        keepalive_interval_s: int = 0,
        keepalive_probes: int = 0,
        original_dst: bool = False,
        port_override: int = 0,
        mesh_tls: Context | None = None,
        other_tls: Context | None = None,
        mesh: bytes | None = None,
        failure_threshold: int = 0,
        gateway_threshold: int = 0,
        sources: Iterable[tuple[bytes, int]] = (),
        socket_options: Collection[tuple[int, int, int, int]] = (),
        first_family: int = 0,
        first_family_count: int = 1,
    ) -> None:
        """Make `table` current; None: known but not routable (warming). The next pick of any engine uses it.

        `max_per_endpoint`: connections to one endpoint, later ones wait for one of them to end; 4294967295: any number.
        keepalive values: 0 leaves the operating system's default, keepalive itself is always on. `original_dst`:
        connections go to where their clients wanted to go (to `port_override` there, unless it is 0), and the one
        endpoint of `table` only counts them. `mesh_tls` is spoken to endpoints whose byte in `mesh` (one a row of the
        table) is not 0, `other_tls` to all others; None is plain text. Thresholds: so many failed connects in a row
        make an endpoint worth a look (take_dirty); 0: never. `sources`: (address of 4 or 16 bytes, port or 0 for any)
        that connections come from; the first of an endpoint's family holds. `socket_options`: (4 or 6 for the family
        of the endpoint, level, name, number) of what is set on sockets before they are bound, in this order; where the
        kernel does not, no connection is made. `first_family`, `first_family_count`: of an endpoint with several
        addresses so many of family 4 or 6 are tried before one of the other; 0: of the family of its first one.
        """
    def take_dirty(self) -> list[str]:
        """Names of clusters of which an endpoint crossed a threshold since the last call."""
    def reclaim(self) -> int:
        """Free what no worker can be using any more; return how many replaced objects still wait for a worker."""
    def counters(self, slot: int) -> ClusterCounters:
        """ClusterCounters of the cluster that holds `slot`."""
