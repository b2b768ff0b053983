"""Earliest-deadline-first queue. Allocates nothing; weights and what they mean are the caller's.

Rule (Envoy's edf_scheduler.h): take the entry with the smallest deadline, ties by insertion; that deadline is the time
now; put it back with now + 1 / weight, the weight being what it is at this moment. A weight that changes while an entry
waits is seen when it is put back, not earlier.

Worked example: weights 1 and 2, first deadlines 1.0 and 0.5: b at 0.5 (next 1.0), a at 1.0 (older entry wins the tie),
b at 1.0, b at 1.5, a at 2.0, b at 2.0: one a for two b.

Where it differs from Envoy: the start. Envoy emulates a random number of picks from a common origin (up to n real ones
at each rebuild). Here the first turn is drawn by weight, and every other entry gets an independent random part of its
interval: the state in which a long run of independent phases finds itself at a pick. Each pick from the first has the
expected shares, and starting costs no picks. Time is set back now and then so that doubles keep their precision.
"""
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from eastgate.fastpath.random cimport mix_seed, unit_random

cdef enum:
    # 2^30 intervals of weight 1 from the origin a double still resolves 2^-22 of one.
    TIME_LIMIT = 1 << 30


cdef inline bint is_before(const EdfEntry* left, const EdfEntry* right) noexcept nogil:
    if left.deadline != right.deadline:
        return left.deadline < right.deadline
    # Insertion numbers wrap; entries that wait together are never 2^31 insertions apart.
    return <int32_t>(left.order - right.order) < 0


cdef void sift_down(EdfEntry* entries, uint32_t count, uint32_t place) noexcept nogil:
    cdef EdfEntry moving = entries[place]
    cdef uint64_t child = 4 * <uint64_t>place + 1
    cdef uint64_t best, other, end
    while child < count:
        best = child
        end = child + 4 if child + 4 < count else count
        for other in range(child + 1, end):
            if is_before(&entries[other], &entries[best]):
                best = other
        if not is_before(&entries[best], &moving):
            break
        entries[place] = entries[best]
        place = <uint32_t>best
        child = 4 * best + 1
    entries[place] = moving


cdef void edf_start(EdfQueue* queue, const double* intervals, uint64_t* random) noexcept nogil:
    cdef double total = 0.0
    cdef double drawn
    cdef uint32_t number
    cdef uint32_t first = 0
    for number in range(queue.count):
        total += 1.0 / intervals[number]
    drawn = unit_random(random) * total
    for number in range(queue.count):
        first = number
        drawn -= 1.0 / intervals[number]
        if drawn < 0.0:
            break
    queue.now = 0.0
    queue.order = queue.count
    for number in range(queue.count):
        queue.entries[number].number = number
        queue.entries[number].order = number
        queue.entries[number].deadline = 0.0 if number == first else unit_random(random) * intervals[number]
    # A phase of exactly 0 would tie with the first and could stand before it.
    queue.entries[first].deadline = -1e-300
    number = queue.count // 4 + 1
    while number > 0:
        number -= 1
        if number < queue.count:
            sift_down(queue.entries, queue.count, number)


cdef void set_back(EdfQueue* queue) noexcept nogil:
    cdef uint32_t place
    for place in range(queue.count):
        queue.entries[place].deadline -= queue.now
    queue.now = 0.0


cdef void edf_advance(EdfQueue* queue, double interval) noexcept nogil:
    queue.now = queue.entries[0].deadline
    queue.entries[0].deadline = queue.now + interval
    queue.entries[0].order = queue.order
    queue.order += 1
    if queue.now > TIME_LIMIT:
        set_back(queue)
    sift_down(queue.entries, queue.count, 0)


def replay(weights, picks, *, seed):
    """Start a queue at a random place and return whose turn it was, `picks` times."""
    cdef EdfQueue queue
    cdef uint64_t random = mix_seed(seed)
    cdef uint32_t number
    cdef double* intervals
    if not weights or min(weights) <= 0:
        raise ValueError("weights: at least one, and all above 0")
    queue.count = len(weights)
    queue.entries = <EdfEntry*>malloc(queue.count * sizeof(EdfEntry))
    intervals = <double*>malloc(queue.count * sizeof(double))
    try:
        if queue.entries == NULL or intervals == NULL:
            raise MemoryError
        for number in range(queue.count):
            intervals[number] = 1.0 / weights[number]
        edf_start(&queue, intervals, &random)
        turns = []
        for _ in range(picks):
            number = edf_front(&queue)
            turns.append(number)
            edf_advance(&queue, intervals[number])
        return turns
    finally:
        free(queue.entries)
        free(intervals)
