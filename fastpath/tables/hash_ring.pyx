"""Build the ring of RING_HASH, and find an entry in it. Decides nothing about who is on it.

Rule (Envoy's ring_hash_lb): scale = min(ceil(least * minimum) / least, maximum), where least is the smallest normalised
weight. Going through the endpoints, each adds scale * weight to a target and gets entries until as many as the target
are there: fractions carry over. Its entry i has the hash of "<key>_<i>". A connection belongs to the first entry whose
hash is at least its own, around the end.

Worked example: weights 0.75 and 0.25, minimum 6: scale = ceil(1.5) / 0.25 = 8, so 6 and 2 entries.

Where it differs from Envoy: in nothing but the order of entries with equal hashes, which Envoy leaves to its sort and
is that of the endpoints here. Entries are sorted by their highest bits, and found by them, instead of by halving the
ring.
"""
from libc.math cimport ceil
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcpy

from eastgate.fastpath.tables.hashing cimport murmur2_of, write_decimal, xxh64_of

cdef enum:
    # Within one value of the highest bits there are one or two entries; many only where keys repeat.
    INSERTION_LIMIT = 32

cdef struct RingEntry:
    uint64_t hash
    uint32_t order              # of making: the tie is for the earlier
    uint32_t member


cdef double ring_scale(const double* weights, uint32_t count, uint64_t minimum, uint64_t maximum) noexcept nogil:
    cdef double least = 1.0
    cdef double scale
    cdef uint32_t member
    for member in range(count):
        if weights[member] < least:
            least = weights[member]
    scale = ceil(least * <double>minimum) / least
    return scale if scale < <double>maximum else <double>maximum


cdef uint64_t ring_entries(
    const double* weights, uint32_t count, uint64_t minimum, uint64_t maximum, uint64_t* size
) noexcept nogil:
    cdef double scale = ring_scale(weights, count, minimum, maximum)
    cdef double current = 0.0
    cdef double target = 0.0
    cdef uint32_t member
    for member in range(count):
        target += scale * weights[member]
    # Counting up by 1.0 until the target is reached; whole numbers of this size are exact.
    current = ceil(target)
    size[0] = <uint64_t>ceil(scale)
    return <uint64_t>current


cdef uint32_t ring_bits(uint64_t entries) noexcept nogil:
    cdef uint32_t bits = 1
    while (<uint64_t>2 << bits) <= entries:
        bits += 1
    return bits


cdef int by_hash(const void* left, const void* right) noexcept nogil:
    cdef const RingEntry* one = <const RingEntry*>left
    cdef const RingEntry* other = <const RingEntry*>right
    if one.hash != other.hash:
        return -1 if one.hash < other.hash else 1
    return -1 if one.order < other.order else 1


cdef void sort_few(RingEntry* entries, uint32_t count) noexcept nogil:
    cdef RingEntry moved
    cdef uint32_t index, place
    if count > INSERTION_LIMIT:
        qsort(entries, count, sizeof(RingEntry), by_hash)
        return
    for index in range(1, count):
        moved = entries[index]
        place = index
        while place > 0 and by_hash(&moved, &entries[place - 1]) < 0:
            entries[place] = entries[place - 1]
            place -= 1
        entries[place] = moved


cdef uint64_t make_entries(
    RingEntry* made, uint64_t limit, double scale, const double* weights, uint32_t count, const char* text,
    const uint32_t* key_first, char* key, bint murmur
) noexcept nogil:
    """All entries in the order of endpoints; `key` has room for the longest key and what is appended."""
    cdef double current = 0.0
    cdef double target = 0.0
    cdef uint64_t filled = 0
    cdef uint32_t member, number, length, whole
    for member in range(count):
        target += scale * weights[member]
        length = key_first[member + 1] - key_first[member]
        memcpy(key, text + key_first[member], length)
        key[length] = 95            # _
        number = 0
        while current < target and filled < limit:
            whole = length + 1 + write_decimal(number, key + length + 1)
            if murmur:
                made[filled].hash = murmur2_of(<const uint8_t*>key, whole)
            else:
                made[filled].hash = xxh64_of(<const uint8_t*>key, whole, 0)
            made[filled].member = member
            made[filled].order = <uint32_t>filled
            filled += 1
            number += 1
            current += 1.0
    return filled


cdef int ring_build(
    uint64_t* hashes, uint32_t* members, uint32_t* starts, uint64_t entries, const double* weights, uint32_t count,
    uint64_t minimum, uint64_t maximum, const char* text, const uint32_t* key_first, bint murmur
) noexcept nogil:
    cdef uint32_t bits = ring_bits(entries)
    cdef uint32_t cells = <uint32_t>1 << bits
    cdef uint32_t longest = 0
    cdef uint64_t index
    cdef uint32_t member, cell, first, place
    cdef RingEntry* made = <RingEntry*>malloc(2 * (entries + 1) * sizeof(RingEntry))
    cdef RingEntry* sorted_entries = made + entries + 1
    cdef char* key
    for member in range(count):
        if key_first[member + 1] - key_first[member] > longest:
            longest = key_first[member + 1] - key_first[member]
    key = <char*>malloc(longest + 16)
    if made == NULL or key == NULL:
        free(made)
        free(key)
        return -1
    make_entries(
        made, entries, ring_scale(weights, count, minimum, maximum), weights, count, text, key_first, key, murmur)
    for cell in range(cells + 1):
        starts[cell] = 0
    for index in range(entries):
        starts[made[index].hash >> (64 - bits)] += 1
    first = 0
    for cell in range(cells + 1):
        place = starts[cell]
        starts[cell] = first
        first += place
    for index in range(entries):
        cell = <uint32_t>(made[index].hash >> (64 - bits))
        sorted_entries[starts[cell]] = made[index]
        starts[cell] += 1
    # Each start has moved to the one behind it.
    first = 0
    for cell in range(cells):
        place = starts[cell]
        starts[cell] = first
        sort_few(sorted_entries + first, place - first)
        first = place
    for index in range(entries):
        hashes[index] = sorted_entries[index].hash
        members[index] = sorted_entries[index].member
    free(made)
    free(key)
    return 0


cdef uint32_t ring_find(
    const uint64_t* hashes, const uint32_t* starts, uint32_t entries, uint32_t shift, uint64_t hash
) noexcept nogil:
    cdef uint32_t low = starts[hash >> shift]
    cdef uint32_t high = starts[(hash >> shift) + 1]
    cdef uint32_t middle
    while low < high:
        middle = low + (high - low) // 2
        if hashes[middle] < hash:
            low = middle + 1
        else:
            high = middle
    return low if low < entries else 0


def ring_size(weights, minimum, maximum):
    """(size as Envoy's gauge has it, entries) of the ring of these normalised weights, each above 0, at most 1."""
    cdef uint32_t count = <uint32_t>len(weights)
    cdef double* given = <double*>malloc((count + 1) * sizeof(double))
    cdef uint64_t size = 0
    cdef uint64_t entries
    cdef uint32_t index
    if given == NULL:
        raise MemoryError
    try:
        for index in range(count):
            given[index] = weights[index]
            if not 0 < given[index] <= 1:
                raise ValueError(f"weight {weights[index]} is outside 0..1")
        entries = ring_entries(given, count, minimum, maximum, &size)
    finally:
        free(given)
    return size, entries
