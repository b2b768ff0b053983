# Which listener a connection belongs to that was redirected: listeners by the address that they stand for.
from libc.stdint cimport uint32_t, uint64_t
from eastgate.fastpath.match.facts cimport Address

cdef enum:
    NO_LISTENER = 0x7FFFFFFF

# An address whose unused bytes are 0, so that places are compared as they are.
cdef struct ListenerPlace:
    Address address             # family 0: free
    uint32_t number

# Open addressing, at most half full.
cdef struct ListenerPlaces:
    uint64_t seed
    ListenerPlace* places       # NULL: none
    uint32_t mask

# Number of the listener with this address and port, else of the one with the wildcard of its family and this port,
# else NO_LISTENER. `places` may be NULL.
cdef uint32_t find_listener(const ListenerPlaces* places, const Address* destination) noexcept nogil

cdef class ListenerTable:
    cdef ListenerPlaces table
    cdef uint32_t count
