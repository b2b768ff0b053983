# What connections began with where a proxy_protocol filter looks at them, by its stat_prefix, as Envoy counts it. A
# listener's states keep the object alive, for workers that count in it.
from libc.stdint cimport uint64_t
from eastgate.fastpath.match.proxy_protocol cimport PROXY_OUTCOMES

# Relaxed atomics, by ProxyOutcome.
cdef struct ProxyState:
    uint64_t outcomes[<int>PROXY_OUTCOMES]

cdef class ProxyCounts:
    cdef ProxyState state
    cdef object __weakref__
