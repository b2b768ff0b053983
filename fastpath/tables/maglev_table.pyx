"""Fill the table of MAGLEV. Decides nothing about who is in it.

Rule (Envoy's maglev_lb): endpoints in the order of their keys take turns; in turn i one takes a place when i * weight
has reached its target, and the target then grows by the largest weight. Its places begin at XXH64(key, 0) % size and go
on in steps of XXH64(key, 1) % (size - 1) + 1; what is taken is passed over. A connection belongs to place hash % size.

Worked example: weights 1 and 0.5: in turn 1 both take a place (targets 1 and 1); in turn 2 the first has 2 >= 1 and
takes one, the other 2 * 0.5 >= 1 too; in turn 3 the first has 3 >= 2, the other 1.5 < 2 and waits. So 2 to 1 in the
long run.

Where it differs from Envoy: nowhere, but that endpoints with equal keys stay in the order of the message.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcmp

from eastgate.fastpath.tables.hashing cimport xxh64_of

cdef enum:
    NOBODY = 0xFFFFFFFF

cdef struct Candidate:
    const char* key
    uint32_t length
    uint32_t member
    double weight
    double target
    uint64_t place              # the one it looks at next
    uint64_t skip


cdef bint is_prime(uint64_t number) noexcept nogil:
    cdef uint64_t divisor = 2
    if number < 2:
        return False
    while divisor * divisor <= number:
        if number % divisor == 0:
            return False
        divisor += 1
    return True


cdef inline uint64_t offset_of(const char* key, uint32_t length, uint32_t size) noexcept nogil:
    return xxh64_of(<const uint8_t*>key, length, 0) % size


cdef inline uint64_t skip_of(const char* key, uint32_t length, uint32_t size) noexcept nogil:
    return xxh64_of(<const uint8_t*>key, length, 1) % (size - 1) + 1


cdef int by_key(const void* left, const void* right) noexcept nogil:
    cdef const Candidate* one = <const Candidate*>left
    cdef const Candidate* other = <const Candidate*>right
    cdef int order = memcmp(one.key, other.key, one.length if one.length < other.length else other.length)
    if order != 0:
        return order
    if one.length != other.length:
        return -1 if one.length < other.length else 1
    return -1 if one.member < other.member else 1


cdef void fill_places(uint32_t* places, uint32_t size, Candidate* candidates, uint32_t count) noexcept nogil:
    cdef double largest = 0.0
    cdef double turn = 0.0
    cdef uint32_t filled = 0
    cdef uint32_t index
    cdef Candidate* one
    for index in range(count):
        if candidates[index].weight > largest:
            largest = candidates[index].weight
    for index in range(size):
        places[index] = NOBODY
    while filled < size:
        turn += 1.0
        for index in range(count):
            if filled == size:
                break
            one = &candidates[index]
            if turn * one.weight < one.target:
                continue
            one.target += largest
            while places[one.place] != NOBODY:
                one.place = one.place + one.skip if one.place + one.skip < size else one.place + one.skip - size
            places[one.place] = one.member
            filled += 1


cdef int maglev_build(
    uint32_t* places, uint32_t size, const double* weights, uint32_t count, const char* text,
    const uint32_t* key_first
) noexcept nogil:
    cdef Candidate* candidates = <Candidate*>malloc((count + 1) * sizeof(Candidate))
    cdef Candidate* one
    cdef uint32_t member
    if candidates == NULL:
        return -1
    for member in range(count):
        one = &candidates[member]
        one.key = text + key_first[member]
        one.length = key_first[member + 1] - key_first[member]
        one.member = member
        one.weight = weights[member]
        one.target = 0.0
        one.place = offset_of(one.key, one.length, size)
        one.skip = skip_of(one.key, one.length, size)
    qsort(candidates, count, sizeof(Candidate), by_key)
    if count > 0:
        fill_places(places, size, candidates, count)
    free(candidates)
    return 0


def offset_and_skip(bytes key, size):
    """The first place that an endpoint of this key looks at in a table, and in what steps it goes on."""
    if not 1 < size <= 0xFFFFFFFF:
        raise ValueError(f"size {size} is outside 2..4294967295")
    return offset_of(key, <uint32_t>len(key), size), skip_of(key, <uint32_t>len(key), size)
