# The phases of a connection, one after the other.
from libc.stdint cimport uint64_t
from eastgate.fastpath.loop.connection cimport Connection
from eastgate.fastpath.loop.worker_state cimport Worker

# Something happened to one of its legs: go through the phases until one has to wait, or the connection has ended.
cdef void advance(Worker* worker, Connection* connection) noexcept nogil
# Its timer rang: what that means, the phase says.
cdef void phase_timeout(Worker* worker, Connection* connection) noexcept nogil
# Some of the handshakes that wait; `began`: when what else there is in this turn did.
cdef void serve_handshakes(Worker* worker, uint64_t began) noexcept nogil
