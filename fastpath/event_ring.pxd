# Finished and refused connections on their way to the access log: bounded, never waited for.
from libc.stdint cimport uint32_t, uint64_t
from eastgate.fastpath.connection cimport ConnectionRecord

cdef struct EventRing:
    ConnectionRecord** records
    uint32_t capacity           # a power of two
    uint32_t head               # next to take
    uint32_t tail               # next free
    uint64_t dropped

cdef int ring_init(EventRing* ring, uint32_t capacity) noexcept nogil
cdef void ring_free(EventRing* ring) noexcept nogil
cdef ConnectionRecord* record_new() noexcept nogil
cdef void record_free(ConnectionRecord* record) noexcept nogil
# Takes ownership of the record, also when the ring is full.
cdef void ring_push(EventRing* ring, ConnectionRecord* record) noexcept nogil
cdef list ring_take(EventRing* ring, Py_ssize_t limit)
