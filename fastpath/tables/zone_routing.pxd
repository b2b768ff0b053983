# Zone-aware routing: which part of a priority's picks goes to which locality. Knows no endpoints.
from libc.stdint cimport uint32_t, uint64_t

cdef struct Zone:               # one locality of the cluster's first priority
    uint64_t local              # healthy endpoints of the local cluster in it, or the sum of their weights
    uint64_t upstream           # the same of the cluster itself; 0 where none is healthy
    uint64_t local_part         # of ZONE_SCALE; of all of the local cluster
    uint64_t upstream_part
    uint64_t residual           # running sum of what the localities have more than their part
    double picks                # part of all picks

cdef struct ZoneRoute:
    bint direct                 # all picks go to zones[0]
    uint64_t local_percent      # of ZONE_SCALE: what zones[0] gets when that is not so

# Fill in what `zones` get. zones[0] is the proxy's own one if `has_local`; `force`: it gets everything.
cdef ZoneRoute zone_route(
    Zone* zones, uint32_t count, uint64_t local_total, uint64_t upstream_total, bint has_local, bint force
) noexcept nogil
