# What connects say about an endpoint, counted by workers for outlier detection. A crossed threshold is a bit on the
# endpoint and a mark on its cluster; both stay until the control side takes them, so nothing is lost on the way.
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from eastgate.fastpath.loop.cluster_slots cimport ClusterState, cluster_mark_dirty
from eastgate.fastpath.tables.endpoint_state cimport EndpointState
from eastgate.fastpath.posix cimport (
    atomic_add, atomic_add16, atomic_load, atomic_load16, atomic_or_release8, atomic_store, atomic_store16,
)

# EndpointState.crossed: so many failures in a row that the threshold of that name was reached.
cdef enum Crossed:
    CROSSED_FAILURES = 1        # consecutive 5xx, or local origin failures where they are split
    CROSSED_GATEWAY = 2

# Envoy tells by equality: past its threshold a counter says nothing more until it is set back.
cdef inline bint endpoint_failed(ClusterState* cluster, EndpointState* endpoint) noexcept nogil:
    """Count a connect that was refused or timed out; return whether the control side has to be woken for it."""
    cdef uint32_t gateway = atomic_load(&cluster.gateway_threshold)
    cdef uint32_t failures = atomic_load(&cluster.failure_threshold)
    cdef uint8_t crossed = 0
    atomic_add(&endpoint.cx_connect_fail, 1)
    # Counted whatever the thresholds are; a counter that has come round is no match for one that is off.
    if <uint16_t>(atomic_add16(&endpoint.gateway_failures, 1) + 1) == gateway and gateway:
        crossed = CROSSED_GATEWAY
    if atomic_add(&endpoint.consecutive_failures, 1) + 1 == failures and failures:
        crossed |= CROSSED_FAILURES
    if not crossed:
        return False
    atomic_or_release8(&endpoint.crossed, crossed)
    return cluster_mark_dirty(cluster)

cdef inline void endpoint_connected(EndpointState* endpoint) noexcept nogil:
    atomic_add(&endpoint.cx_connected, 1)
    if atomic_load(&endpoint.consecutive_failures):
        atomic_store(&endpoint.consecutive_failures, 0)
    if atomic_load16(&endpoint.gateway_failures):
        atomic_store16(&endpoint.gateway_failures, 0)
