# Earliest deadline first: the order in which Envoy picks endpoints of unequal weight. Knows numbers, no endpoints.
from libc.stdint cimport uint32_t, uint64_t

cdef struct EdfEntry:
    double deadline
    uint32_t order              # of insertion; decides ties
    uint32_t number             # whose turn it is

cdef struct EdfQueue:           # belongs to one worker; a heap with four children a node
    double now
    EdfEntry* entries           # owned by whoever made the queue
    uint32_t count
    uint32_t order

# Start in the middle of the run: intervals[i] is 1 / weight of number i. `random` is advanced.
cdef void edf_start(EdfQueue* queue, const double* intervals, uint64_t* random) noexcept nogil
# Whose turn it is; edf_advance gives it back with the interval until its next turn.
cdef inline uint32_t edf_front(const EdfQueue* queue) noexcept nogil:
    return queue.entries[0].number
cdef void edf_advance(EdfQueue* queue, double interval) noexcept nogil
