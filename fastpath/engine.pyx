"""The class that owns one worker, for the thread that hosts it. All per-connection work stands in worker.pyx."""
cimport cython
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from eastgate.fastpath.cluster_slots cimport ClusterSlots
from eastgate.fastpath.connection cimport Listener
from eastgate.fastpath.event_ring cimport ring_take
from eastgate.fastpath.posix cimport *
from eastgate.fastpath.reason cimport Reason
from eastgate.fastpath.route_table cimport RouteTable
from eastgate.fastpath.worker cimport (
    Worker, worker_add_listener, worker_close_connections, worker_free, worker_new, worker_stop_accepting, worker_turn,
)

import os
import socket as sockets
from typing import NamedTuple


class ListenerCounters(NamedTuple):
    """Totals since the listener was opened; `refused` is indexed by Reason."""

    cx_total: int
    cx_active: int
    cx_pre_active: int
    rx_bytes: int
    tx_bytes: int
    refused: tuple


cdef int open_listening_socket(str host, int port, int backlog, bint ipv6_only, int defer_accept_s) except -1:
    """A bound, listening, non-blocking socket. Raises OSError naming the address, ValueError for a bad one."""
    cdef sockaddr_storage raw
    cdef sockaddr_in* v4 = <sockaddr_in*>&raw
    cdef sockaddr_in6* v6 = <sockaddr_in6*>&raw
    cdef socklen_t length
    cdef int fd, one = 1, zero = 0, error
    if not 0 <= port <= 65535:
        raise ValueError(f"port {port} is outside 0..65535")
    encoded = host.encode()
    memset(&raw, 0, sizeof(raw))
    if inet_pton(AF_INET, encoded, &v4.sin_addr) == 1:
        v4.sin_family = AF_INET
        v4.sin_port = htons(port)
        length = sizeof(sockaddr_in)
    elif inet_pton(AF_INET6, encoded, &v6.sin6_addr) == 1:
        v6.sin6_family = AF_INET6
        v6.sin6_port = htons(port)
        length = sizeof(sockaddr_in6)
    else:
        raise ValueError(f"{host!r} is not an IPv4 or IPv6 address")
    fd = socket(raw.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if fd < 0:
        error = errno
        raise OSError(error, f"cannot open a listening socket: {os.strerror(error)}")
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one))
    # One socket per worker on the same address; also lets a successor bind while its predecessor drains.
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one))
    # Accepted sockets inherit these.
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one))
    if raw.ss_family == AF_INET6:
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one if ipv6_only else &zero, sizeof(one))
    if defer_accept_s:
        setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &defer_accept_s, sizeof(defer_accept_s))
    if bind(fd, <sockaddr*>&raw, length) != 0 or listen(fd, backlog) != 0:
        error = errno
        close(fd)
        raise OSError(error, f"cannot listen on {host} port {port}: {os.strerror(error)}")
    return fd


@cython.final
cdef class Engine:
    """One native loop: accept, sniff, route, pick, connect, relay. Owns its sockets.

    Hosted by whoever watches fileno(). All methods are for the hosting thread. Nothing raises for what a peer does.
    """

    cdef Worker* worker
    cdef ClusterSlots slots
    cdef dict routes            # listener number -> RouteTable: keeps alive what the worker reads

    def __cinit__(self):
        self.worker = NULL

    def __init__(self, slots, *, seed, max_connections=1_000_000, event_capacity=4096):
        if self.worker != NULL:
            raise RuntimeError("an Engine is initialised once")
        if not 1 <= event_capacity <= 1 << 20:
            raise ValueError(f"event_capacity {event_capacity} is outside 1..1048576")
        if max_connections < 1:
            raise ValueError(f"max_connections {max_connections} is not positive")
        self.slots = <ClusterSlots?>slots
        self.routes = {}
        self.worker = worker_new(
            self.slots.slots, self.slots.capacity, seed & 0xFFFFFFFFFFFFFFFF, max_connections, event_capacity
        )
        if self.worker == NULL:
            error = errno
            raise OSError(error, f"cannot set up an engine: {os.strerror(error)}")

    def __dealloc__(self):
        if self.worker != NULL:
            worker_free(self.worker)

    def __reduce__(self):
        raise TypeError("an Engine cannot be pickled")

    cdef Worker* running(self) except NULL:
        if self.worker == NULL:
            raise ValueError("the engine is closed")
        return self.worker

    cdef Listener* listener(self, object number) except NULL:
        cdef Worker* worker = self.running()
        if not 0 <= number < worker.listener_count:
            raise ValueError(f"there is no listener {number}")
        return worker.listeners[<int>number]

    def fileno(self):
        """Descriptor that is readable whenever turn() has work, timers included."""
        return self.running().epoll

    def turn(self):
        """Handle what is ready, bounded, without blocking; return the number of descriptors handled."""
        return worker_turn(self.running())

    def listen(
        self,
        host,
        port,
        *,
        routes,
        hello_timeout_ms=15000,
        proxy_protocol=False,
        ipv6_only=True,
        backlog=4096,
        defer_accept=False,
    ):
        """Bind and accept; return the listener's number, which is never reused. Port 0 takes a free one.

        Raises OSError when it cannot bind, ValueError for an address that is none.
        """
        cdef Worker* worker = self.running()
        cdef RouteTable table = <RouteTable?>routes
        cdef Listener* listener
        cdef int fd, number
        if not 0 <= hello_timeout_ms <= 0xFFFFFFFF:
            raise ValueError(f"hello_timeout_ms {hello_timeout_ms} is outside 0..4294967295")
        fd = open_listening_socket(
            host, port, backlog, ipv6_only, (hello_timeout_ms // 1000 or 1) if defer_accept else 0
        )
        listener = <Listener*>calloc(1, sizeof(Listener))
        if listener == NULL:
            close(fd)
            raise MemoryError
        listener.fd = fd
        listener.hello_timeout_ms = hello_timeout_ms
        listener.proxy_protocol = bool(proxy_protocol)
        listener.routes = table.routes
        listener.port = bound_port(fd)
        number = worker_add_listener(worker, listener)
        if number < 0:
            close(fd)
            free(listener)
            raise MemoryError
        self.routes[number] = table
        return number

    def bound_address(self, listener):
        """(host, port) that the listener is bound to. Raises ValueError once it stopped accepting."""
        cdef Listener* place = self.listener(listener)
        if not place.accepting:
            raise ValueError(f"listener {listener} no longer accepts")
        with sockets.socket(fileno=os.dup(place.fd)) as view:
            host, port = view.getsockname()[:2]
        return host, port

    def publish_routes(self, listener, routes):
        """Route new connections of `listener` by this table from now on; open ones are not touched."""
        cdef RouteTable table = <RouteTable?>routes
        self.listener(listener).routes = table.routes
        self.routes[listener] = table

    def stop_accepting(self, listener):
        """Close the listening socket; open connections go on. Counters stay readable."""
        worker_stop_accepting(self.running(), self.listener(listener))

    def active_connections(self):
        return self.running().connections

    def close_connections(self):
        """Cut every open connection (reason DRAINED); return how many."""
        return worker_close_connections(self.running())

    def listener_counters(self, listener):
        """ListenerCounters of one listener. rx_bytes are from downstream, tx_bytes to downstream."""
        cdef Listener* place = self.listener(listener)
        return ListenerCounters(
            cx_total=place.cx_total,
            cx_active=place.cx_active,
            cx_pre_active=place.cx_pre_active,
            rx_bytes=place.rx_bytes,
            tx_bytes=place.tx_bytes,
            refused=tuple([place.refused[reason] for reason in range(<int>Reason.REASON_COUNT)]),
        )

    def record_events(self, on):
        """Record finished connections as events too; refused ones always are."""
        self.running().record_all = bool(on)

    def take_events(self, limit=1024):
        """The oldest recorded ConnectionEvents, at most `limit`; they are gone from the engine afterwards."""
        return ring_take(&self.running().events, limit)

    def events_dropped(self):
        """How many events found the ring full."""
        return self.running().events.dropped

    def close(self):
        """Close every descriptor. The engine is unusable afterwards; a second call does nothing."""
        if self.worker != NULL:
            worker_free(self.worker)
            self.worker = NULL
            self.routes.clear()


cdef int bound_port(int fd) noexcept:
    cdef sockaddr_storage raw
    cdef socklen_t length = sizeof(raw)
    if getsockname(fd, <sockaddr*>&raw, &length) != 0:
        return 0
    if raw.ss_family == AF_INET6:
        return ntohs((<sockaddr_in6*>&raw).sin6_port)
    return ntohs((<sockaddr_in*>&raw).sin_port)
