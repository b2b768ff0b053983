# How long the parts of a connection took, for the histograms of its listener and cluster, and who ended them.
from eastgate.fastpath.loop.cluster_slots cimport ClusterTraffic, cluster_traffic
from eastgate.fastpath.loop.connection cimport Connection, PHASE_RELAY
from eastgate.fastpath.loop.histogram cimport histogram_add, histogram_count
from eastgate.fastpath.loop.worker_state cimport Worker
from eastgate.fastpath.posix cimport atomic_add64

# A connection to an endpoint is being made; it ends with end_attempt, whatever becomes of it.
cdef inline void begin_attempt(Worker* worker, Connection* connection) noexcept nogil:
    connection.attempt_started = worker.now

# It is there, its TLS handshake included.
cdef inline void note_connected(Worker* worker, Connection* connection) noexcept nogil:
    cdef ClusterTraffic* traffic = cluster_traffic(connection.cluster)
    if traffic != NULL:
        histogram_add(&traffic.connect, worker.now - connection.attempt_started)

# `by_endpoint`: its end, its reset or its refusal was the last word. Does nothing where the attempt has ended already.
cdef inline void end_attempt(Worker* worker, Connection* connection, bint by_endpoint) noexcept nogil:
    cdef ClusterTraffic* traffic
    if not connection.attempt_started:
        return
    atomic_add64(&connection.cluster.ended[2 * (connection.phase == PHASE_RELAY) + by_endpoint], 1)
    traffic = cluster_traffic(connection.cluster)
    if traffic != NULL:
        histogram_add(&traffic.length, worker.now - connection.attempt_started)
    connection.attempt_started = 0

# The connection is over. Envoy counts from where its filter chain was found.
cdef inline void note_end(Worker* worker, Connection* connection) noexcept nogil:
    end_attempt(worker, connection, False)
    if connection.routed:
        histogram_count(&connection.listener.length, worker.now - connection.routed)
