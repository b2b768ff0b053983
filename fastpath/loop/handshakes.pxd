# TLS handshakes as phases: with the client before an endpoint is chosen, with the endpoint before a byte is relayed.
from eastgate.fastpath.loop.connection cimport Connection
from eastgate.fastpath.loop.worker_state cimport Worker

# Begin with the client of a chain that terminates TLS. True when the next phase may begin; otherwise the connection
# waits for events, or has been refused.
cdef bint begin_unseal(Worker* worker, Connection* connection) noexcept nogil
cdef bint unsealed(Worker* worker, Connection* connection) noexcept nogil
cdef void unseal_timeout(Worker* worker, Connection* connection) noexcept nogil
# The same with an endpoint that was connected to and expects TLS. The timer is that of the connect.
cdef bint begin_seal(Worker* worker, Connection* connection) noexcept nogil
cdef bint sealed(Worker* worker, Connection* connection) noexcept nogil
