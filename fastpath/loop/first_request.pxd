# What the first request of HTTP says, where a chain's routes or its denials ask for it.
from libc.stdint cimport uint32_t
from eastgate.fastpath.loop.connection cimport Connection
from eastgate.fastpath.loop.worker_state cimport Worker
from eastgate.fastpath.match.http_head cimport HttpHead
from eastgate.fastpath.match.route_nodes cimport RouteChain

# Where it was going, as the authority of a request: that of HTTP/2.
cdef void name_destination(const Connection* connection, HttpHead* head) noexcept nogil

# The cluster slot of an HTTP chain's connection into `slot`. 0 when it is known, -1 when more has to be read (`needed`
# bytes from the start), otherwise the Reason to refuse for.
cdef int choose_by_request(
    Worker* worker, Connection* connection, const RouteChain* chain, uint32_t* slot, uint32_t* needed
) noexcept nogil

# It is denied, and nobody has looked for its request yet: it comes through TLS, or no filter asked for it. Wait for it,
# so that it can be answered. The record is the connection's already.
cdef void hear(Worker* worker, Connection* connection) noexcept nogil
cdef void heard(Worker* worker, Connection* connection) noexcept nogil
cdef void hear_timeout(Worker* worker, Connection* connection) noexcept nogil
