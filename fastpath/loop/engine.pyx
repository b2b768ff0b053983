"""The class that owns the workers, for the control thread. All per-connection work stands in worker.pyx."""
cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t, UINT64_MAX
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from eastgate.fastpath.loop.acceptor cimport SocketOptions, bound_port, open_listening_socket
from eastgate.fastpath.loop.cluster_slots cimport ClusterSlots
from eastgate.fastpath.loop.connection cimport Listener, RBAC_COUNTERS
from eastgate.fastpath.loop.event_ring cimport ring_arm, ring_take
from eastgate.fastpath.loop.histogram cimport BUCKET_COUNT, Histogram, durations_of
from eastgate.fastpath.loop.pipe_pool cimport PIPES_LIMIT
from eastgate.fastpath.posix cimport *
from eastgate.fastpath.reason cimport Reason
from eastgate.fastpath.match.route_table cimport RouteTable
from eastgate.fastpath.loop.worker cimport (
    worker_await, worker_free, worker_join, worker_new, worker_start, worker_tell, worker_turn,
)
from eastgate.fastpath.loop.worker_state cimport (
    ORDER_ADD_LISTENER, ORDER_CLOSE_CONNECTIONS, ORDER_END, ORDER_STOP_ACCEPTING, Order, OrderKind, Shared, Worker,
)

import atexit
import os
import socket as sockets
from typing import NamedTuple
from weakref import WeakSet

from eastgate.fastpath.loop.histogram import Durations

cdef enum:
    MAX_WORKERS = 256
    BUSY_POLL_MOST_US = 1000
    FAST_OPEN_BACKLOG = 256     # handshakes that were not confirmed yet, a worker and listener

# Threads must not outlive the interpreter that owns what they read.
cdef object threaded_engines = WeakSet()


def _close_threaded_engines():
    for engine in list(threaded_engines):
        engine.close()


atexit.register(_close_threaded_engines)


class ListenerCounters(NamedTuple):
    """Totals since the listener was opened; `refused` is indexed by Reason.

    `rbac`: connections that policies allowed and denied; verdicts of shadow rules that would have, and of LOG rules.
    """

    cx_total: int
    cx_active: int
    cx_pre_active: int
    rx_bytes: int
    tx_bytes: int
    refused: tuple
    length_ms: Durations = Durations(0, (0,) * BUCKET_COUNT)
    rbac: tuple = (0,) * 5


class StuckWorker(NamedTuple):
    """A worker whose turn does not end; `thread_id` as in /proc/PID/task."""

    worker: int
    thread_id: int
    seconds: float


class BusyPolls(NamedTuple):
    """Times that asking for events before going to sleep found some, found none, or was crowded out of the CPU."""

    found: int
    missed: int
    crowded: int


cdef int set_inherited_option(int fd, int level, int name, int value) except -1:
    if setsockopt(fd, level, name, &value, sizeof(value)):
        raise OSError(errno, os.strerror(errno))
    return 0


@cython.final
@cython.no_gc_clear
cdef class Engine:
    """Native loops: accept, sniff, route, pick, connect, relay. Owns their sockets and threads.

    With `workers` 0 there is one loop, hosted by whoever watches fileno() and calls turn(). Otherwise each worker has a
    thread of its own that never takes the GIL, and fileno() only says that there are events to take. Methods are for
    the control thread alone. Nothing raises for what a peer does.

    `max_connections`: a connection past it is reset at once (LIMIT). Each may take two descriptors, besides those of
    pipes: keep some for the control side. `max_silent`: past it the oldest of those that have not said yet what they
    want is closed (SILENT), never one that is served.
    """

    cdef Worker** workers
    cdef uint32_t count
    cdef Shared* shared
    cdef Listener** listeners   # number * count + worker
    cdef uint32_t listener_count
    cdef int notify_fd
    cdef uint64_t handled       # as of the last turn()
    cdef uint32_t first_asked   # worker that the last take_events began with
    cdef ClusterSlots slots
    cdef dict routes            # listener number -> RouteTable: keeps alive what the workers read
    cdef set accepting          # listener numbers
    cdef set stopped            # those that no longer accept, and whose routes may be needed still
    cdef object __weakref__

    def __cinit__(self):
        self.workers = NULL
        self.shared = NULL
        self.listeners = NULL
        self.notify_fd = -1

    def __init__(
        self,
        slots,
        *,
        seed,
        workers=0,
        max_connections=1_000_000,
        max_silent=1_000_000,
        event_capacity=4096,
        busy_poll_us=0,
        max_pipes=PIPES_LIMIT,
    ):
        if self.shared != NULL or self.slots is not None:
            raise RuntimeError("an Engine is initialised once")
        if not 0 <= workers <= MAX_WORKERS:
            raise ValueError(f"workers {workers} is outside 0..{MAX_WORKERS}")
        if not 1 <= event_capacity <= 1 << 20:
            raise ValueError(f"event_capacity {event_capacity} is outside 1..1048576")
        if max_connections < 1:
            raise ValueError(f"max_connections {max_connections} is not positive")
        if max_silent < 1:
            raise ValueError(f"max_silent {max_silent} is not positive")
        if not 0 <= max_pipes <= PIPES_LIMIT:
            raise ValueError(f"max_pipes {max_pipes} is outside 0..{PIPES_LIMIT}")
        if not 0 <= busy_poll_us <= BUSY_POLL_MOST_US:
            raise ValueError(f"busy_poll_us {busy_poll_us} is outside 0..{BUSY_POLL_MOST_US}")
        if busy_poll_us and not workers:
            raise ValueError("busy polling needs workers: without, the hosting loop sleeps, not the engine")
        self.slots = <ClusterSlots?>slots
        self.routes = {}
        self.accepting = set()
        self.stopped = set()
        self.shared = <Shared*>calloc(1, sizeof(Shared))
        self.workers = <Worker**>calloc(workers or 1, sizeof(Worker*))
        if self.shared == NULL or self.workers == NULL:
            self.close()
            raise MemoryError
        self.shared.max_connections = min(max_connections, UINT64_MAX)
        self.shared.max_silent = min(max_silent, UINT64_MAX)
        self.shared.pipe_limit = max_pipes
        self.shared.threaded = workers > 0
        self.shared.splicing = True
        self.shared.busy_poll_ns = <uint64_t>busy_poll_us * 1000
        try:
            self.set_up(workers, seed & 0xFFFFFFFFFFFFFFFF, event_capacity)
        except OSError:
            self.close()
            raise

    cdef int set_up(self, uint32_t threads, uint64_t seed, uint32_t event_capacity) except -1:
        cdef Worker* worker
        cdef uint32_t number
        cdef int error
        if threads:
            self.notify_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
            if self.notify_fd < 0:
                error = errno
                raise OSError(error, f"cannot set up an engine: {os.strerror(error)}")
        for number in range(threads or 1):
            worker = worker_new(
                self.shared, self.slots.slots, self.slots.capacity, seed + number, event_capacity, self.notify_fd
            )
            if worker == NULL:
                error = errno
                raise OSError(error, f"cannot set up worker {number}: {os.strerror(error)}")
            self.workers[number] = worker
            self.count += 1
            self.slots.publication.add_reader(&worker.reader)
        if threads:
            threaded_engines.add(self)
        for number in range(threads):
            error = worker_start(self.workers[number], number)
            if error:
                raise OSError(error, f"cannot start worker {number}: {os.strerror(error)}")
        return 0

    def __dealloc__(self):
        self.shut_down()

    def __reduce__(self):
        raise TypeError("an Engine cannot be pickled")

    cdef int check_open(self) except -1:
        if self.shared == NULL:
            raise ValueError("the engine is closed")
        return 0

    cdef Listener** listener(self, object number) except NULL:
        """One socket a worker."""
        self.check_open()
        if not 0 <= number < self.listener_count:
            raise ValueError(f"there is no listener {number}")
        return &self.listeners[<uint32_t>number * self.count]

    cdef int64_t order(self, OrderKind kind, Listener** listeners) except? -1:
        """Have all workers carry it out, and return the sum of their results; OSError when one says an error."""
        cdef Order* orders = <Order*>calloc(self.count, sizeof(Order))
        cdef uint32_t number
        cdef int64_t result
        cdef int64_t total = 0
        cdef int64_t error = 0
        if orders == NULL:
            raise MemoryError
        with nogil:
            for number in range(self.count):
                orders[number].kind = kind
                orders[number].listener = listeners[number] if listeners != NULL else NULL
                worker_tell(self.workers[number], &orders[number])
            for number in range(self.count):
                result = worker_await(self.workers[number], &orders[number])
                if result < 0:
                    error = -result
                else:
                    total += result
        free(orders)
        if error:
            raise OSError(error, os.strerror(<int>error))
        return total

    def fileno(self):
        """Descriptor that is readable whenever turn() has work; with threads, when there are events to take."""
        self.check_open()
        return self.notify_fd if self.shared.threaded else self.workers[0].watch.epoll

    def turn(self):
        """Handle what is ready, bounded, without blocking; return the number of descriptors handled.

        With threads it handles nothing itself, but says how many descriptors the workers handled since the last call.
        """
        cdef uint64_t handled = 0
        cdef uint64_t counter
        cdef uint32_t number
        self.check_open()
        if not self.shared.threaded:
            return worker_turn(self.workers[0], False)
        read(self.notify_fd, &counter, sizeof(counter))
        for number in range(self.count):
            handled += atomic_load64(&self.workers[number].handled)
        counter = handled - self.handled
        self.handled = handled
        return counter

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
        fast_open=False,
        original_dst=False,
        socket_options=(),
        inspect_tls=True,
        continue_on_timeout=False,
    ):
        """Bind and accept; return the listener's number, which is never reused. Port 0 takes a free one.

        `defer_accept`: clients that say nothing stay in the kernel, unseen, where they have to say something.
        `fast_open`: data of a client's SYN is taken, where net.ipv4.tcp_fastopen allows servers to.
        `original_dst`: netfilter is asked where connections that it redirected were going.
        `socket_options`: (level, name, number) of options that accepted sockets inherit.

        `inspect_tls`: clients say what they want by a ClientHello. Without, connections are routed at once, as not TLS.
        `continue_on_timeout`: who has not said enough in time is routed so too, and not refused.

        Raises OSError when it cannot bind, ValueError for an address that is none.
        """
        cdef RouteTable table = <RouteTable?>routes
        cdef Listener** own
        cdef uint32_t worker
        cdef SocketOptions options
        self.check_open()
        self.let_go()
        if not 0 <= hello_timeout_ms <= 0xFFFFFFFF:
            raise ValueError(f"hello_timeout_ms {hello_timeout_ms} is outside 0..4294967295")
        options.backlog = backlog
        options.ipv6_only = ipv6_only
        # A server that speaks first would wait for its client.
        defer_accept = defer_accept and (inspect_tls or proxy_protocol)
        options.defer_accept_s = (hello_timeout_ms // 1000 or 1) if defer_accept else 0
        options.fast_open = FAST_OPEN_BACKLOG if fast_open else 0
        own = <Listener**>realloc(self.listeners, (self.listener_count + 1) * self.count * sizeof(Listener*))
        if own == NULL:
            raise MemoryError
        self.listeners = own
        own = &own[self.listener_count * self.count]
        memset(own, 0, self.count * sizeof(Listener*))
        try:
            for worker in range(self.count):
                own[worker] = <Listener*>calloc(1, sizeof(Listener))
                if own[worker] == NULL:
                    raise MemoryError
                own[worker].fd = -1
                own[worker].fd = open_listening_socket(host, port, &options)
                for level, name, value in socket_options:
                    set_inherited_option(own[worker].fd, level, name, value)
                # The sockets of the other workers share the port that the first one got.
                port = bound_port(own[worker].fd)
                own[worker].port = port
                own[worker].state.number = self.listener_count
                own[worker].state.hello_timeout_ms = hello_timeout_ms
                own[worker].state.proxy_protocol = bool(proxy_protocol)
                own[worker].state.original_dst = bool(original_dst)
                own[worker].state.routes = table.routes
                own[worker].state.inspect_tls = bool(inspect_tls)
                own[worker].state.continue_on_timeout = bool(continue_on_timeout)
        except (OSError, ValueError, MemoryError):
            for worker in range(self.count):
                if own[worker] != NULL and own[worker].fd >= 0:
                    close(own[worker].fd)
                free(own[worker])
            raise
        number = self.listener_count
        self.listener_count += 1
        self.routes[number] = table
        try:
            self.order(ORDER_ADD_LISTENER, own)
        except OSError:
            self.order(ORDER_STOP_ACCEPTING, own)
            raise
        self.accepting.add(number)
        return number

    def bound_address(self, listener):
        """(host, port) that the listener is bound to. Raises ValueError once it stopped accepting."""
        cdef Listener** own = self.listener(listener)
        if listener not in self.accepting:
            raise ValueError(f"listener {listener} no longer accepts")
        with sockets.socket(fileno=os.dup(own[0].fd)) as view:
            host, port = view.getsockname()[:2]
        return host, port

    def publish_routes(self, listener, routes):
        """Route new connections of `listener` by this table from now on; open ones are not touched.

        Raises ValueError once it has stopped accepting and nobody is left to be routed.
        """
        cdef RouteTable table = <RouteTable?>routes
        cdef Listener** own = self.listener(listener)
        cdef uint32_t worker
        if listener not in self.routes:
            raise ValueError(f"listener {listener} no longer accepts")
        for worker in range(self.count):
            atomic_store_pointer(<void**>&own[worker].state.routes, table.routes)
        replaced = self.routes[listener]
        self.routes[listener] = table
        self.slots.publication.retire(replaced, None)

    def stop_accepting(self, listener):
        """Close the listening sockets; connections go on, those included that were waiting to be accepted."""
        cdef Listener** own = self.listener(listener)
        self.accepting.discard(listener)
        self.order(ORDER_STOP_ACCEPTING, own)
        if listener in self.routes:
            self.stopped.add(listener)
        self.let_go()

    cdef int let_go(self) except -1:
        """Drop the routes of listeners that no longer accept, once their last connection was routed."""
        cdef uint64_t silent
        cdef uint32_t worker
        cdef Listener** own
        for number in tuple(self.stopped):
            own = self.listener(number)
            silent = 0
            for worker in range(self.count):
                silent += atomic_load64(&own[worker].state.cx_pre_active)
            if silent == 0:
                self.stopped.discard(number)
                self.slots.publication.retire(self.routes.pop(number), None)
        return 0

    def active_connections(self):
        self.check_open()
        return atomic_load64(&self.shared.connections)

    def close_connections(self):
        """Cut every open connection (reason DRAINED); return how many."""
        self.check_open()
        return self.order(ORDER_CLOSE_CONNECTIONS, NULL)

    def listener_counters(self, listener):
        """ListenerCounters of one listener. rx_bytes are from downstream, tx_bytes to downstream."""
        cdef Listener** own = self.listener(listener)
        cdef uint64_t totals[5]
        cdef uint64_t refused[<int>Reason.REASON_COUNT]
        cdef Histogram length
        cdef uint64_t rbac[RBAC_COUNTERS]
        cdef uint32_t worker
        cdef int reason, bucket
        memset(totals, 0, sizeof(totals))
        memset(refused, 0, sizeof(refused))
        memset(&length, 0, sizeof(length))
        memset(rbac, 0, sizeof(rbac))
        for worker in range(self.count):
            totals[0] += atomic_load64(&own[worker].state.cx_total)
            totals[1] += atomic_load64(&own[worker].state.cx_active)
            totals[2] += atomic_load64(&own[worker].state.cx_pre_active)
            totals[3] += atomic_load64(&own[worker].state.rx_bytes)
            totals[4] += atomic_load64(&own[worker].state.tx_bytes)
            for reason in range(<int>Reason.REASON_COUNT):
                refused[reason] += atomic_load64(&own[worker].state.refused[reason])
            length.sum_ms += atomic_load64(&own[worker].state.length.sum_ms)
            for bucket in range(BUCKET_COUNT):
                length.counts[bucket] += atomic_load64(&own[worker].state.length.counts[bucket])
            for reason in range(<int>RBAC_COUNTERS):
                rbac[reason] += atomic_load64(&own[worker].state.rbac[reason])
        return ListenerCounters(
            cx_total=totals[0],
            cx_active=totals[1],
            cx_pre_active=totals[2],
            rx_bytes=totals[3],
            tx_bytes=totals[4],
            refused=tuple([refused[reason] for reason in range(<int>Reason.REASON_COUNT)]),
            length_ms=durations_of(&length),
            rbac=tuple([rbac[reason] for reason in range(<int>RBAC_COUNTERS)]),
        )

    def record_events(self, on):
        """Record finished connections as events too; refused ones always are."""
        self.check_open()
        atomic_store8(&self.shared.record_all, bool(on))

    def set_overloaded(self, on):
        """Whether new connections are shed, with reason OVERLOAD; open ones go on."""
        self.check_open()
        atomic_store8(&self.shared.overloaded, bool(on))

    def set_splicing(self, on):
        """Whether bulk flows go through pipes (as they do at first) or are copied. For measurements."""
        self.check_open()
        atomic_store8(&self.shared.splicing, bool(on))

    def take_events(self, limit=1024):
        """The oldest recorded ConnectionEvents, at most `limit`; they are gone from the engine afterwards."""
        cdef uint32_t step, worker
        self.check_open()
        if self.stopped:
            self.let_go()
        self.slots.publication.reclaim()
        events = []
        # Another worker comes first each time: one that always fills the limit must not keep the others waiting.
        self.first_asked = (self.first_asked + 1) % self.count
        for step in range(self.count):
            worker = (self.first_asked + step) % self.count
            ring_arm(&self.workers[worker].events)
            events += ring_take(&self.workers[worker].events, limit - len(events))
        return events

    def events_dropped(self):
        """How many events found the ring full."""
        cdef uint64_t dropped = 0
        cdef uint32_t worker
        self.check_open()
        for worker in range(self.count):
            dropped += atomic_load64(&self.workers[worker].events.dropped)
        return dropped

    def busy_polls(self):
        """BusyPolls of all workers."""
        cdef uint64_t totals[3]
        cdef uint32_t worker
        self.check_open()
        memset(totals, 0, sizeof(totals))
        for worker in range(self.count):
            totals[0] += atomic_load64(&self.workers[worker].polling.found)
            totals[1] += atomic_load64(&self.workers[worker].polling.missed)
            totals[2] += atomic_load64(&self.workers[worker].polling.crowded)
        return BusyPolls(found=totals[0], missed=totals[1], crowded=totals[2])

    def stuck(self, after_s):
        """StuckWorkers: those that began a turn `after_s` seconds ago or earlier, and have not ended it.

        A worker that has nothing to do sleeps and is none of them; a hosted loop never is.
        """
        cdef uint64_t now, since
        cdef uint32_t number
        self.check_open()
        found = []
        if self.shared.threaded:
            for number in range(self.count):
                since = atomic_load64(&self.workers[number].awake_since)
                now = clock_ns(CLOCK_MONOTONIC)
                if since and now >= since and (now - since) / 1e9 >= after_s:
                    thread_id = atomic_load(<uint32_t*>&self.workers[number].thread_id)
                    found.append(StuckWorker(number, thread_id, (now - since) / 1e9))
        return found

    def pipes_refused(self):
        """How many times a bulk flow was copied for want of a pipe."""
        cdef uint64_t refused = 0
        cdef uint32_t worker
        self.check_open()
        for worker in range(self.count):
            refused += atomic_load64(&self.workers[worker].means.pipes.refused)
        return refused

    cdef void shut_down(self) noexcept:
        cdef uint32_t worker
        if self.shared == NULL:
            return
        with nogil:
            for worker in range(self.count):
                end_worker(self.workers[worker])
        for worker in range(self.count):
            self.slots.publication.remove_reader(&self.workers[worker].reader)
            worker_free(self.workers[worker])
        if self.notify_fd >= 0:
            close(self.notify_fd)
        free(self.workers)
        free(self.listeners)
        free(self.shared)
        self.shared = NULL

    def close(self):
        """End the threads and close every descriptor. The engine is unusable afterwards; a second call does nothing."""
        self.shut_down()
        if self.routes is not None:
            self.routes.clear()


cdef void end_worker(Worker* worker) noexcept nogil:
    cdef Order order
    if not worker.started:
        return
    order.kind = ORDER_END
    order.listener = NULL
    worker_tell(worker, &order)
    worker_await(worker, &order)
    worker_join(worker)
