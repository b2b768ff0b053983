from collections.abc import Collection, Iterable, Sequence
from typing import final

from eastgate.fastpath.match.listener_table import ListenerAddress
from eastgate.fastpath.match.proxy_counts import ProxyCounts
from eastgate.fastpath.match.route_table import RouteTable

from .cluster_slots import ClusterSlots
from .event_ring import ConnectionEvent
from .listener_states import ListenerCounters
from .review import ReviewSettings
from .worker_totals import BusyPolls, Inspected, StuckWorker

@final
class Engine:
    """Native loops: accept, sniff, route, pick, connect, relay. Owns their sockets and threads.

    With `workers` 0 there is one loop, hosted by whoever watches fileno() and calls turn(). Otherwise each worker has a
    thread of its own that never takes the GIL, and fileno() only says that there are events to take. Methods are for
    the control thread alone. Nothing raises for what a peer does.

    `max_connections`: a connection past it is reset at once (LIMIT). Each may take two descriptors, besides those of
    pipes: keep some for the control side. `max_silent`: past it the oldest of those that have not said yet what they
    want is closed (SILENT), never one that is served.
    """

    def __init__(
        self,
        slots: ClusterSlots,
        *,
        seed: int,
        workers: int = 0,
        max_connections: int = 1_000_000,
        max_silent: int = 1_000_000,
        event_capacity: int = 4096,
        busy_poll_us: int = 0,
        max_pipes: int = 1024,
    ) -> None:
        """`max_pipes`: of one worker, two descriptors each; flows beyond are copied."""
    def fileno(self) -> int:
        """Descriptor that is readable whenever turn() has work; with threads, when there are events to take."""
    def turn(self) -> int:
        """Handle what is ready, bounded, without blocking; return the number of descriptors handled.

        With threads it handles nothing itself, but says how many descriptors the workers handled since the last call.
        """
    def listen(
        self,
        host: str,
        port: int,
        *,
        routes: RouteTable,
        hello_timeout_ms: int = 15000,
        proxy_protocol: Collection[int] = (),
        proxy_optional: bool = False,
        ipv6_only: bool = True,
        backlog: int = 4096,
        defer_accept: bool = False,
        fast_open: bool = False,
        original_dst: bool = False,
        hands_over: bool = False,
        bind_to_port: bool = True,
        socket_options: Sequence[tuple[int, int, int]] = (),
        inspect_tls: bool = True,
        hello_limit: int = 16384,
        continue_on_timeout: bool = False,
        silent_timeout_ms: int = 0,
        proxy_counts: ProxyCounts | None = None,
    ) -> int:
        """Bind and accept; return the listener's number, which is never reused. Port 0 takes a free one.

        `defer_accept`: clients that say nothing stay in the kernel, unseen, where they have to say something.
        `fast_open`: data of a client's SYN is taken, where net.ipv4.tcp_fastopen allows servers to.
        `original_dst`: netfilter is asked where connections that it redirected were going. `hands_over`: then they go
        on to the listener that stands for that address (`publish_addresses`), where one does.
        `bind_to_port` False: no socket is opened; connections come from listeners that hand over.
        `socket_options`: (level, name, number) of options that accepted sockets inherit.

        `proxy_protocol`: versions of the PROXY header that connections begin with; `proxy_optional`: or with anything.
        `proxy_counts`: the ProxyCounts that these are counted in; several listeners may share one.
        `inspect_tls`: clients say what they want by a ClientHello, of `hello_limit` bytes at most (16384 or less).
        Without, connections are routed at once, as not TLS.
        `continue_on_timeout`: who has not said enough in time is routed so too, and not refused. With hello_timeout_ms
        0 never after the first byte of TLS, and after `silent_timeout_ms` of silence, unless that is 0, where a chain
        takes it.

        Raises OSError when it cannot bind, ValueError for an address that is none.
        """
    def bound_address(self, listener: int) -> tuple[str, int]:
        """(host, port) that it is bound to. Raises ValueError once it stopped accepting, and without socket."""
    def publish_routes(self, listener: int, routes: RouteTable) -> None:
        """Route new connections of `listener` by this table from now on; open ones are not touched before `review`.

        Raises ValueError once it has stopped accepting and nobody is left to be routed.
        """
    def publish_addresses(self, addresses: Iterable[ListenerAddress]) -> None:
        """Hand over new connections, of listeners that do so, by these ListenerAddresses from now on.

        Their `number` is the listener's. Raises ValueError, naming them, for one address of two, and for a listener
        that no longer accepts; what was published before stays.
        """
    def stop_accepting(self, listener: int) -> None:
        """Close the listening sockets; connections go on, those included that were waiting to be accepted.

        One without a socket gets connections until its addresses are no longer published.
        """
    def leave(self, listener: int, heir: int | None = None) -> None:
        """`listener`, which no longer accepts, has left the configuration: its connections are judged by the listener
        `heir` from the next `review` on, unless another one stands for the address where they were going.
        """
    def review(self, settings: ReviewSettings) -> None:
        """Have workers look again, between other things, at open connections of listeners that changed or are gone."""
    def forget(self, listener: int) -> ListenerCounters | None:
        """Last ListenerCounters of a listener that stopped accepting, and no longer exists then.

        None while it accepts, or one of its connections is open: it exists still.
        """
    def active_connections(self) -> int: ...
    def close_connections(self) -> int:
        """Cut every open connection (reason DRAINED); return how many."""
    def listener_counters(self, listener: int) -> ListenerCounters:
        """ListenerCounters of one listener. rx_bytes are from downstream, tx_bytes to downstream."""
    def record_events(self, on: bool) -> None:
        """Record finished connections as events too; refused ones always are."""
    def record_probes(self, on: bool) -> None:
        """Whether refused connections that never sent a byte are recorded (as at first), or counted alone."""
    def set_overloaded(self, on: bool) -> None:
        """Whether new connections are shed, with reason OVERLOAD; open ones go on."""
    def set_splicing(self, on: bool) -> None:
        """Whether bulk flows go through pipes (as they do at first) or are copied. For measurements."""
    def take_events(self, limit: int = 1024) -> Sequence[ConnectionEvent]:
        """The oldest recorded ConnectionEvents, at most `limit`; they are gone from the engine afterwards."""
    def events_dropped(self) -> int:
        """How many events found the ring full."""
    def busy_polls(self) -> BusyPolls:
        """BusyPolls of all workers."""
    def inspected(self) -> Inspected:
        """Inspected, of all workers."""
    def stuck(self, after_s: float) -> list[StuckWorker]:
        """StuckWorkers: those that began a turn `after_s` seconds ago or earlier, and have not ended it.

        A worker that has nothing to do sleeps and is none of them; a hosted loop never is.
        """
    def pipes_refused(self) -> int:
        """How many times a bulk flow was copied for want of a pipe."""
    def close(self) -> None:
        """End the threads and close every descriptor. The engine is unusable afterwards; a second call does nothing."""
