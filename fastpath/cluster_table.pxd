# One cluster's compiled endpoints: everything that a pick and a connect read. Immutable once built, but for the
# endpoint states, which are shared by all tables of the cluster and by all workers (relaxed atomics) and outlive them.
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    ENDPOINT_DIRTY = 1          # EndpointState.flags: a threshold was crossed since the control side last looked
    PICK_NO_ENDPOINTS = -12     # minus Reason.NO_ENDPOINTS
    PICK_NONE_HEALTHY = -13     # minus Reason.NONE_HEALTHY

cdef struct EndpointState:
    uint32_t refs               # tables + connections that point here; the last one frees
    uint32_t active             # established connections (least request reads it)
    uint32_t consecutive_failures
    uint32_t flags
    uint32_t cx_total           # attempts
    uint32_t cx_connect_fail

cdef struct PickCursor:         # one per (worker, cluster slot)
    uint64_t position           # place in the schedule; random at first and after each publish
    uint64_t random             # generator state

cdef struct Table               # opaque; owned by a ClusterTable

cdef struct EndpointAddress:
    uint8_t family              # 4, 6, or 1 for a Unix socket
    uint16_t port               # host order
    const uint8_t* address      # 4 or 16 bytes in network order; a path of `length` bytes for family 1
    uint32_t length

# Index of an endpoint (>= 0) or PICK_*. Allocates nothing, scans nothing, throws nothing.
cdef int32_t table_pick(const Table* table, PickCursor* cursor) noexcept nogil
cdef void table_address(const Table* table, int32_t endpoint, EndpointAddress* address) noexcept nogil
cdef EndpointState* table_state(const Table* table, int32_t endpoint) noexcept nogil
# The identity of an endpoint in events and admin: its row in the columns that the table was compiled from.
cdef uint32_t table_size(const Table* table) noexcept nogil
cdef void state_acquire(EndpointState* state) noexcept nogil
cdef void state_release(EndpointState* state) noexcept nogil

cdef class ClusterTable:
    cdef Table* table
    cdef PickCursor cursor      # of Python callers only
    cdef readonly object columns
