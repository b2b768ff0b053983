# TLS handshakes as phases: with the client before an endpoint is chosen, with the endpoint before a byte is relayed.
from eastgate.fastpath.loop.connection cimport Connection
from eastgate.fastpath.loop.worker_state cimport Worker

# Queue for the first step with the client of a chain that terminates TLS; its time runs from here.
cdef void await_unseal(Worker* worker, Connection* connection) noexcept nogil
# The same with an endpoint that was connected to and expects TLS. The timer is that of the connect.
cdef void await_seal(Worker* worker, Connection* connection) noexcept nogil
# Something happened: queue for another step.
cdef void await_step(Worker* worker, Connection* connection) noexcept nogil
# Take it out of the queue and go on. True when the handshake is done and the next phase may begin; otherwise the
# connection waits for events, or has been refused.
cdef bint take_step(Worker* worker, Connection* connection) noexcept nogil
cdef void unseal_timeout(Worker* worker, Connection* connection) noexcept nogil
