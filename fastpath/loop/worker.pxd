# One native loop, from set-up to its end. What it owns stands in worker_state.pxd.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from eastgate.fastpath.loop.cluster_slots cimport ClusterSlot
from eastgate.fastpath.loop.worker_state cimport Order, Shared, Worker

# `notify_fd`: eventfd to raise when there are events to take; -1 for none.
cdef Worker* worker_new(
    Shared* shared, ClusterSlot* slots, uint32_t slot_count, uint64_t seed, uint32_t event_capacity, int notify_fd
) noexcept nogil
# Begin its thread. Returns 0 or an error number.
cdef int worker_start(Worker* worker, uint32_t number) noexcept nogil
# Cut what is open and free everything; its thread must have ended.
cdef void worker_free(Worker* worker) noexcept nogil
# End its thread, if it has one, and wait for that.
cdef void worker_end(Worker* worker) noexcept nogil
# One turn of a hosted worker; returns how many descriptors were handled.
cdef int worker_turn(Worker* worker, bint may_sleep) noexcept nogil
# Hand over an order; worker_await returns its result when it has been carried out. At once for a hosted worker.
cdef void worker_tell(Worker* worker, Order* order) noexcept nogil
cdef int64_t worker_await(Worker* worker, Order* order) noexcept nogil
