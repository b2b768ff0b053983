"""Lists of RING_HASH and MAGLEV: which endpoints of each priority, in which order, with which part. Builds no table.

Rule: a priority gives its healthy endpoints, or all when it is in panic; degraded ones are never used. Without locality
weighting they are in message order and have weight / sum of weights. With it they are by locality: the proxy's own
first, the others in the order of their names; an endpoint has weight * (locality weight / sum of all localities'
weights) / sum of weights in its locality. A locality keeps its part until its last endpoint is gone, and then nobody
has it. What is hashed for an endpoint is its key, or else its address with the port.

Worked example: localities A (weight 3, two endpoints of weight 1) and B (weight 1, none healthy): A's have 1 * 0.75 / 2
= 0.375 each. Without weights of localities each has 0.5.

Where it differs from Envoy: nowhere.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from eastgate.fastpath.tables.endpoint_rows cimport FAMILY_UNIX, EndpointRows, Rows
from eastgate.fastpath.tables.hashing cimport KEY_CAPACITY, address_key
from eastgate.fastpath.tables.picker cimport NO_BRANCH
from eastgate.fastpath.tables.priority_load cimport HEALTHY, PRIORITY_LIMIT, UNKNOWN_STATUS, priority_choose
from eastgate.fastpath.tables.share_plan cimport Plan

cdef enum:
    NO_RANK = 0xFFFFFFFF

cdef struct Rank:               # one locality of one priority, or all of a priority
    uint32_t list
    uint32_t count
    uint32_t first
    double part                 # of the priority


cdef list place_order(EndpointRows rows, bytearray used, own):
    """[(priority, locality, weight)] of places with endpoints, in Envoy's order; the last weight of a place counts."""
    cdef dict weights = {}
    cdef uint32_t entry
    for entry in range(rows.rows.locality_count):
        place = rows.locality_priorities[entry], rows.localities[entry]
        # `used` is by entry; entries of one place are one locality.
        weight, seen = weights.get(place, (0, False))
        weights[place] = rows.locality_weights[entry] or 0, seen or used[entry]
    return sorted(
        [(priority, name, weight) for (priority, name), (weight, seen) in weights.items() if seen],
        key=lambda one: (one[0], one[1] != own, [part.encode() for part in one[1]]),
    )


cdef int hash_lists_build(
    HashLists* lists, const Plan* plan, EndpointRows rows, bint locality_weighted, object own, object keys
) except -1:
    cdef uint32_t count = rows.rows.count
    cdef uint32_t list_of[128]
    cdef uint32_t* rank_of = NULL
    cdef Rank* ranks = NULL
    cdef uint32_t bucket, priority, rank_count
    cdef bint degraded = False
    memset(lists, 0, sizeof(HashLists))
    memset(list_of, 0xFF, sizeof(list_of))
    for bucket in range(100):
        priority = priority_choose(&plan.priorities, bucket, &degraded)
        if list_of[priority] == NO_RANK:
            list_of[priority] = lists.list_count
            lists.list_count += 1
        lists.branch_of[bucket] = <uint8_t>list_of[priority]
    rank_of = <uint32_t*>malloc((rows.rows.locality_count + 1) * sizeof(uint32_t))
    ranks = <Rank*>calloc(rows.rows.locality_count + PRIORITY_LIMIT, sizeof(Rank))
    lists.members = <uint32_t*>malloc((count + 1) * sizeof(uint32_t))
    lists.weights = <double*>malloc((count + 1) * sizeof(double))
    try:
        if rank_of == NULL or ranks == NULL or lists.members == NULL or lists.weights == NULL:
            raise MemoryError
        rank_count = number_ranks(ranks, rank_of, list_of, plan, rows, locality_weighted, own)
        with nogil:
            fill_lists(lists, plan, &rows.rows, list_of, rank_of, ranks, rank_count)
        fill_keys(lists, rows, keys)
    finally:
        free(rank_of)
        free(ranks)
    for bucket in range(100):
        if lists.lists[lists.branch_of[bucket]].count == 0:
            lists.branch_of[bucket] = <uint8_t>NO_BRANCH
    return 0


cdef uint32_t number_ranks(
    Rank* ranks, uint32_t* rank_of, const uint32_t* list_of, const Plan* plan, EndpointRows rows,
    bint locality_weighted, object own
):
    """Number the parts of the lists in their order; rank_of says by locality index which one it is."""
    cdef uint32_t row, entry, number, priority
    cdef uint32_t rank_count = 0
    cdef bytearray used
    cdef dict numbers, sums
    if not locality_weighted:
        for entry in range(rows.rows.locality_count):
            priority = rows.locality_priorities[entry]
            rank_of[entry] = list_of[priority] if priority < <uint32_t>PRIORITY_LIMIT else <uint32_t>NO_RANK
        for number in range(<uint32_t>PRIORITY_LIMIT):
            if list_of[number] != NO_RANK:
                ranks[list_of[number]].list = list_of[number]
                ranks[list_of[number]].part = 1.0
                rank_count += 1
        return rank_count
    used = bytearray(rows.rows.locality_count)
    for row in range(rows.rows.count):
        if plan.class_of[row] != UNKNOWN_STATUS:
            used[rows.rows.locality[row]] = 1
    order = place_order(rows, used, own)
    sums = {}
    for place_priority, _, weight in order:
        sums[place_priority] = sums.get(place_priority, 0) + weight
    numbers = {}
    for place_priority, name, weight in order:
        number = list_of[<uint32_t>place_priority]
        if number == NO_RANK or weight == 0:
            continue
        ranks[rank_count].list = number
        ranks[rank_count].part = <double>weight / <double>sums[place_priority]
        numbers[place_priority, name] = rank_count
        rank_count += 1
    for entry in range(rows.rows.locality_count):
        rank_of[entry] = numbers.get((rows.locality_priorities[entry], rows.localities[entry]), 0xFFFFFFFF)
    return rank_count


cdef inline uint32_t rank_of_row(
    const Plan* plan, const Rows* rows, const uint32_t* list_of, const uint32_t* rank_of, uint32_t row
) noexcept nogil:
    cdef uint32_t priority = rows.priority[row]
    if plan.class_of[row] == UNKNOWN_STATUS or list_of[priority] == NO_RANK:
        return NO_RANK
    if plan.class_of[row] != HEALTHY and not plan.priorities.panic[priority]:
        return NO_RANK
    return rank_of[rows.locality[row]]


cdef void fill_lists(
    HashLists* lists, const Plan* plan, const Rows* rows, const uint32_t* list_of, const uint32_t* rank_of,
    Rank* ranks, uint32_t rank_count
) noexcept nogil:
    cdef uint32_t row, rank, number, place
    cdef uint32_t first = 0
    cdef uint64_t sum
    for row in range(rows.count):
        rank = rank_of_row(plan, rows, list_of, rank_of, row)
        if rank != NO_RANK:
            ranks[rank].count += 1
    # Ranks of a list are neighbours, but lists need not be in the order of their numbers.
    for rank in range(rank_count):
        number = ranks[rank].list
        if lists.lists[number].count == 0:
            lists.lists[number].first = first
        lists.lists[number].count += ranks[rank].count
        ranks[rank].first = first
        first += ranks[rank].count
        ranks[rank].count = 0
    lists.member_count = first
    for row in range(rows.count):
        rank = rank_of_row(plan, rows, list_of, rank_of, row)
        if rank != NO_RANK:
            lists.members[ranks[rank].first + ranks[rank].count] = row
            ranks[rank].count += 1
    for rank in range(rank_count):
        sum = 0
        for place in range(ranks[rank].first, ranks[rank].first + ranks[rank].count):
            sum += rows.weight[lists.members[place]]
        for place in range(ranks[rank].first, ranks[rank].first + ranks[rank].count):
            lists.weights[place] = <double>rows.weight[lists.members[place]] * ranks[rank].part / <double>sum


cdef uint64_t copy_addresses(
    HashLists* lists, const Rows* data, uint32_t first, uint32_t end, uint64_t length
) noexcept nogil:
    """Put what is hashed for these members behind `length` bytes of text; return how many there are then."""
    cdef uint32_t member, row, name
    cdef const uint8_t* address
    for member in range(first, end):
        row = lists.members[member]
        lists.key_first[member] = <uint32_t>length
        address = data.address + 16 * <size_t>row
        if data.family[row] == FAMILY_UNIX:
            memcpy(&name, address, 4)
            memcpy(lists.text + length, data.names[name].path, data.names[name].length)
            length += data.names[name].length
        else:
            length += address_key(data.family[row], address, data.port[row], lists.text + length)
    return length


cdef int fill_keys(HashLists* lists, EndpointRows rows, object keys) except -1:
    cdef uint64_t capacity = <uint64_t>lists.member_count * KEY_CAPACITY
    cdef uint64_t length = 0
    cdef uint32_t member, row, name, size
    cdef const Rows* data = &rows.rows
    cdef bytes key
    for member in range(lists.member_count):
        row = lists.members[member]
        if keys is not None and keys[row] is not None:
            capacity += len(keys[row])
        elif data.family[row] == FAMILY_UNIX:
            memcpy(&name, data.address + 16 * <size_t>row, 4)
            capacity += data.names[name].length
    if capacity > 0xFFFFFFFF:
        raise ValueError(f"hash keys of {capacity} bytes")
    lists.text = <char*>malloc(capacity + 1)
    lists.key_first = <uint32_t*>malloc((lists.member_count + 1) * sizeof(uint32_t))
    if lists.text == NULL or lists.key_first == NULL:
        raise MemoryError
    if keys is None:
        with nogil:
            length = copy_addresses(lists, data, 0, lists.member_count, 0)
    else:
        for member in range(lists.member_count):
            key = keys[lists.members[member]]
            if key is None:
                length = copy_addresses(lists, data, member, member + 1, length)
                continue
            lists.key_first[member] = <uint32_t>length
            size = <uint32_t>len(key)
            memcpy(lists.text + length, <const char*>key, size)
            length += size
    lists.key_first[lists.member_count] = <uint32_t>length
    return 0


cdef void hash_lists_free(HashLists* lists) noexcept nogil:
    free(lists.members)
    free(lists.weights)
    free(lists.text)
    free(lists.key_first)
    lists.members = NULL
    lists.weights = NULL
    lists.text = NULL
    lists.key_first = NULL
