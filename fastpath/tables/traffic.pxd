# What Istio's metrics count of the connections to one endpoint, or from one peer. Relaxed atomics.
from libc.stdint cimport uint64_t
from eastgate.fastpath.tls.principals cimport Principal

cdef struct Traffic:
    uint64_t opened
    uint64_t closed
    uint64_t sent               # bytes to downstream
    uint64_t received           # bytes from downstream
    uint64_t failed             # of an endpoint: clients that it was the last to be tried for, in vain
    Principal* principal        # atomic; who the other side is, as its certificate said; NULL: nobody said
