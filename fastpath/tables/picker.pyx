"""Pick from a compiled table: what a worker does per connection. No GIL, no Python object, no arithmetic of shares.

Rule, by the table's kind:
    CONSTANT        no endpoint to choose: one row, or the refusal
    CYCLE           the next place of an exact cycle
    ALIAS           position += golden ratio of 2^64; one cell of the alias table, one comparison (schedule)
    ALIAS_REFUSING  the same, and the last two cells are no rows: the pick is refused, for panic or because nobody is in
                    its zone
    LEAST_REQUEST   a list by its share, the same way; then in the list, weights equal: `choice_count` draws with
                    replacement, fewer active connections win, ties keep the earlier; or all are scanned, and one of
                    those with the fewest is drawn; weights unequal: the earliest deadline, put back with
                    (active + 1) ^ bias / weight (edf_heap)
    RANDOM          one draw: draw % 100 says the priority and availability, draw % length the place in the list of
                    them; weights of endpoints count nowhere. Only which of several localities it is, is chosen apart
    RING_HASH,      hash % 100 says the priority, and the same hash finds the endpoint in its ring (hash_ring) or table
    MAGLEV          (maglev_table); who holds too many connections is passed over (bounded_load)

Worked example: lists of shares 0.7 and 0.3 with three and one endpoints. The cell says list 0; draws 2 and 0 of three;
row 2 has 4 active connections, row 0 has 4: a tie, so row 2. List 1 has one endpoint and costs no draw.

Where it differs from Envoy: a list is chosen evenly instead of at random; everything inside a list is Envoy's rule.
RANDOM chooses the priority at random as well, because Envoy takes the place from the same draw: of 100 endpoints in a
priority with a load of 70 %, the last thirty are never picked there, and not here.
"""
from libc.math cimport pow
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from eastgate.fastpath.tables.bounded_load cimport choose_bounded, slots_of_all
from eastgate.fastpath.tables.edf_heap cimport EdfEntry, EdfQueue, edf_advance, edf_front, edf_start
from eastgate.fastpath.tables.endpoint_rows cimport FAMILY_IPV4, FAMILY_UNIX
from eastgate.fastpath.tables.endpoint_state cimport EndpointState, state_of
from eastgate.fastpath.tables.hash_ring cimport ring_find
from eastgate.fastpath.random cimport mix_seed, next_random, scale_random
from eastgate.fastpath.tables.schedule cimport GOLDEN, AliasCell, alias_at

ctypedef int32_t (*PickFunction)(const Table*, PickCursor*) noexcept nogil
ctypedef int32_t (*ListFunction)(const Table*, PickCursor*, uint32_t) noexcept nogil

cdef extern from *:
    """
    #define eg_relaxed_load(p) __atomic_load_n((p), __ATOMIC_RELAXED)
    #define eg_unlikely(x) __builtin_expect(!!(x), 0)
    #define eg_hide(pointer) __asm__ volatile("" : "+r"(pointer))
    """
    uint32_t relaxed_load "eg_relaxed_load"(const uint32_t* place) nogil
    bint unlikely "eg_unlikely"(bint value) nogil
    void hide "eg_hide"(PickFunction pointer) nogil

cdef enum:
    NO_PICK = 0xFFFFFFFF

cdef struct PickHeaps:
    uint64_t serial             # of the table they were made for
    EdfQueue* queues            # by list; count 0 where weights are equal
    uint32_t* order             # of bounded load: 0..queued-1, and as many places behind it


cdef inline double biased(const Table* table, uint32_t active) noexcept nogil:
    if table.bias == 1.0:
        return <double>active + 1.0
    return pow(<double>active + 1.0, table.bias)


cdef int32_t pick_least_of_all(const Table* table, PickCursor* cursor, uint32_t number) noexcept nogil:
    cdef const uint32_t* members = table.members + table.groups[number].first
    cdef uint32_t row = members[0]
    cdef uint32_t least = relaxed_load(&state_of(table.states, row).active)
    cdef uint32_t ties = 1
    cdef uint32_t member, active
    for member in range(1, table.groups[number].count):
        active = relaxed_load(&state_of(table.states, members[member]).active)
        if active > least:
            continue
        ties = ties + 1 if active == least else 1
        if active < least or scale_random(<uint32_t>(next_random(&cursor.random) >> 32), ties) == 0:
            least = active
            row = members[member]
    return <int32_t>row


cdef int32_t pick_from_queue(const Table* table, PickCursor* cursor, uint32_t number) noexcept nogil:
    cdef const TableGroup* group = &table.groups[number]
    cdef EdfQueue* queue
    cdef uint32_t row, active
    if unlikely(cursor.heaps == NULL or cursor.heaps.serial != table.serial):
        return PICK_NO_ENDPOINTS
    queue = &cursor.heaps.queues[number]
    row = table.members[group.first + edf_front(queue)]
    active = relaxed_load(&state_of(table.states, row).active)
    edf_advance(queue, biased(table, active) * group.weight / table.rows.pick_weight[row])
    return <int32_t>row


# What follows is called through pointers, so that what it needs of the stack is not made room for before each pick.
cdef ListFunction from_queue = pick_from_queue
cdef ListFunction from_all = pick_least_of_all


cdef int32_t pick_least_request(const Table* table, PickCursor* cursor) noexcept nogil:
    cdef const TableGroup* group = table.groups
    cdef const uint32_t* members
    cdef uint64_t draw = 0
    cdef uint32_t number = 0
    cdef uint32_t _choice, row, other, active, other_active
    if table.length > 1:
        cursor.position += GOLDEN
        number = alias_at(table.schedule, table.length, cursor.position)
        group = &table.groups[number]
    if not group.equal:
        return from_queue(table, cursor, number)
    members = table.members + group.first
    if group.count <= 1:
        return <int32_t>members[0] if group.count == 1 else -<int32_t>group.first
    if unlikely(table.choice_count == 0):
        return from_all(table, cursor, number)
    draw = next_random(&cursor.random)
    row = members[scale_random(<uint32_t>draw, group.count)]
    active = relaxed_load(&state_of(table.states, row).active)
    other = members[scale_random(<uint32_t>(draw >> 32), group.count)]
    other_active = relaxed_load(&state_of(table.states, other).active)
    if other_active < active:
        row = other
        active = other_active
    for _choice in range(2, table.choice_count):
        other = members[scale_random(<uint32_t>(next_random(&cursor.random) >> 32), group.count)]
        other_active = relaxed_load(&state_of(table.states, other).active)
        if other_active < active:
            row = other
            active = other_active
    return <int32_t>row


cdef inline int32_t pick_random(const Table* table, PickCursor* cursor, uint64_t draw) noexcept nogil:
    cdef uint8_t number = table.branch_of[draw % 100]
    cdef const Branch* branch
    cdef const TableGroup* group
    if unlikely(number == NO_BRANCH):
        return PICK_NONE_HEALTHY
    branch = &table.branches[number]
    group = &table.groups[branch.first]
    if branch.count > 1:
        cursor.position += GOLDEN
        group += alias_at(<const AliasCell*>table.schedule + branch.first, branch.count, cursor.position)
    if unlikely(group.count == 0):
        return -<int32_t>group.first
    return <int32_t>table.members[group.first + draw % group.count]


cdef inline uint32_t maglev_at(const HashList* list, uint64_t hash) noexcept nogil:
    cdef uint64_t place = hash % list.length
    if list.width == 1:
        return (<const uint8_t*>list.places)[place]
    if list.width == 2:
        return (<const uint16_t*>list.places)[place]
    return (<const uint32_t*>list.places)[place]


cdef int32_t pick_by_hash(const Table* table, PickCursor* cursor, const PickHash* hash) noexcept nogil:
    cdef uint64_t value = hash.value if hash.present else next_random(&cursor.random)
    cdef uint8_t number = table.branch_of[value % 100]
    cdef const HashList* list
    cdef uint32_t index
    if unlikely(number == NO_BRANCH):
        return PICK_NONE_HEALTHY
    list = &table.lists[number]
    if table.kind == RING_HASH:
        index = ring_find(list.hashes, list.starts, list.length, list.shift, value)
        if hash.attempt:
            index = <uint32_t>((<uint64_t>index + hash.attempt) % list.length)
        index = (<const uint32_t*>list.places)[index]
    else:
        index = maglev_at(list, value ^ (~<uint64_t>0 - hash.attempt + 1) if hash.attempt else value)
    if table.balance_factor:
        if unlikely(cursor.heaps == NULL or cursor.heaps.serial != table.serial):
            return PICK_NO_ENDPOINTS
        index = choose_bounded(
            table.states, table.members + list.first, list.weights, list.count, index, value,
            slots_of_all(cursor.cluster_active, table.balance_factor), cursor.heaps.order,
            cursor.heaps.order + table.queued)
    return <int32_t>table.members[list.first + index]


cdef inline int32_t pick_or_refuse(const Table* table, PickCursor* cursor) noexcept nogil:
    cdef uint32_t row
    cursor.position += GOLDEN
    row = alias_at(table.schedule, table.length, cursor.position)
    if row < table.rows.count:
        return <int32_t>row
    return PICK_PANIC if row == table.rows.count else PICK_NONE_HEALTHY


cdef int32_t pick_otherwise(const Table* table, PickCursor* cursor) noexcept nogil:
    cdef PickHash hash
    if table.kind == CONSTANT:
        return table.constant
    if table.kind == RANDOM:
        return pick_random(table, cursor, next_random(&cursor.random))
    if table.kind == ALIAS_REFUSING:
        return pick_or_refuse(table, cursor)
    hash.value = 0
    hash.present = False
    hash.attempt = 0
    return pick_by_hash(table, cursor, &hash)


cdef PickFunction least_pick = pick_least_request
cdef PickFunction other_pick = pick_otherwise


cdef inline uint32_t next_turn(const Table* table, PickCursor* cursor) noexcept nogil:
    # The random start and the end of a turn take the same way back into the cycle: any position is safe.
    cdef uint64_t turn = cursor.position
    if unlikely(turn >= table.length):
        turn = turn % table.length
    cursor.position = turn + 1
    return <uint32_t>turn


cdef inline int32_t pick(const Table* table, PickCursor* cursor) noexcept nogil:
    if table.kind == ALIAS:
        cursor.position += GOLDEN
        return <int32_t>alias_at(table.schedule, table.length, cursor.position)
    if table.kind == CYCLE_16:
        return (<const uint16_t*>table.schedule)[next_turn(table, cursor)]
    if table.kind == CYCLE_32:
        return <int32_t>(<const uint32_t*>table.schedule)[next_turn(table, cursor)]
    if table.kind == LEAST_REQUEST:
        return least_pick(table, cursor)
    return other_pick(table, cursor)


cdef int32_t table_pick(const Table* table, PickCursor* cursor) noexcept nogil:
    return pick(table, cursor)


cdef int32_t table_pick_hash(const Table* table, PickCursor* cursor, const PickHash* hash) noexcept nogil:
    if table_hashes(table):
        return pick_by_hash(table, cursor, hash)
    if table.kind == RANDOM and hash.present:
        return pick_random(table, cursor, hash.value)
    return pick(table, cursor)


cdef void table_address(const Table* table, int32_t endpoint, EndpointAddress* address) noexcept nogil:
    cdef uint32_t name
    address.family = table.rows.family[endpoint]
    address.port = table.rows.port[endpoint]
    address.address = table.rows.address + 16 * <size_t>endpoint
    address.length = 4 if address.family == FAMILY_IPV4 else 16
    if address.family == FAMILY_UNIX:
        memcpy(&name, address.address, 4)
        address.address = table.rows.names[name].path
        address.length = table.rows.names[name].length


cdef void table_address_at(
    const Table* table, int32_t endpoint, uint32_t number, EndpointAddress* address
) noexcept nogil:
    cdef uint32_t place
    if number == 0:
        table_address(table, endpoint, address)
        return
    place = table.rows.further_first[endpoint] + number - 1
    address.family = table.rows.further_family[place]
    address.port = table.rows.further_port[place]
    address.address = table.rows.further_address + 16 * <size_t>place
    address.length = 4 if address.family == FAMILY_IPV4 else 16


cdef EndpointState* table_state(const Table* table, int32_t endpoint) noexcept nogil:
    return state_of(table.states, <uint32_t>endpoint)


cdef uint32_t table_size(const Table* table) noexcept nogil:
    return table.rows.count


cdef int cursor_init(const Table* table, PickCursor* cursor, uint64_t seed) noexcept nogil:
    cursor_free(cursor)
    cursor.position = mix_seed(seed)
    cursor.random = mix_seed(cursor.position)
    if table == NULL:
        return 0
    if table.balance_factor:
        return order_build(table, cursor)
    if table.kind != LEAST_REQUEST or table.queued == 0:
        return 0
    return heaps_build(table, cursor)


cdef int order_build(const Table* table, PickCursor* cursor) noexcept nogil:
    cdef PickHeaps* heaps = <PickHeaps*>malloc(sizeof(PickHeaps) + 2 * <size_t>table.queued * sizeof(uint32_t))
    cdef uint32_t index
    if heaps == NULL:
        return -1
    heaps.serial = table.serial
    heaps.queues = NULL
    heaps.order = <uint32_t*>(heaps + 1)
    for index in range(table.queued):
        heaps.order[index] = index
    cursor.heaps = heaps
    return 0


cdef int heaps_build(const Table* table, PickCursor* cursor) noexcept nogil:
    cdef size_t queue_bytes = table.length * sizeof(EdfQueue)
    cdef PickHeaps* heaps = <PickHeaps*>malloc(sizeof(PickHeaps) + queue_bytes + table.queued * sizeof(EdfEntry))
    cdef double* intervals = <double*>malloc(table.queued * sizeof(double))
    cdef EdfEntry* entries
    cdef EdfQueue* queue
    cdef const TableGroup* group
    cdef uint32_t number, member, row, active
    if heaps == NULL or intervals == NULL:
        free(heaps)
        free(intervals)
        return -1
    heaps.serial = table.serial
    heaps.queues = <EdfQueue*>(heaps + 1)
    heaps.order = NULL
    entries = <EdfEntry*>(<char*>(heaps + 1) + queue_bytes)
    for number in range(table.length):
        group = &table.groups[number]
        queue = &heaps.queues[number]
        queue.count = 0
        queue.entries = entries
        if group.equal:
            continue
        for member in range(group.count):
            row = table.members[group.first + member]
            active = relaxed_load(&state_of(table.states, row).active)
            intervals[member] = biased(table, active) * group.weight / table.rows.pick_weight[row]
        queue.count = group.count
        edf_start(queue, intervals, &cursor.random)
        entries += group.count
    free(intervals)
    cursor.heaps = heaps
    return 0


cdef void cursor_free(PickCursor* cursor) noexcept nogil:
    free(cursor.heaps)
    cursor.heaps = NULL


cdef uint64_t table_spin(const Table* table, PickCursor* cursor, uint64_t picks) noexcept nogil:
    cdef PickFunction engine_pick = table_pick
    cdef uint64_t _done
    cdef uint64_t found = 0
    # As from another module: through a pointer, never inlined into this loop.
    hide(engine_pick)
    for _done in range(picks):
        found += engine_pick(table, cursor) >= 0
    return found


cdef void table_fill(const Table* table, PickCursor* cursor, uint32_t* out, Py_ssize_t count) noexcept nogil:
    """Picks in bulk: the same as `count` calls, with the schedule's kind decided once."""
    cdef Py_ssize_t done
    cdef uint64_t position
    cdef uint32_t turn
    cdef int32_t endpoint
    if table.kind == ALIAS:
        position = cursor.position
        # Four at a time: the sum is the only thing that a pick waits for.
        for done in range(0, count - 3, 4):
            out[done] = alias_at(table.schedule, table.length, position + GOLDEN)
            out[done + 1] = alias_at(table.schedule, table.length, position + 2 * GOLDEN)
            out[done + 2] = alias_at(table.schedule, table.length, position + 3 * GOLDEN)
            position += 4 * GOLDEN
            out[done + 3] = alias_at(table.schedule, table.length, position)
        for done in range(count & ~<Py_ssize_t>3, count):
            position += GOLDEN
            out[done] = alias_at(table.schedule, table.length, position)
        cursor.position = position
    elif table.kind == CYCLE_16 or table.kind == CYCLE_32:
        turn = next_turn(table, cursor) if count > 0 else 0
        for done in range(count):
            if table.kind == CYCLE_16:
                out[done] = (<const uint16_t*>table.schedule)[turn]
            else:
                out[done] = (<const uint32_t*>table.schedule)[turn]
            turn += 1
            if turn == table.length:
                turn = 0
        if count > 0:
            cursor.position = turn
    else:
        for done in range(count):
            endpoint = pick(table, cursor)
            out[done] = <uint32_t>endpoint if endpoint >= 0 else <uint32_t>NO_PICK
