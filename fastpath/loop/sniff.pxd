# What a client says first: PROXY header, ClientHello, and which filter chain that means.
from eastgate.fastpath.loop.connection cimport Connection
from eastgate.fastpath.loop.worker_state cimport Worker
from eastgate.fastpath.match.route_nodes cimport RouteChain

# Something came, or may have. The chain once it is known, until the next quiet point; NULL when the connection waits
# for more or was refused.
cdef const RouteChain* sniff(Worker* worker, Connection* connection) noexcept nogil
# Its time to say what it wants is over.
cdef void sniff_timeout(Worker* worker, Connection* connection) noexcept nogil
