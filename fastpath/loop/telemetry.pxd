# What Istio's metrics count, of connections whose chain has istio.stats: by endpoint where we are the source, by peer
# where we are the destination. Which labels that means, the control side knows.
from libc.stdint cimport uint64_t
from eastgate.fastpath.loop.connection cimport Connection
from eastgate.fastpath.posix cimport atomic_add64

# It is relayed from here on.
cdef void telemetry_opened(Connection* connection) noexcept nogil
# It was refused after its chain was found.
cdef void telemetry_unserved(Connection* connection, int reason) noexcept nogil

cdef inline void telemetry_moved(Connection* connection, uint64_t received, uint64_t sent) noexcept nogil:
    if received:
        atomic_add64(&connection.stage.relayed.traffic.received, received)
    if sent:
        atomic_add64(&connection.stage.relayed.traffic.sent, sent)
