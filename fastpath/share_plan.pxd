# Exact shares of one assignment: which endpoints a pick may give, in which lists, and how often.
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from eastgate.fastpath.endpoint_rows cimport EndpointRows
from eastgate.fastpath.priority_load cimport PriorityState

cdef struct PlanOptions:
    uint32_t overprovisioning_factor
    uint32_t panic_threshold
    bint locality_weighted
    bint weighted_priority_health
    bint fail_on_panic          # what falls to a priority in panic gets no endpoint

cdef struct Group:              # one list of Envoy's: of a priority and availability, or of one locality in it
    double share                # of all picks
    uint64_t weight             # sum of its members' weights, as they are in a list (Rows.pick_weight)
    uint32_t first              # members[first : first + count], in row order
    uint32_t count
    bint equal                  # all weights are the same
    uint8_t priority
    uint8_t availability        # HealthClass of its members; EXCLUDED: all of the priority, which is in panic

cdef struct Plan:
    PriorityState priorities
    Group* groups               # each has members; shares and `refused` sum to 1 unless there is no group
    uint32_t* members           # rows; no row is in two groups
    uint32_t group_count
    uint32_t member_count
    uint8_t* class_of           # HealthClass by row; UNKNOWN_STATUS for duplicates
    uint32_t kept               # rows that are no duplicates
    double refused              # of all picks: what falls to priorities in panic, with fail_on_panic

# `first_of`: the first row of each row's address. Frees nothing of it.
cdef int plan_build(Plan* plan, EndpointRows rows, const uint32_t* first_of, const PlanOptions* options) except -1
cdef void plan_free(Plan* plan) noexcept nogil
