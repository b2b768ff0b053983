# Filter chains of one listener, compiled: what is known of a connection -> the chain that serves it.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stddef cimport size_t
from eastgate.fastpath.match.facts cimport Facts

cdef struct RouteTarget:
    uint32_t cluster_slot
    uint32_t upper              # running sum of weights: the half-open interval [previous upper, upper)

cdef struct RouteChain:
    int refusal            # Reason that closes every connection of this chain, or 0
    uint32_t target_count
    uint32_t total_weight
    uint16_t max_connect_attempts
    uint16_t hash_source_ip     # whether connections have the hash of their client's address
    RouteTarget* targets        # owned by the Routes
    uint64_t idle_timeout_ms    # 0: never
    uint64_t max_duration_ms    # 0: unlimited

cdef struct Routes              # opaque; owned by a RouteTable

# Index of the chain (>= 0), or minus a Reason.
cdef int route_match(const Routes* routes, const Facts* facts) noexcept nogil
cdef const RouteChain* route_chain(const Routes* routes, int chain) noexcept nogil

# Cluster slot of a draw: the first target, in the order of the configuration, whose interval holds draw % total.
cdef inline uint32_t target_slot(const RouteChain* chain, uint64_t draw) noexcept nogil:
    cdef uint32_t at = <uint32_t>(draw % chain.total_weight)
    cdef uint32_t target = 0
    while chain.targets[target].upper <= at:
        target += 1
    return chain.targets[target].cluster_slot

cdef class RouteTable:
    cdef Routes* routes
