"""Lay out the tables of RING_HASH and MAGLEV in one block, and say what share they give an endpoint.

Rule: hash % 100 says the priority, then the same hash finds the endpoint in the ring or table of that priority. A share
is the part of all 64-bit hashes that lead to the endpoint: the arcs before its entries, or its places in the table.

Worked example: a ring with entries at 2^62 (endpoint 0) and 2^63 (endpoint 1): hashes up to 2^62 and from 2^63 + 1 on
are 0's, three quarters; the rest are 1's.

Where it differs from Envoy: nowhere. An entry is one, two or four bytes wide, as many as the endpoints need.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from eastgate.fastpath.tables.hash_lists cimport HashLists, WeightedList
from eastgate.fastpath.tables.hash_ring cimport ring_bits, ring_build, ring_entries
from eastgate.fastpath.tables.maglev_table cimport maglev_build
from eastgate.fastpath.tables.picker cimport MAGLEV, NO_BRANCH, RING_HASH, HashList, Table
from eastgate.fastpath.tables.random_table cimport BUCKETS, draw_parts

cdef struct Layout:             # offsets of the block's parts, each aligned to 8
    size_t lists
    size_t weights
    size_t hashes
    size_t members
    size_t places
    size_t starts
    size_t branches
    size_t total


cdef inline size_t aligned(size_t bytes) noexcept nogil:
    return (bytes + 7) // 8 * 8


cdef inline uint32_t width_of(uint32_t count) noexcept nogil:
    if count <= 256:
        return 1
    return 2 if count <= 65536 else 4


cdef void plan_layout(
    Layout* layout, const HashLists* lists, const HashOptions* options, uint64_t* entries
) noexcept nogil:
    cdef uint32_t number
    cdef uint64_t ring = 0
    cdef size_t starts = 0
    cdef size_t places = 0
    cdef uint64_t size
    cdef const WeightedList* given
    for number in range(lists.list_count):
        entries[number] = 0
        given = &lists.lists[number]
        if given.count == 0:
            continue
        if options.maglev:
            entries[number] = options.size
            places += aligned(<size_t>options.size * width_of(given.count))
            continue
        entries[number] = ring_entries(
            lists.weights + given.first, given.count, options.minimum, options.maximum, &size)
        ring += entries[number]
        places += aligned(entries[number] * sizeof(uint32_t))
        starts += aligned(((<size_t>1 << ring_bits(entries[number])) + 1) * sizeof(uint32_t))
    layout.lists = aligned(sizeof(Table))
    layout.weights = layout.lists + aligned(lists.list_count * sizeof(HashList))
    layout.hashes = layout.weights + (lists.member_count * sizeof(double) if options.balance_factor else 0)
    layout.members = layout.hashes + ring * sizeof(uint64_t)
    layout.places = layout.members + aligned(lists.member_count * sizeof(uint32_t))
    layout.starts = layout.places + places
    layout.branches = layout.starts + starts
    layout.total = layout.branches + BUCKETS


cdef Table* hashed_build(const HashLists* lists, const HashOptions* options) noexcept nogil:
    cdef uint64_t entries[128]
    cdef Layout layout
    cdef Table* table
    cdef HashList* made
    cdef const WeightedList* given
    cdef char* block
    cdef uint32_t number
    cdef int failed = 0
    plan_layout(&layout, lists, options, entries)
    table = <Table*>calloc(1, layout.total)
    if table == NULL:
        return NULL
    block = <char*>table
    table.kind = MAGLEV if options.maglev else RING_HASH
    table.bytes = layout.total
    table.balance_factor = options.balance_factor
    table.lists = <const HashList*>(block + layout.lists)
    table.branch_count = lists.list_count
    table.branch_of = <const uint8_t*>(block + layout.branches)
    table.members = <const uint32_t*>(block + layout.members)
    memcpy(block + layout.branches, lists.branch_of, BUCKETS)
    memcpy(block + layout.members, lists.members, lists.member_count * sizeof(uint32_t))
    if options.balance_factor:
        memcpy(block + layout.weights, lists.weights, lists.member_count * sizeof(double))
    for number in range(lists.list_count):
        given = &lists.lists[number]
        made = <HashList*>(block + layout.lists) + number
        made.first = given.first
        made.count = given.count
        if given.count == 0:
            continue
        if given.count > table.queued:
            table.queued = given.count
        made.length = <uint32_t>entries[number]
        table.length += made.length
        made.places = block + layout.places
        if options.balance_factor:
            made.weights = <const double*>(block + layout.weights) + given.first
        if options.maglev:
            made.width = <uint8_t>width_of(given.count)
            layout.places += aligned(<size_t>made.length * made.width)
            failed += fill_maglev(made, lists)
            continue
        made.width = sizeof(uint32_t)
        made.shift = <uint8_t>(64 - ring_bits(made.length))
        made.hashes = <const uint64_t*>(block + layout.hashes)
        made.starts = <const uint32_t*>(block + layout.starts)
        layout.hashes += made.length * sizeof(uint64_t)
        layout.places += aligned(made.length * sizeof(uint32_t))
        layout.starts += aligned(((<size_t>1 << (64 - made.shift)) + 1) * sizeof(uint32_t))
        failed += ring_build(
            <uint64_t*>made.hashes, <uint32_t*>made.places, <uint32_t*>made.starts, made.length,
            lists.weights + given.first, given.count, options.minimum, options.maximum, lists.text,
            lists.key_first + given.first, options.murmur)
    if failed < 0:
        free(table)
        return NULL
    return table


cdef int fill_maglev(HashList* made, const HashLists* lists) noexcept nogil:
    cdef uint32_t* places = <uint32_t*>malloc(made.length * sizeof(uint32_t))
    cdef uint32_t place
    if places == NULL or maglev_build(
        places, made.length, lists.weights + made.first, made.count, lists.text, lists.key_first + made.first
    ) < 0:
        free(places)
        return -1
    for place in range(made.length):
        if made.width == 1:
            (<uint8_t*>made.places)[place] = <uint8_t>places[place]
        elif made.width == 2:
            (<uint16_t*>made.places)[place] = <uint16_t>places[place]
        else:
            (<uint32_t*>made.places)[place] = places[place]
    free(places)
    return 0


cdef inline uint32_t member_at(const HashList* list, uint32_t place) noexcept nogil:
    if list.width == 1:
        return (<const uint8_t*>list.places)[place]
    if list.width == 2:
        return (<const uint16_t*>list.places)[place]
    return (<const uint32_t*>list.places)[place]


cdef list hashed_entries(const Table* table):
    cdef const HashList* list
    cdef uint32_t number, place
    found = []
    for number in range(table.branch_count):
        list = &table.lists[number]
        rows = [table.members[list.first + member_at(list, place)] for place in range(list.length)]
        if table.kind == RING_HASH:
            rows = [(list.hashes[place], rows[place]) for place in range(list.length)]
        found.append(rows)
    return found


cdef void ring_shares(const Table* table, const HashList* ring, double part, double* shares) noexcept nogil:
    # Unsigned differences go around the end by themselves. Entries of one hash: the first has all there is.
    cdef uint64_t before = ring.hashes[ring.length - 1]
    cdef uint32_t index
    cdef double arc
    if ring.hashes[0] == before:
        shares[table.members[ring.first + (<const uint32_t*>ring.places)[0]]] += part
        return
    for index in range(ring.length):
        arc = <double>(ring.hashes[index] - before) / 18446744073709551616.0
        before = ring.hashes[index]
        shares[table.members[ring.first + (<const uint32_t*>ring.places)[index]]] += part * arc


cdef void maglev_shares(const Table* table, const HashList* list, uint32_t number, double* shares) noexcept nogil:
    cdef double parts[100]
    cdef uint32_t modulus = draw_parts(table.branch_of, <uint8_t>number, list.length, parts)
    cdef uint32_t place
    for place in range(list.length):
        shares[table.members[list.first + member_at(list, place)]] += parts[place % modulus]


cdef void hashed_shares(const Table* table, double* shares) noexcept nogil:
    cdef uint32_t number, bucket
    cdef double part
    for number in range(table.branch_count):
        part = 0.0
        for bucket in range(<uint32_t>BUCKETS):
            if table.branch_of[bucket] != NO_BRANCH and table.branch_of[bucket] == number:
                part += 1.0
        if part == 0.0:
            continue
        if table.kind == MAGLEV:
            maglev_shares(table, &table.lists[number], number, shares)
        else:
            ring_shares(table, &table.lists[number], part / BUCKETS, shares)
