# From a filter chain to a connection with an endpoint: which one, whether limits allow it, another when it fails.
from eastgate.fastpath.loop.connection cimport Connection, EndpointQueue
from eastgate.fastpath.loop.worker_state cimport Worker
from eastgate.fastpath.match.route_nodes cimport RouteChain

# Take from the chain what the connection needs of it: later there may be another one in its place. False when its
# cluster cannot be routed to: then the connection is refused.
cdef bint adopt(Worker* worker, Connection* connection, const RouteChain* chain) noexcept nogil
# The connection is in PHASE_CONNECT or PHASE_WAIT afterwards, or refused.
cdef void choose_upstream(Worker* worker, Connection* connection) noexcept nogil
# Count the failure and try another endpoint of the same cluster, or refuse for `reason`. No byte was sent yet.
cdef void connect_failed(Worker* worker, Connection* connection, int reason) noexcept nogil
# Something happened to one of its legs in PHASE_WAIT or PHASE_CONNECT; True when it is connected.
cdef bint upstream_ready(Worker* worker, Connection* connection) noexcept nogil
# Its time in one of these phases is over.
cdef void upstream_timeout(Worker* worker, Connection* connection) noexcept nogil
# Let those that wait connect, as far as the limit allows, and give up those that have failed.
cdef void serve_queue(Worker* worker, EndpointQueue* queue) noexcept nogil
