# Health classes, availability, priority loads, panic and locality weights: Envoy's arithmetic, in this one place.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    PRIORITY_LIMIT = 128

cdef enum HealthClass:
    HEALTHY = 0
    DEGRADED = 1
    UNHEALTHY = 2
    EXCLUDED = 3                # unhealthy, and out of every denominator (DRAINING)
    UNKNOWN_STATUS = 255

cdef struct PriorityCounts:
    uint32_t hosts              # endpoints, excluded ones included
    uint32_t healthy
    uint32_t degraded
    uint32_t excluded
    uint64_t weight             # the same as sums of endpoint weights, for weighted_priority_health
    uint64_t healthy_weight
    uint64_t degraded_weight
    uint64_t excluded_weight

cdef struct PriorityState:      # of one load balancer; survives updates of single priorities
    uint32_t count              # highest known priority + 1
    uint32_t panic_threshold
    uint32_t norm
    PriorityCounts counts[128]
    uint32_t healthy_availability[128]
    uint32_t degraded_availability[128]
    uint32_t healthy_load[128]
    uint32_t degraded_load[128]
    uint8_t panic[128]

cdef HealthClass health_class(uint8_t eds_status, bint failed) noexcept nogil
cdef void priority_init(PriorityState* state, uint32_t panic_threshold) noexcept nogil
# Store `counts` and the availability of one priority. Loads follow with priority_distribute.
cdef void priority_set(
    PriorityState* state, uint32_t priority, const PriorityCounts* counts, uint32_t overprovisioning_factor,
    bint weighted
) noexcept nogil
# Recompute loads and panic of all priorities from the stored availabilities.
cdef void priority_distribute(PriorityState* state) noexcept nogil
# Where a pick with this hash goes: the priority, and in `degraded` whether to its degraded endpoints.
cdef uint32_t priority_choose(const PriorityState* state, uint64_t hash, bint* degraded) noexcept nogil
cdef bint priority_is_low(uint32_t threshold, const PriorityCounts* counts) noexcept nogil
cdef double locality_weight(
    uint32_t weight, uint32_t eligible, uint32_t total, uint32_t excluded, uint32_t overprovisioning_factor
) noexcept nogil
