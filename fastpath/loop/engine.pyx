"""The class that owns the workers, for the control thread. All per-connection work stands in worker.pyx."""
cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t, UINT64_MAX
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from eastgate.fastpath.loop.acceptor cimport SocketOptions, open_sockets
from eastgate.fastpath.loop.cluster_slots cimport ClusterSlots
from eastgate.fastpath.loop.connection cimport Listener, ListenerState
from eastgate.fastpath.loop.event_ring cimport ring_arm, ring_take
from eastgate.fastpath.loop.listener_states cimport ListenerDirectory, ListenerStates
from eastgate.fastpath.loop.pipe_pool cimport PIPES_LIMIT
from eastgate.fastpath.loop.review cimport Moves, begin_review
from eastgate.fastpath.posix cimport *
from eastgate.fastpath.match.client_hello cimport HELLO_LIMIT
from eastgate.fastpath.match.proxy_counts cimport ProxyCounts
from eastgate.fastpath.match.proxy_protocol cimport proxy_header_kinds
from eastgate.fastpath.match.route_table cimport RouteTable
from eastgate.fastpath.loop.worker cimport (
    worker_await, worker_end, worker_free, worker_new, worker_start, worker_tell, worker_turn,
)
from eastgate.fastpath.loop.worker_state cimport (
    ORDER_ADD_LISTENER, ORDER_CLOSE_CONNECTIONS, ORDER_STOP_ACCEPTING, Order, OrderKind, Shared, Worker,
)
from eastgate.fastpath.loop.worker_totals cimport (
    stuck_workers, total_events_dropped, total_inspected, total_pipes_refused, total_polls,
)

import atexit
import os
import socket as sockets
from weakref import WeakSet


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


cdef int look_for(
    ListenerState* settings, object hello_timeout_ms, bint tls, object hello_limit, tuple versions, bint optional
) except -1:
    """What clients of a listener have to say first."""
    if not 0 <= hello_timeout_ms <= 0xFFFFFFFF:
        raise ValueError(f"hello_timeout_ms {hello_timeout_ms} is outside 0..4294967295")
    if not 1 <= hello_limit <= HELLO_LIMIT:
        raise ValueError(f"hello_limit {hello_limit} is outside 1..{HELLO_LIMIT}")
    settings.hello_timeout_ms = hello_timeout_ms
    settings.inspect_tls = tls
    settings.hello_limit = hello_limit
    if versions:
        settings.proxy_protocol = <uint8_t>proxy_header_kinds(versions, optional)
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
    cdef int notify_fd
    cdef uint64_t handled       # as of the last turn()
    cdef uint32_t first_asked   # worker that the last take_events began with
    cdef ClusterSlots slots
    cdef dict listeners         # number -> ListenerStates
    cdef uint32_t next_number
    cdef set stopped            # numbers of those that no longer accept, and whose routes may be needed still
    cdef ListenerDirectory directory
    cdef Moves moves
    cdef object __weakref__

    def __cinit__(self):
        self.workers = NULL
        self.shared = NULL
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
        self.listeners = {}
        self.stopped = set()
        self.workers = <Worker**>calloc(workers or 1, sizeof(Worker*))
        self.shared = <Shared*>calloc(1, sizeof(Shared)) if self.workers != NULL else NULL
        if self.shared == NULL:
            free(self.workers)
            raise MemoryError
        self.shared.max_connections = min(max_connections, UINT64_MAX)
        self.shared.max_silent = min(max_silent, UINT64_MAX)
        self.shared.pipe_limit = max_pipes
        self.shared.threaded = workers > 0
        self.shared.splicing = True
        self.shared.record_probes = True
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
            worker.number = number
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

    cdef ListenerStates listener(self, object number):
        self.check_open()
        own = self.listeners.get(number)
        if own is None:
            raise ValueError(f"there is no listener {number}")
        return own

    cdef int64_t order(self, OrderKind kind, Listener** listening) except? -1:
        """Have all workers carry it out, and return the sum of their results; OSError when one says an error."""
        # Not allocated: what closes sockets and connections must not need memory.
        cdef Order orders[MAX_WORKERS]
        cdef uint32_t number
        cdef int64_t result
        cdef int64_t total = 0
        cdef int64_t error = 0
        memset(orders, 0, sizeof(orders))
        with nogil:
            for number in range(self.count):
                orders[number].kind = kind
                orders[number].listener = listening[number] if listening != NULL else NULL
                worker_tell(self.workers[number], &orders[number])
            for number in range(self.count):
                result = worker_await(self.workers[number], &orders[number])
                if result < 0:
                    error = -result
                else:
                    total += result
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
        self, host, port, *, routes, hello_timeout_ms=15000, proxy_protocol=(), proxy_optional=False, ipv6_only=True,
        backlog=4096, defer_accept=False, fast_open=False, original_dst=False, hands_over=False, bind_to_port=True,
        socket_options=(), inspect_tls=True, hello_limit=HELLO_LIMIT, continue_on_timeout=False, silent_timeout_ms=0,
        proxy_counts=None,
    ):
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
        cdef RouteTable table = <RouteTable?>routes
        cdef ListenerStates own
        cdef ListenerState settings
        cdef SocketOptions options
        self.check_open()
        self.let_go()
        memset(&settings, 0, sizeof(settings))
        look_for(&settings, hello_timeout_ms, inspect_tls, hello_limit, tuple(proxy_protocol), proxy_optional)
        settings.number = self.next_number
        settings.silent_timeout_ms = silent_timeout_ms
        settings.original_dst = bool(original_dst or hands_over)
        settings.hands_over = bool(hands_over)
        settings.captured = settings.original_dst or not bind_to_port
        settings.continue_on_timeout = bool(continue_on_timeout)
        own = ListenerStates.of(
            &settings, self.count, table, <ProxyCounts?>(ProxyCounts() if proxy_counts is None else proxy_counts)
        )
        if bind_to_port:
            options.backlog = backlog
            options.ipv6_only = ipv6_only
            # A server that speaks first would wait for its client.
            defer_accept = defer_accept and (inspect_tls or proxy_protocol) and not hands_over
            options.defer_accept_s = (hello_timeout_ms // 1000 or 1) if defer_accept else 0
            options.fast_open = FAST_OPEN_BACKLOG if fast_open else 0
            open_sockets(own, host, port, &options, socket_options)
        return self.take_on(own)

    cdef object take_on(self, ListenerStates own):
        """Have all workers accept at its sockets, where it has some; its number."""
        number = self.next_number
        self.next_number += 1
        self.listeners[number] = own
        own.accepting = True
        if own.sockets != NULL:
            try:
                self.order(ORDER_ADD_LISTENER, own.sockets)
            except OSError:
                self.stop_accepting(number)
                raise
        return number

    def bound_address(self, listener):
        """(host, port) that it is bound to. Raises ValueError once it stopped accepting, and without socket."""
        cdef ListenerStates own = self.listener(listener)
        if not own.accepting or own.sockets == NULL:
            raise ValueError(f"listener {listener} has no socket that accepts")
        with sockets.socket(fileno=os.dup(own.sockets[0].fd)) as view:
            host, port = view.getsockname()[:2]
        return host, port

    def publish_routes(self, listener, routes):
        """Route new connections of `listener` by this table from now on; open ones are not touched before `review`.

        Raises ValueError once it has stopped accepting and nobody is left to be routed.
        """
        cdef RouteTable table = <RouteTable?>routes
        cdef ListenerStates own = self.listener(listener)
        if own.routes is None:
            raise ValueError(f"listener {listener} no longer accepts")
        replaced = own.routes
        own.publish_routes(table)
        self.slots.publication.retire(replaced, None)

    def publish_addresses(self, addresses):
        """Hand over new connections, of listeners that do so, by these ListenerAddresses from now on.

        Their `number` is the listener's. Raises ValueError, naming them, for one address of two, and for a listener
        that no longer accepts; what was published before stays.
        """
        cdef ListenerDirectory made = None
        cdef ListenerDirectory replaced = self.directory
        self.check_open()
        addresses = tuple(addresses)
        if addresses:
            made = ListenerDirectory.of(addresses, self.listeners, self.count)
        self.directory = made
        atomic_store_pointer(<void**>&self.shared.directory, &made.directory if made is not None else NULL)
        if replaced is not None:
            self.slots.publication.retire(replaced, replaced.no_longer_read)

    def stop_accepting(self, listener):
        """Close the listening sockets; connections go on, those included that were waiting to be accepted.

        One without a socket gets connections until its addresses are no longer published.
        """
        cdef ListenerStates own = self.listener(listener)
        own.accepting = False
        if own.sockets != NULL:
            self.order(ORDER_STOP_ACCEPTING, own.sockets)
        if own.routes is not None:
            self.stopped.add(listener)
        self.let_go()

    def leave(self, listener, heir=None):
        """`listener`, which no longer accepts, has left the configuration: its connections are judged by the listener
        `heir` from the next `review` on, unless another one stands for the address where they were going.
        """
        cdef ListenerStates own = self.listener(listener)
        self.slots.publication.retire(own.leave_to(self.listener(heir) if heir is not None else None), None)

    def review(self, settings):
        """Have workers look again, between other things, at open connections of listeners that changed or are gone."""
        self.check_open()
        replaced = self.moves
        self.moves = begin_review(self.shared, self.workers, self.count, self.listeners.values(), settings)
        self.slots.publication.retire(replaced, None)

    cdef int let_go(self) except -1:
        """Drop the routes of listeners that no longer accept, once nobody is routed or judged by them any more."""
        cdef ListenerStates own
        for number in tuple(self.stopped):
            own = self.listener(number)
            if own.directories == 0 and own.not_routed() == 0 and (own.gone or own.active() == 0):
                self.stopped.discard(number)
                self.slots.publication.retire(own.drop_routes(), None)
        return 0

    def forget(self, listener):
        """Last ListenerCounters of a listener that stopped accepting, and no longer exists then.

        None while it accepts, or one of its connections is open: it exists still.
        """
        cdef ListenerStates own = self.listener(listener)
        self.let_go()
        if own.accepting or own.routes is not None or own.active():
            return None
        del self.listeners[listener]
        # The worker that ended its last connection may be about to leave it.
        self.slots.publication.retire(own, None)
        return own.counters()

    def active_connections(self):
        self.check_open()
        return atomic_load64(&self.shared.connections)

    def close_connections(self):
        """Cut every open connection (reason DRAINED); return how many."""
        self.check_open()
        return self.order(ORDER_CLOSE_CONNECTIONS, NULL)

    def listener_counters(self, listener):
        """ListenerCounters of one listener. rx_bytes are from downstream, tx_bytes to downstream."""
        return self.listener(listener).counters()

    def record_events(self, on):
        """Record finished connections as events too; refused ones always are."""
        self.check_open()
        atomic_store8(&self.shared.record_all, bool(on))

    def record_probes(self, on):
        """Whether refused connections that never sent a byte are recorded (as at first), or counted alone."""
        self.check_open()
        atomic_store8(&self.shared.record_probes, bool(on))

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
        self.check_open()
        return total_events_dropped(self.workers, self.count)

    def busy_polls(self):
        """BusyPolls of all workers."""
        self.check_open()
        return total_polls(self.workers, self.count)

    def inspected(self):
        """Inspected, of all workers."""
        self.check_open()
        return total_inspected(self.workers, self.count)

    def stuck(self, after_s):
        """StuckWorkers: those that began a turn `after_s` seconds ago or earlier, and have not ended it.

        A worker that has nothing to do sleeps and is none of them; a hosted loop never is.
        """
        self.check_open()
        return stuck_workers(self.workers, self.count, after_s) if self.shared.threaded else []

    def pipes_refused(self):
        """How many times a bulk flow was copied for want of a pipe."""
        self.check_open()
        return total_pipes_refused(self.workers, self.count)

    cdef void shut_down(self) noexcept:
        cdef uint32_t worker
        if self.shared == NULL:
            return
        with nogil:
            for worker in range(self.count):
                worker_end(self.workers[worker])
        for worker in range(self.count):
            self.slots.publication.remove_reader(&self.workers[worker].reader)
            worker_free(self.workers[worker])
        if self.notify_fd >= 0:
            close(self.notify_fd)
        free(self.workers)
        free(self.shared)
        self.shared = NULL

    def close(self):
        """End the threads and close every descriptor. The engine is unusable afterwards; a second call does nothing."""
        self.shut_down()
        self.directory = None
        if self.listeners is not None:
            self.listeners.clear()
