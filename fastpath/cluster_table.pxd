# One cluster's compiled endpoints: everything that a pick and a connect read. Immutable once built, but for the
# endpoint states, which are shared by all tables of the cluster and by all workers (relaxed atomics) and outlive them.
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from eastgate.fastpath.endpoint_rows cimport EndpointRows
from eastgate.fastpath.endpoint_state cimport EndpointState, state_acquire, state_release
from eastgate.fastpath.share_plan cimport PlanOptions

cdef enum:
    ENDPOINT_DIRTY = 1          # EndpointState.flags: a threshold was crossed since the control side last looked
    PICK_NO_ENDPOINTS = -12     # minus Reason.NO_ENDPOINTS
    PICK_NONE_HEALTHY = -13     # minus Reason.NONE_HEALTHY

cdef struct PickHeaps           # opaque; owned by a PickCursor

# One per (worker, cluster slot). All zero is a valid start for cursor_init and cursor_free.
cdef struct PickCursor:
    uint64_t position           # place in the schedule; random at first and after each publish
    uint64_t random             # generator state
    PickHeaps* heaps            # weighted least request only; NULL otherwise

cdef struct Table               # opaque; owned by a ClusterTable

cdef struct EndpointAddress:
    uint8_t family              # 4, 6, or 1 for a Unix socket
    uint16_t port               # host order
    const uint8_t* address      # 4 or 16 bytes in network order; a path of `length` bytes for family 1
    uint32_t length

# Make the cursor ready for `table` (NULL: only seed it), at a random place; call it once before the first pick from each
# newly published table. Frees what the cursor held before. The only function of a pick's life that allocates: 16 bytes an
# endpoint, for least request with unequal weights. Returns 0, or -1 without memory: picks then answer PICK_NO_ENDPOINTS.
cdef int cursor_init(const Table* table, PickCursor* cursor, uint64_t seed) noexcept nogil
# Free what the cursor holds; it may be initialised again or freed again.
cdef void cursor_free(PickCursor* cursor) noexcept nogil

# Index of an endpoint (>= 0) or PICK_*. Allocates nothing, scans nothing, throws nothing. A cursor of another table is safe
# (its place is somewhere else), but for weighted least request it answers PICK_NO_ENDPOINTS.
cdef int32_t table_pick(const Table* table, PickCursor* cursor) noexcept nogil
cdef void table_address(const Table* table, int32_t endpoint, EndpointAddress* address) noexcept nogil
cdef EndpointState* table_state(const Table* table, int32_t endpoint) noexcept nogil
# The identity of an endpoint in events and admin: its row in the columns that the table was compiled from.
cdef uint32_t table_size(const Table* table) noexcept nogil

cdef class ClusterTable:
    cdef Table* table
    cdef PickCursor cursor      # of Python callers only
    cdef readonly object columns
    cdef readonly str policy
    cdef EndpointRows rows      # keeps alive what `table` points into
    cdef PlanOptions options
    cdef EndpointState* checked_state(self, object endpoint) except NULL
