"""Allocate endpoint states, carry them over from one table of a cluster to the next, and free them. Picks nothing.

Rule (Envoy's identity): a state belongs to an address, port and locality. A row that comes back with the same three
keeps its state wherever it stands and whatever priority it has now; another locality is another endpoint.

States lie in blocks of up to 64. A holder keeps a whole block alive: that costs at most 64 states for one survivor, and
makes a state 24 bytes without an allocation of its own. A map of rows whose states lie in order needs no entry per
row (a first table without duplicates, and every later one with the same identities, which shares the map).

Worked example: rows a b c become c b d. c and b keep places 2 and 1 of the old block, d gets place 0 of a new block:
handles 0:2, 0:1, 1:0. The place of a is not used again; its counters go with the block.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memset

from eastgate.fastpath.tables.endpoint_rows cimport (
    NO_ROW, EndpointRows, RowIndex, Rows, row_index_build, row_index_find, row_index_free, same_address,
)

from eastgate.fastpath.posix cimport atomic_load_pointer, atomic_swap_if_pointer
from eastgate.fastpath.tls.handshake cimport forget_ticket

cdef extern from *:
    """
    #define eg_state_take(p) ((void)__atomic_fetch_add((p), 1, __ATOMIC_RELAXED))
    #define eg_state_drop(p) (__atomic_fetch_sub((p), 1, __ATOMIC_ACQ_REL) == 1)
    """
    void take "eg_state_take"(uint32_t* refs) nogil
    bint drop_last "eg_state_drop"(uint32_t* refs) nogil

cdef StateBlock* block_new(uint32_t capacity) noexcept nogil:
    cdef StateBlock* block = <StateBlock*>calloc(1, BLOCK_HEADER + capacity * sizeof(EndpointState))
    if block != NULL:
        block.refs = 1
        block.capacity = <uint16_t>capacity
    return block


cdef void free_tickets(StateBlock* block) noexcept nogil:
    cdef uint16_t place
    if block.tickets == NULL:
        return
    for place in range(block.capacity):
        forget_ticket(&block.tickets[place])
    free(block.tickets)


cdef inline void block_release(StateBlock* block) noexcept nogil:
    if drop_last(&block.refs):
        free(block.window)
        free(block.open)
        free(block.traffic)
        free(block.moved)
        free_tickets(block)
        free(block)


cdef void state_acquire(EndpointState* state) noexcept nogil:
    take(&block_of(state).refs)


cdef void state_release(EndpointState* state) noexcept nogil:
    block_release(block_of(state))


cdef void* column(void** place, uint16_t capacity, size_t size) noexcept nogil:
    """What lies at `place`: one element of this size for each state of a block. NULL without memory."""
    cdef void* found = atomic_load_pointer(place)
    cdef void* made
    if found != NULL:
        return found
    made = calloc(capacity, size)
    # Of workers that come at once one puts its own there, and the others take that.
    if made == NULL or atomic_swap_if_pointer(place, &found, made):
        return made
    free(made)
    return atomic_load_pointer(place)


cdef uint32_t* open_of(EndpointState* state) noexcept nogil:
    cdef StateBlock* block = block_of(state)
    cdef uint32_t* counts = <uint32_t*>column(<void**>&block.open, block.capacity, sizeof(uint32_t))
    return counts + state.place if counts != NULL else NULL


cdef Traffic* traffic_of(EndpointState* state) noexcept nogil:
    cdef StateBlock* block = block_of(state)
    cdef Traffic* counts = <Traffic*>column(<void**>&block.traffic, block.capacity, sizeof(Traffic))
    return counts + state.place if counts != NULL else NULL


cdef Moved* moved_made(EndpointState* state) noexcept nogil:
    cdef StateBlock* block = block_of(state)
    cdef Moved* counts = <Moved*>column(<void**>&block.moved, block.capacity, sizeof(Moved))
    return counts + state.place if counts != NULL else NULL


cdef TicketPlace* tickets_of(EndpointState* state) noexcept nogil:
    cdef StateBlock* block = block_of(state)
    cdef TicketPlace* places = <TicketPlace*>column(<void**>&block.tickets, block.capacity, sizeof(TicketPlace))
    return places + state.place if places != NULL else NULL


cdef void state_map_release(StateMap* map) noexcept nogil:
    cdef uint32_t block
    if map == NULL:
        return
    map.refs -= 1
    if map.refs > 0:
        return
    for block in range(map.block_count):
        block_release(map.blocks[block])
    free(map.blocks)
    free(map.handles)
    free(map)


cdef size_t state_map_bytes(const StateMap* map) noexcept nogil:
    cdef size_t total = sizeof(StateMap) + map.block_count * sizeof(void*)
    cdef uint32_t block
    for block in range(map.block_count):
        total += BLOCK_HEADER + map.blocks[block].capacity * sizeof(EndpointState)
        if map.blocks[block].window != NULL:
            total += 2 * map.blocks[block].capacity * sizeof(uint32_t)
        if map.blocks[block].open != NULL:
            total += map.blocks[block].capacity * sizeof(uint32_t)
        if map.blocks[block].traffic != NULL:
            total += map.blocks[block].capacity * sizeof(Traffic)
        if map.blocks[block].moved != NULL:
            total += map.blocks[block].capacity * sizeof(Moved)
    if map.handles != NULL:
        total += map.count * sizeof(uint32_t)
    return total


cdef inline uint32_t block_take_place(StateBlock* block) noexcept nogil:
    cdef uint32_t place = block.used
    block.states[place].place = <uint8_t>place
    block.used += 1
    return place


cdef StateMap* map_new(uint32_t count, uint32_t block_limit) except NULL:
    cdef StateMap* map = <StateMap*>calloc(1, sizeof(StateMap))
    if map == NULL:
        raise MemoryError
    map.refs = 1
    map.count = count
    map.blocks = <StateBlock**>calloc(block_limit + 1, sizeof(StateBlock*))
    if map.blocks == NULL:
        free(map)
        raise MemoryError
    return map


cdef int fill_in_order(StateMap* map) except -1:
    """Give row i place i & 63 of block i >> 6."""
    cdef uint32_t row = 0
    cdef uint32_t capacity
    cdef StateBlock* block
    while row < map.count:
        capacity = map.count - row if map.count - row < BLOCK_STATES else BLOCK_STATES
        block = block_new(capacity)
        if block == NULL:
            raise MemoryError
        map.blocks[map.block_count] = block
        map.block_count += 1
        while block.used < capacity:
            block_take_place(block)
        row += capacity
    return 0


cdef struct Before:             # the table of before, in which rows of the new one are looked up
    const Rows* rows            # NULL: there is none
    StateMap* states
    RowIndex index              # made for the first row that is not where it is expected
    uint32_t offset             # how far the last row that was found has moved
    uint32_t* locality          # locality index -> number of the name, the same for both tables
    uint32_t* locality_now
    uint32_t* moved             # block number in `states` -> block number in the new map, NO_ROW: not yet


cdef int number_localities(Before* before, EndpointRows rows, EndpointRows previous_rows) except -1:
    """Number the names of both tables' localities alike, so that rows compare numbers."""
    cdef dict numbers = {}
    cdef uint32_t row
    before.locality_now = <uint32_t*>malloc((rows.rows.locality_count + 1) * sizeof(uint32_t))
    if before.locality_now == NULL:
        raise MemoryError
    for row in range(rows.rows.locality_count):
        before.locality_now[row] = numbers.setdefault(rows.localities[row], len(numbers))
    if before.rows == NULL:
        return 0
    before.locality = <uint32_t*>malloc((before.rows.locality_count + 1) * sizeof(uint32_t))
    if before.locality == NULL:
        raise MemoryError
    for row in range(before.rows.locality_count):
        before.locality[row] = numbers.get(previous_rows.localities[row], <uint32_t>NO_ROW)
    return 0


cdef int find_before(Before* before, const Rows* now, uint32_t row, uint32_t* found) except -1:
    """The row of before with the same address and locality, NO_ROW where there is none."""
    cdef uint32_t expected = row + before.offset
    found[0] = NO_ROW
    if before.rows == NULL:
        return 0
    # Most rows are where the last one found says they are; duplicates make that unsafe.
    if before.states.duplicates == 0 and expected < before.rows.count and same_address(now, row, before.rows, expected):
        found[0] = expected
    else:
        if before.index.slots == NULL:
            row_index_build(&before.index, before.rows, NULL)
        found[0] = row_index_find(&before.index, before.rows, now, row)
        if found[0] != NO_ROW:
            before.offset = found[0] - row
    if found[0] != NO_ROW and (
        before.locality[before.rows.locality[found[0]]] != before.locality_now[now.locality[row]]
    ):
        found[0] = NO_ROW
    return 0


cdef int new_handle(StateMap* map, uint32_t* fill, uint32_t wanted, uint32_t* handle) except -1:
    """A place for a new state in block `fill`, which is another one once it is full; `wanted`: states to come."""
    cdef StateBlock* block
    if fill[0] == NO_ROW or map.blocks[fill[0]].used == map.blocks[fill[0]].capacity:
        block = block_new(wanted if wanted < BLOCK_STATES else BLOCK_STATES)
        if block == NULL:
            raise MemoryError
        fill[0] = map.block_count
        map.blocks[fill[0]] = block
        map.block_count += 1
    handle[0] = fill[0] << 6 | block_take_place(map.blocks[fill[0]])
    return 0


cdef int fill_by_identity(
    StateMap* map, EndpointRows rows, EndpointRows previous_rows, StateMap* previous, const uint32_t* first_of
) except -1:
    """Fill `map` row by row: the state of before where address and locality are those of before, else a new one."""
    cdef const Rows* now = &rows.rows
    cdef Before before
    cdef uint32_t row, found, handle, wanted
    cdef uint32_t fill = NO_ROW         # block of `map` that new states are put into
    memset(&before, 0, sizeof(before))
    try:
        if previous != NULL:
            before.rows = &previous_rows.rows
            before.states = previous
            before.moved = <uint32_t*>malloc((previous.block_count + 1) * sizeof(uint32_t))
            if before.moved == NULL:
                raise MemoryError
            memset(before.moved, 0xFF, previous.block_count * sizeof(uint32_t))
        number_localities(&before, rows, previous_rows)
        if previous != NULL and previous.open_block < previous.block_count:
            if previous.blocks[previous.open_block].used < previous.blocks[previous.open_block].capacity:
                fill = adopt(map, previous, previous.open_block, before.moved)
        for row in range(now.count):
            if first_of[row] != row:
                map.handles[row] = map.handles[first_of[row]]
                continue
            find_before(&before, now, row, &found)
            if found != NO_ROW:
                handle = found if previous.handles == NULL else previous.handles[found]
                map.handles[row] = adopt(map, previous, handle >> 6, before.moved) << 6 | handle & 63
                continue
            # Never fewer than eight once the cluster has changed: endpoints come one at a time.
            wanted = now.count - row if now.count - row > 8 or previous == NULL else 8
            new_handle(map, &fill, wanted, &map.handles[row])
        map.open_block = fill if fill != NO_ROW else map.block_count
    finally:
        row_index_free(&before.index)
        free(before.moved)
        free(before.locality_now)
        free(before.locality)
    return 0


cdef uint32_t adopt(StateMap* map, StateMap* previous, uint32_t number, uint32_t* moved) noexcept nogil:
    # Number that `map` knows a block of `previous` by; holds it from now on.
    if moved[number] == NO_ROW:
        moved[number] = map.block_count
        map.blocks[map.block_count] = previous.blocks[number]
        map.block_count += 1
        take(&previous.blocks[number].refs)
    return moved[number]


cdef void shrink(StateMap* map) noexcept nogil:
    # The list of blocks was made for the worst case, a block a row.
    cdef void* smaller = realloc(map.blocks, (map.block_count + 1) * sizeof(StateBlock*))
    if smaller != NULL:
        map.blocks = <StateBlock**>smaller


cdef StateMap* state_map_build(
    EndpointRows rows, EndpointRows previous_rows, StateMap* previous, uint32_t* first_of
) except NULL:
    """Return a new map, or `previous` once more held. MemoryError leaves nothing behind."""
    cdef StateMap* map = NULL
    cdef RowIndex index
    cdef uint32_t row
    cdef uint32_t duplicates
    cdef bint same = previous != NULL and rows.same_identities(previous_rows)
    if same and previous.duplicates == 0:
        for row in range(rows.rows.count):
            first_of[row] = row
        previous.refs += 1
        return previous
    index.slots = NULL
    try:
        row_index_build(&index, &rows.rows, first_of)
        duplicates = index.duplicates
    finally:
        row_index_free(&index)
    if same:
        previous.refs += 1
        return previous
    # Every block holds the state of a row, but for those kept open: the one of before and the last new one.
    map = map_new(rows.rows.count, rows.rows.count + 2 if previous != NULL or duplicates else rows.rows.count // 64 + 1)
    map.duplicates = duplicates
    try:
        if previous == NULL and duplicates == 0:
            fill_in_order(map)
        else:
            map.handles = <uint32_t*>malloc((rows.rows.count + 1) * sizeof(uint32_t))
            if map.handles == NULL:
                raise MemoryError
            fill_by_identity(map, rows, previous_rows, previous, first_of)
            shrink(map)
        if map.handles == NULL:
            map.open_block = map.block_count
    except MemoryError:
        state_map_release(map)
        raise
    return map
