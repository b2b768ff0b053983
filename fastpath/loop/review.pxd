# Open connections after a push: may those stay whose listener or filter chain changed or is gone? See review.pyx.
from libc.stdint cimport uint32_t
from eastgate.fastpath.loop.connection cimport Connection
from eastgate.fastpath.loop.worker_state cimport MoveList, Shared, Worker
from eastgate.fastpath.posix cimport atomic_load, atomic_load_acquire

# Whether what it was routed or judged by has changed since.
cdef inline bint is_outdated(Connection* connection) noexcept nogil:
    return connection.judged != atomic_load_acquire(&connection.listener.generation)

# Judge a relayed connection by the tables as they are now: it stays, or is to end after the drain time.
cdef void review(Worker* worker, Connection* connection) noexcept nogil
# Its time is up, and it ends unless a later push made it fine again. Returns whether it has ended.
cdef bint end_reviewed(Worker* worker, Connection* connection) noexcept nogil

# Whether connections of this worker wait for their review.
cdef inline bint has_reviews(Worker* worker) noexcept nogil:
    return worker.review != NULL or worker.reviewed != atomic_load(&worker.shared.reviews)

# Review some of them: bounded, to be called once a turn.
cdef void review_some(Worker* worker) noexcept nogil

# Clusters that are reached at another address than before.
cdef class Moves:
    cdef MoveList list

# Have workers review the connections of listeners that changed since the last call, by these ReviewSettings. Returns
# the Moves that they may use from now on.
cdef object begin_review(Shared* shared, Worker** workers, uint32_t count, object listeners, object settings)
