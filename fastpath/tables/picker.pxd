# A compiled table as the data side sees it, and the pick. Immutable once built, but for the endpoint states, which are
# shared by all tables of the cluster and by all workers (relaxed atomics) and outlive them.
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint16_t, uint64_t
from eastgate.fastpath.tables.endpoint_rows cimport Rows
from eastgate.fastpath.tables.endpoint_state cimport EndpointState, StateMap

cdef enum:
    PICK_NO_ENDPOINTS = -12     # minus Reason.NO_ENDPOINTS
    PICK_NONE_HEALTHY = -13     # minus Reason.NONE_HEALTHY
    PICK_PANIC = -24            # minus Reason.PANIC

cdef enum Kind:
    CONSTANT                    # one endpoint, or none: `constant` is the answer
    CYCLE_16                    # schedule: uint16_t rows
    CYCLE_32                    # schedule: uint32_t rows
    ALIAS                       # schedule: an AliasCell for each row
    LEAST_REQUEST               # schedule: an AliasCell for each list
    RANDOM                      # schedule: an AliasCell for each list, by branch
    RING_HASH                   # lists: a ring for each branch
    MAGLEV                      # lists: a table for each branch
    ALIAS_REFUSING              # as ALIAS, and two last cells for picks that are refused: panic, nobody

cdef enum:
    NO_BRANCH = 0xFF

cdef struct TableGroup:         # a list of least request, or of random; without members `first` is a Reason
    uint32_t first              # in members
    uint32_t count
    bint equal                  # all weights are the same
    double weight               # sum of weights; of random: the part of its branch's picks

# Where one value of (draw % 100) leads to: the lists of a priority and availability.
cdef struct Branch:
    uint32_t first              # groups[first : first + count]
    uint32_t count

# The endpoints of a priority as hashes find them. Everything it points to lies in the block of its table.
cdef struct HashList:
    uint32_t first              # members[first : first + count], in the order of their normalised weights
    uint32_t count
    uint32_t length             # entries of the ring, places of the Maglev table
    uint8_t shift               # of the ring: hash >> shift says where in `starts` to look
    uint8_t width               # bytes of a place
    const uint64_t* hashes      # of the ring, ascending
    const uint32_t* starts      # of the ring: first entry by the highest bits
    const void* places          # index of the member, `width` bytes each; 4 in a ring
    const double* weights       # normalised, by index of the member; NULL without balance_factor

# What a pick by hash is about.
cdef struct PickHash:
    uint64_t value
    bint present                # else a hash is drawn
    uint32_t attempt            # others than 0 lead to further endpoints

cdef struct Table:              # one block of memory, lists, schedule and members behind it; owned by a ClusterTable
    Kind kind
    int32_t constant
    uint32_t length             # of the schedule
    uint32_t choice_count       # 0: all are scanned
    double bias                 # active_request_bias of least request
    const void* schedule
    const TableGroup* groups    # of least request and random, as many as `length`
    const uint32_t* members     # rows
    uint32_t branch_count       # of random
    const Branch* branches
    const HashList* lists       # of ring hash and Maglev, by branch
    uint32_t balance_factor     # percent; 0: no bounded load
    const uint8_t* branch_of    # 100 of them, by draw % 100; NO_BRANCH where no endpoint is
    uint32_t queued             # members of lists with unequal weights; with balance_factor, of the longest list
    uint64_t serial             # no two tables have the same
    size_t bytes
    Rows rows                   # borrowed from the owner
    StateMap* states            # counted

cdef struct PickHeaps           # opaque; owned by a PickCursor

# One per (worker, cluster slot). All zero is a valid start for cursor_init and cursor_free.
cdef struct PickCursor:
    uint64_t position           # place in the schedule; random at first and after each publish
    uint64_t random             # generator state
    uint32_t cluster_active     # set by who picks where loads are bounded: established connections of the cluster
    PickHeaps* heaps            # weighted least request and bounded load only; NULL otherwise

cdef struct EndpointAddress:
    uint8_t family              # 4, 6, or 1 for a Unix socket
    uint16_t port               # host order
    const uint8_t* address      # 4 or 16 bytes in network order; a path of `length` bytes for family 1
    uint32_t length

# Make the cursor ready for `table` (NULL: only seed it), at a random place; call it once before the first pick from
# each newly published table. Frees what the cursor held before. The only one here that allocates: 16 bytes an endpoint
# for least request with unequal weights, 8 where loads are bounded. Returns 0, or -1 without memory: picks then answer
# PICK_NO_ENDPOINTS.
cdef int cursor_init(const Table* table, PickCursor* cursor, uint64_t seed) noexcept nogil
# Free what the cursor holds; it may be initialised again or freed again.
cdef void cursor_free(PickCursor* cursor) noexcept nogil

# Index of an endpoint (>= 0) or PICK_*. Allocates nothing, scans nothing, throws nothing. A cursor of another table is
# safe (its place is somewhere else), but for weighted least request it answers PICK_NO_ENDPOINTS.
cdef int32_t table_pick(const Table* table, PickCursor* cursor) noexcept nogil
# The same for a connection with a hash. RANDOM takes it as its draw; other policies than that, RING_HASH and MAGLEV do
# not look at it.
cdef int32_t table_pick_hash(const Table* table, PickCursor* cursor, const PickHash* hash) noexcept nogil
# Whether picks depend on hashes.
cdef inline bint table_hashes(const Table* table) noexcept nogil:
    return table.kind == RING_HASH or table.kind == MAGLEV
cdef void table_address(const Table* table, int32_t endpoint, EndpointAddress* address) noexcept nogil
# Of an endpoint's addresses one: 0 is the first, 1 and on are further ones.
cdef void table_address_at(
    const Table* table, int32_t endpoint, uint32_t number, EndpointAddress* address) noexcept nogil
# How many it has beside the first.
cdef inline uint32_t table_further(const Table* table, int32_t endpoint) noexcept nogil:
    if table.rows.further_first == NULL:
        return 0
    return table.rows.further_first[endpoint + 1] - table.rows.further_first[endpoint]
cdef EndpointState* table_state(const Table* table, int32_t endpoint) noexcept nogil
# The identity of an endpoint in events and admin: its row in the columns that the table was compiled from.
cdef uint32_t table_size(const Table* table) noexcept nogil

# `count` picks into `out`, 0xFFFFFFFF where there is none: as single picks, with the kind decided once.
cdef void table_fill(const Table* table, PickCursor* cursor, uint32_t* out, Py_ssize_t count) noexcept nogil
# `picks` calls of table_pick as another module makes them; how many gave an endpoint. For benchmarks.
cdef uint64_t table_spin(const Table* table, PickCursor* cursor, uint64_t picks) noexcept nogil
