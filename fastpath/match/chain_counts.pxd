# What connections count by the stat_prefix of their filter chain, as Envoy's tcp_proxy does. Chains with the same
# prefix share it. It outlives their route tables: connections keep counted references.
from libc.stdint cimport uint32_t, uint64_t
from eastgate.fastpath.posix cimport atomic_add

cdef enum Telemetry:
    TELEMETRY_NONE
    TELEMETRY_SOURCE            # Istio's reporter: counted by endpoint
    TELEMETRY_DESTINATION       # counted by peer

# Relaxed atomics.
cdef struct ChainState:
    uint32_t refs               # the object + connections
    uint64_t cx_total
    uint64_t rx_bytes           # from downstream
    uint64_t tx_bytes           # to downstream
    uint64_t no_route
    uint64_t idle_timeout
    uint64_t max_duration

cdef inline void chain_acquire(ChainState* state) noexcept nogil:
    atomic_add(&state.refs, 1)

cdef void chain_release(ChainState* state) noexcept nogil

cdef class ChainCounts:
    cdef ChainState* state
    cdef readonly str prefix
    cdef object __weakref__
