# What a client says first, as far as a listener filter asks: PROXY header, ClientHello, and the chain that they mean.
from eastgate.fastpath.loop.connection cimport Connection
from eastgate.fastpath.loop.worker_state cimport Worker
from eastgate.fastpath.match.route_nodes cimport RouteChain

# Something came, or may have. The chain once it is known, until the next quiet point; NULL when the connection waits
# for more or was refused.
cdef const RouteChain* sniff(Worker* worker, Connection* connection) noexcept nogil
# Its time to say what it wants is over: NULL when it was refused for that.
cdef const RouteChain* sniff_timeout(Worker* worker, Connection* connection) noexcept nogil
