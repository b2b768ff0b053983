# What the connections of one listener have in common, a state for each worker, with or without a socket; and which
# listener a redirected connection belongs to.
from libc.stdint cimport uint32_t, uint64_t
from eastgate.fastpath.loop.connection cimport Listener, ListenerState
from eastgate.fastpath.match.facts cimport Address
from eastgate.fastpath.match.listener_table cimport ListenerPlaces, ListenerTable, NO_LISTENER, find_listener
from eastgate.fastpath.match.proxy_counts cimport ProxyCounts
from eastgate.fastpath.match.route_table cimport RouteTable

# Published as one, immutable: to be used until the next quiet point of the worker.
cdef struct Directory:
    const ListenerPlaces* places
    ListenerState** states      # by number in `places`, and by worker
    uint32_t workers

# The worker's state of the listener that stands for this address; NULL: none does. `directory` may be NULL.
cdef inline ListenerState* state_at(
    const Directory* directory, const Address* destination, uint32_t worker
) noexcept nogil:
    cdef uint32_t number
    if directory == NULL:
        return NULL
    number = find_listener(directory.places, destination)
    return directory.states[number * directory.workers + worker] if number != NO_LISTENER else NULL

# Freed when the engine forgot it: no socket, no directory and no connection leads to a state of it any more.
cdef class ListenerStates:
    cdef ListenerState** states     # one a worker
    cdef Listener** sockets         # one a worker, theirs once they accept from it; NULL: not bound
    cdef uint32_t workers
    cdef uint32_t directories       # that lead here
    cdef RouteTable routes          # keeps alive what the workers read; None: nobody is left to be routed
    cdef ProxyCounts proxied        # keeps alive what they count in
    cdef bint accepting
    cdef bint gone
    cdef bint changed               # since `outdate` was called
    cdef ListenerStates heir        # keeps it alive; made later than this one

    @staticmethod
    cdef ListenerStates of(
        const ListenerState* settings, uint32_t workers, RouteTable routes, ProxyCounts proxied
    )
    cdef int publish_routes(self, RouteTable routes) except -1
    cdef RouteTable drop_routes(self)   # to be kept until no worker can hold them
    cdef uint64_t not_routed(self) noexcept
    cdef uint64_t active(self) noexcept
    # It is gone for good, and its connections are `heir`'s, or nobody's. The one that it had before is returned: it is
    # to be kept until no worker can hold it.
    cdef ListenerStates leave_to(self, ListenerStates heir)
    # Have its connections looked at again if it has changed, or is gone; whether it has any.
    cdef bint outdate(self) except -1

cdef class ListenerDirectory:
    cdef Directory directory
    cdef ListenerTable table
    cdef tuple held             # ListenerStates, by number in `table`

    @staticmethod
    cdef ListenerDirectory of(tuple addresses, dict listeners, uint32_t workers)
