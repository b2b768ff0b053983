# The end of a connection, whatever phase it is in. Its memory is given back when the turn ends: events of the turn may
# still point to it.
from eastgate.fastpath.loop.connection cimport Connection
from eastgate.fastpath.loop.worker_state cimport Worker

# Nothing of it was served: closed for a Reason, with a record.
cdef void refuse(Worker* worker, Connection* connection, int reason) noexcept nogil
# It was answered: its client has sent something, or ended; it has not in time.
cdef void answered(Worker* worker, Connection* connection) noexcept nogil
cdef void answer_timeout(Worker* worker, Connection* connection) noexcept nogil
# It was served. A Reason other than NONE: why it was ended.
cdef void finish(Worker* worker, Connection* connection, int reason) noexcept nogil
# One side reset: reset both.
cdef void abort_connection(Worker* worker, Connection* connection, int reason) noexcept nogil
# One that may be used again, all zero; NULL without memory.
cdef Connection* new_connection(Worker* worker) noexcept nogil
# What was closed in this turn, and when the worker ends also what was kept for reuse.
cdef void free_closed(Worker* worker) noexcept nogil
cdef void free_spare(Worker* worker) noexcept nogil
