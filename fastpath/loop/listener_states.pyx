"""What the connections of one listener have in common, and which listener a redirected connection belongs to.

A listener need not be a socket: of a sidecar one socket takes the connections of all, and each is counted, sniffed and
routed by the listener of the address that it was going to. A worker finds that in a directory, published like routes:
the old one is freed when no worker can hold it. A state outlives its listener until the last connection that counts
there has ended, and then until the next quiet point of each worker.
"""
cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from eastgate.fastpath.loop.connection cimport ListenerState, RBAC_COUNTERS
from eastgate.fastpath.loop.histogram cimport BUCKET_COUNT, Histogram, durations_of
from eastgate.fastpath.match.listener_table cimport ListenerTable
from eastgate.fastpath.match.proxy_counts cimport ProxyCounts
from eastgate.fastpath.match.route_table cimport RouteTable
from eastgate.fastpath.posix cimport atomic_load64, atomic_store8, atomic_store_pointer, atomic_store_release
from eastgate.fastpath.reason cimport Reason

from typing import NamedTuple

from eastgate.fastpath.loop.histogram import Durations


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
    tls_handshakes: int = 0
    tls_resumed: int = 0


@cython.final
@cython.no_gc_clear
cdef class ListenerStates:
    """One listener: a state for each worker, and its sockets if it has any. Made by an Engine."""

    def __init__(self):
        raise TypeError("an Engine makes ListenerStates")

    def __dealloc__(self):
        cdef uint32_t worker
        if self.states != NULL:
            for worker in range(self.workers):
                free(self.states[worker])
        free(self.states)
        free(self.sockets)

    def __reduce__(self):
        raise TypeError("ListenerStates cannot be pickled")

    @staticmethod
    cdef ListenerStates of(
        const ListenerState* settings, uint32_t workers, RouteTable routes, ProxyCounts proxied
    ):
        cdef ListenerStates made = ListenerStates.__new__(ListenerStates)
        cdef uint32_t worker
        made.workers = workers
        made.routes = routes
        made.proxied = proxied
        made.states = <ListenerState**>calloc(workers, sizeof(ListenerState*))
        if made.states == NULL:
            raise MemoryError
        for worker in range(workers):
            made.states[worker] = <ListenerState*>calloc(1, sizeof(ListenerState))
            if made.states[worker] == NULL:
                raise MemoryError
            memcpy(made.states[worker], settings, sizeof(ListenerState))
            made.states[worker].routes = routes.routes
            made.states[worker].proxied = &proxied.state
        return made

    cdef int publish_routes(self, RouteTable routes) except -1:
        """The caller keeps the old ones until no worker can hold them."""
        cdef uint32_t worker
        self.routes = routes
        self.changed = True
        for worker in range(self.workers):
            atomic_store_pointer(<void**>&self.states[worker].routes, routes.routes)
            # After the routes: who reads this one finds those.
            atomic_store_release(&self.states[worker].generation, self.states[worker].generation + 1)
        return 0

    cdef RouteTable drop_routes(self):
        cdef RouteTable routes = self.routes
        cdef uint32_t worker
        self.routes = None
        for worker in range(self.workers):
            atomic_store_pointer(<void**>&self.states[worker].routes, NULL)
        return routes

    cdef ListenerStates leave_to(self, ListenerStates heir):
        cdef uint32_t worker
        cdef ListenerStates before = self.heir
        self.heir = heir
        self.gone = True
        for worker in range(self.workers):
            atomic_store_pointer(
                <void**>&self.states[worker].heir, heir.states[worker] if heir is not None else NULL
            )
            atomic_store8(&self.states[worker].gone, 1)
        return before

    cdef bint outdate(self) except -1:
        cdef uint32_t worker
        if not self.changed and not self.gone:
            return False
        self.changed = False
        for worker in range(self.workers):
            atomic_store_release(&self.states[worker].generation, self.states[worker].generation + 1)
        return self.active() != 0

    cdef uint64_t not_routed(self) noexcept:
        cdef uint64_t total = 0
        cdef uint32_t worker
        for worker in range(self.workers):
            total += atomic_load64(&self.states[worker].cx_pre_active)
        return total

    cdef uint64_t active(self) noexcept:
        cdef uint64_t total = 0
        cdef uint32_t worker
        for worker in range(self.workers):
            total += atomic_load64(&self.states[worker].cx_active)
        return total

    def counters(self):
        """ListenerCounters, of all workers."""
        cdef uint64_t totals[7]
        cdef uint64_t refused[<int>Reason.REASON_COUNT]
        cdef uint64_t rbac[RBAC_COUNTERS]
        cdef Histogram length
        cdef uint32_t worker
        cdef int reason, bucket
        memset(&length, 0, sizeof(length))
        memset(totals, 0, sizeof(totals))
        memset(refused, 0, sizeof(refused))
        memset(rbac, 0, sizeof(rbac))
        for worker in range(self.workers):
            totals[0] += atomic_load64(&self.states[worker].cx_total)
            totals[1] += atomic_load64(&self.states[worker].cx_active)
            totals[2] += atomic_load64(&self.states[worker].cx_pre_active)
            totals[3] += atomic_load64(&self.states[worker].rx_bytes)
            totals[4] += atomic_load64(&self.states[worker].tx_bytes)
            totals[5] += atomic_load64(&self.states[worker].tls_handshakes)
            totals[6] += atomic_load64(&self.states[worker].tls_resumed)
            for reason in range(<int>Reason.REASON_COUNT):
                refused[reason] += atomic_load64(&self.states[worker].refused[reason])
            length.sum_ms += atomic_load64(&self.states[worker].length.sum_ms)
            for bucket in range(BUCKET_COUNT):
                length.counts[bucket] += atomic_load64(&self.states[worker].length.counts[bucket])
            for reason in range(<int>RBAC_COUNTERS):
                rbac[reason] += atomic_load64(&self.states[worker].rbac[reason])
        return ListenerCounters(
            cx_total=totals[0],
            cx_active=totals[1],
            cx_pre_active=totals[2],
            rx_bytes=totals[3],
            tx_bytes=totals[4],
            refused=tuple([refused[reason] for reason in range(<int>Reason.REASON_COUNT)]),
            length_ms=durations_of(&length),
            rbac=tuple([rbac[reason] for reason in range(<int>RBAC_COUNTERS)]),
            tls_handshakes=totals[5],
            tls_resumed=totals[6],
        )


@cython.final
@cython.no_gc_clear
cdef class ListenerDirectory:
    """Listeners by the addresses that they stand for; immutable. Made by an Engine."""

    def __init__(self):
        raise TypeError("an Engine makes ListenerDirectories")

    def __dealloc__(self):
        free(self.directory.states)

    def __reduce__(self):
        raise TypeError("a ListenerDirectory cannot be pickled")

    @staticmethod
    cdef ListenerDirectory of(tuple addresses, dict listeners, uint32_t workers):
        """Of ListenerAddresses with numbers of `listeners`. Raises ValueError for what cannot be handed over to."""
        cdef ListenerDirectory made = ListenerDirectory.__new__(ListenerDirectory)
        cdef ListenerStates one
        cdef size_t place = 0
        cdef uint32_t worker
        places = {}
        for address in addresses:
            one = listeners.get(address.number)
            if one is None or not one.accepting:
                raise ValueError(f"listener {address.name} no longer accepts")
            places.setdefault(address.number, len(places))
        made.table = ListenerTable.compile([address._replace(number=places[address.number]) for address in addresses])
        made.held = tuple([listeners[number] for number in places])
        made.directory.workers = workers
        made.directory.places = &made.table.table
        made.directory.states = <ListenerState**>calloc(len(places) * <size_t>workers, sizeof(ListenerState*))
        if made.directory.states == NULL:
            raise MemoryError
        for one in made.held:
            one.directories += 1
            for worker in range(workers):
                made.directory.states[place] = one.states[worker]
                place += 1
        return made

    def no_longer_read(self):
        """No worker can find anything by it any more."""
        cdef ListenerStates one
        for one in self.held:
            one.directories -= 1
