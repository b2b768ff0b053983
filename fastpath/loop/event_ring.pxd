# Finished and refused connections on their way to the access log: bounded, never waited for. One worker writes, the
# control side reads.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from eastgate.fastpath.loop.connection cimport ConnectionRecord

cdef struct EventRing:
    ConnectionRecord** records
    uint32_t capacity           # a power of two
    uint32_t head               # next to take; written by the reader
    uint32_t tail               # next free; written by the worker
    uint64_t dropped
    int notify_fd               # eventfd to raise at the first event after ring_arm; -1: nobody waits
    uint8_t armed

cdef int ring_init(EventRing* ring, uint32_t capacity, int notify_fd) noexcept nogil
cdef void ring_free(EventRing* ring) noexcept nogil
cdef ConnectionRecord* record_new() noexcept nogil
cdef void record_free(ConnectionRecord* record) noexcept nogil
# Takes ownership of the record, also when the ring is full.
cdef void ring_push(EventRing* ring, ConnectionRecord* record) noexcept nogil
# Ask to be woken once for what comes from now on. What came before is seen by a ring_take after this call.
cdef void ring_arm(EventRing* ring) noexcept nogil
cdef list ring_take(EventRing* ring, Py_ssize_t limit)
