from collections.abc import Sequence
from typing import final

from .cluster_table import ClusterTable
from .route_table import RouteTable

@final
class ClusterSlots:
    """Places of the clusters' current tables, shared by all engines of a process. Control side only; not thread safe.

    A slot is a small integer that a RouteTable refers to. State of a cluster (counters, active connections) belongs to
    its name and outlives tables; a connection keeps its own reference, so a reused slot never mixes two clusters.
    """

    def __init__(self, capacity: int = 65536) -> None: ...
    def acquire(self, name: str) -> int:
        """Return the slot of `name`, taking a free one at first; each call must be paired with a release."""
    def release(self, slot: int) -> None: ...
    def publish(
        self,
        slot: int,
        table: ClusterTable | None,
        *,
        connect_timeout_ms: int = 5000,
        max_connections: int = 1024,
        max_pending: int = 1024,
        keepalive_time_s: int = 0,
        keepalive_interval_s: int = 0,
        keepalive_probes: int = 0,
        max_connect_attempts: int = 1,
    ) -> None:
        """Make `table` current; None: known but not routable (warming). The next pick of any engine uses it.

        keepalive values: 0 leaves the operating system's default, keepalive itself is always on.
        """
    def counters(self, slot: int) -> ClusterCounters: ...

@final
class ClusterCounters:
    """Plain integers, summed over workers; totals since the cluster was first known."""

    name: str
    cx_total: int
    cx_active: int
    cx_connect_fail: int
    cx_connect_timeout: int
    cx_none_healthy: int
    cx_overflow: int
    pending_active: int
    pending_overflow: int
    rx_bytes: int
    tx_bytes: int

@final
class ListenerCounters:
    cx_total: int
    cx_active: int
    cx_pre_active: int
    """Accepted, and their hello is not complete yet."""
    rx_bytes: int
    """From downstream."""
    tx_bytes: int
    """To downstream."""
    refused: tuple[int, ...]
    """By Reason, indexed by its value."""

@final
class ConnectionEvent:
    """One finished or refused connection, for the access log. Times are seconds; start is the wall clock."""

    listener: int
    cluster: str
    server_name: str
    reason: int
    downstream: str
    """host:port, [host]:port for IPv6; as conveyed by the PROXY header when there was one."""
    downstream_local: str
    upstream: str
    """Empty when none was chosen."""
    alpn: tuple[str, ...]
    rx_bytes: int
    tx_bytes: int
    start: float
    duration: float
    connect_duration: float

@final
class Engine:
    """One native loop: accept, sniff, route, pick, connect, relay. Owns its sockets; hosted by whoever watches fileno().

    All methods are for the hosting thread. Nothing raises for what a peer does.
    """

    def __init__(self, slots: ClusterSlots, *, seed: int, max_connections: int = 1_000_000, event_capacity: int = 4096) -> None: ...
    def fileno(self) -> int:
        """Descriptor that is readable whenever turn() has work, timers included."""
    def turn(self) -> int:
        """Handle what is ready, bounded, without blocking; return the number of descriptors handled."""
    def listen(
        self,
        host: str,
        port: int,
        *,
        routes: RouteTable,
        hello_timeout_ms: int = 15000,
        proxy_protocol: bool = False,
        ipv6_only: bool = True,
        backlog: int = 4096,
        defer_accept: bool = False,
    ) -> int:
        """Bind and accept; return the listener's number. Port 0 takes a free one. Raises OSError when it cannot bind."""
    def bound_address(self, listener: int) -> tuple[str, int]: ...
    def publish_routes(self, listener: int, routes: RouteTable) -> None: ...
    def stop_accepting(self, listener: int) -> None:
        """Close the listening socket; open connections go on. Counters stay readable."""
    def active_connections(self) -> int: ...
    def close_connections(self) -> int:
        """Cut every open connection (reason DRAINED); return how many."""
    def listener_counters(self, listener: int) -> ListenerCounters: ...
    def record_events(self, on: bool) -> None:
        """Switch the recording of ConnectionEvents; off at first."""
    def take_events(self, limit: int = 1024) -> Sequence[ConnectionEvent]: ...
    def events_dropped(self) -> int: ...
    def dirty_endpoints(self) -> Sequence[tuple[int, int]]:
        """(cluster slot, endpoint row) whose failures grew since the last call."""
    def close(self) -> None:
        """Close every descriptor. The engine is unusable afterwards; a second call does nothing."""
