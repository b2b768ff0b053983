# State of endpoints that outlives tables: counters and failures, shared by all workers through relaxed atomics.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from eastgate.fastpath.posix cimport atomic_load_pointer
from eastgate.fastpath.tables.endpoint_rows cimport EndpointRows
from eastgate.fastpath.tables.traffic cimport Traffic
from eastgate.fastpath.tls.handshake cimport TicketPlace

cdef enum:
    BLOCK_STATES = 64
    BLOCK_HEADER = 48           # bytes before StateBlock.states

cdef struct EndpointState:
    uint8_t place               # within its StateBlock; never changes
    uint8_t crossed             # see outlier_counters.pxd; set by workers, taken by the control side
    uint16_t gateway_failures   # consecutive ones, as consecutive_failures, but set back by themselves
    uint32_t active             # established connections (least request reads it)
    uint32_t consecutive_failures
    uint32_t cx_total           # attempts
    uint32_t cx_connect_fail
    uint32_t cx_connected

# Bytes of the connections to one endpoint.
cdef struct Moved:
    uint64_t received           # from the endpoint
    uint64_t sent               # to it

# Freed by the last of its holders: maps count once for the whole block, connections once each.
cdef struct StateBlock:
    uint32_t refs
    uint16_t used               # states given out so far; only grows. Written under the GIL
    uint16_t capacity
    uint32_t* window            # cx_connected, cx_connect_fail of each when the last interval ended; or NULL
    uint32_t* open              # atomic; connections of each, connecting ones too, of clusters with a limit; or NULL
    TicketPlace* tickets        # atomic; TLS sessions of each that may be resumed, of clusters that speak TLS; or NULL
    Traffic* traffic            # atomic; what Istio's metrics count of each, once one has a connection that they count
    Moved* moved                # atomic; bytes of each, once one has a connection
    EndpointState states[64]    # `capacity` of them are allocated

# Where the state of each row lies; shared by the tables of a cluster whose rows have the same identities in the same
# order. Counted under the GIL, immutable otherwise.
cdef struct StateMap:
    uint32_t refs
    uint32_t count
    uint32_t block_count
    uint32_t duplicates         # rows that are dropped because an earlier row has their address
    uint32_t open_block         # the one that takes new states; block_count: none
    StateBlock** blocks
    uint32_t* handles           # block << 6 | place; NULL: row i is place i & 63 of block i >> 6

# New map for `rows`; states of `previous` are carried over by address and locality, also when the row moved or changed
# its priority. `first_of` (one uint32 a row) receives the first row of each address. NULL previous: all states are new.
cdef StateMap* state_map_build(
    EndpointRows rows, EndpointRows previous_rows, StateMap* previous, uint32_t* first_of) except NULL
cdef void state_map_release(StateMap* map) noexcept nogil
cdef size_t state_map_bytes(const StateMap* map) noexcept nogil

cdef void state_acquire(EndpointState* state) noexcept nogil
cdef void state_release(EndpointState* state) noexcept nogil

# How many connections the endpoint has, as far as they were made under a limit; NULL without memory.
cdef uint32_t* open_of(EndpointState* state) noexcept nogil

# Where the endpoint's newest TLS session is kept; NULL without memory. Lives as long as the state.
cdef TicketPlace* tickets_of(EndpointState* state) noexcept nogil

# What Istio's metrics count of its connections; NULL without memory. Lives as long as the state.
cdef Traffic* traffic_of(EndpointState* state) noexcept nogil

# Where its bytes are counted, made when there is none yet: `moved_of` is what a turn of a relay asks.
cdef Moved* moved_made(EndpointState* state) noexcept nogil

cdef inline StateBlock* block_of(EndpointState* state) noexcept nogil:
    return <StateBlock*>(<char*>(state - state.place) - BLOCK_HEADER)

# Where the endpoint's bytes are counted; NULL without memory. Lives as long as the state.
cdef inline Moved* moved_of(EndpointState* state) noexcept nogil:
    cdef Moved* counts = <Moved*>atomic_load_pointer(<void**>&block_of(state).moved)
    return counts + state.place if counts != NULL else moved_made(state)

cdef inline EndpointState* state_of(const StateMap* map, uint32_t row) noexcept nogil:
    cdef uint32_t handle = row if map.handles == NULL else map.handles[row]
    return &map.blocks[handle >> 6].states[handle & 63]
