# How long the parts of a connection took, for the histograms of its listener and cluster.
from eastgate.fastpath.loop.cluster_slots cimport ClusterTraffic, cluster_traffic
from eastgate.fastpath.loop.connection cimport Connection
from eastgate.fastpath.loop.histogram cimport histogram_add, histogram_count
from eastgate.fastpath.loop.worker_state cimport Worker

# A connection to an endpoint is being made; it ends with end_attempt, whatever becomes of it.
cdef inline void begin_attempt(Worker* worker, Connection* connection) noexcept nogil:
    connection.attempt_started = worker.now

# It is there, its TLS handshake included.
cdef inline void note_connected(Worker* worker, Connection* connection) noexcept nogil:
    cdef ClusterTraffic* traffic = cluster_traffic(connection.cluster)
    if traffic != NULL:
        histogram_add(&traffic.connect, worker.now - connection.attempt_started)

cdef inline void end_attempt(Worker* worker, Connection* connection) noexcept nogil:
    cdef ClusterTraffic* traffic
    if not connection.attempt_started:
        return
    traffic = cluster_traffic(connection.cluster)
    if traffic != NULL:
        histogram_add(&traffic.length, worker.now - connection.attempt_started)
    connection.attempt_started = 0

# The connection is over. Envoy counts from where its filter chain was found.
cdef inline void note_end(Worker* worker, Connection* connection) noexcept nogil:
    end_attempt(worker, connection)
    if connection.routed:
        histogram_count(&connection.listener.length, worker.now - connection.routed)
