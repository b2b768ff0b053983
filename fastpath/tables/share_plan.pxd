# Exact shares of one assignment: which endpoints a pick may give, in which lists, and how often.
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from eastgate.fastpath.tables.endpoint_rows cimport EndpointRows
from eastgate.fastpath.tables.priority_load cimport PriorityState

cdef struct PlanOptions:
    uint32_t overprovisioning_factor
    uint32_t panic_threshold
    bint locality_weighted
    bint weighted_priority_health
    bint fail_on_panic          # what falls to a priority in panic gets no endpoint
    uint32_t zone_percent       # of picks of P0 that zones are looked at for
    uint64_t zone_minimum       # healthy endpoints of P0 below which they are not
    uint32_t zone_force         # healthy endpoints here with which everything stays here; 0: never
    bint zone_by_weight         # weights are counted instead of endpoints

cdef struct Group:              # one list of Envoy's: of a priority and availability, or of one locality in it
    double share                # of all picks
    uint64_t weight             # sum of its members' weights, as they are in a list (Rows.pick_weight)
    uint32_t first              # members[first : first + count], in row order
    uint32_t count
    bint equal                  # all weights are the same
    uint8_t priority
    uint8_t availability        # HealthClass of its members; EXCLUDED: all of the priority, which is in panic
    int32_t refusal             # 0, or without members: minus the Reason that its picks are refused for

cdef struct Plan:
    PriorityState priorities
    # Each has members or a refusal; shares sum to 1 unless there is no group. Those of one priority and availability
    # stand side by side.
    Group* groups
    uint32_t* members           # rows; with zones a row may be in two groups
    uint32_t group_count
    uint32_t member_count
    uint8_t* class_of           # HealthClass by row; UNKNOWN_STATUS for duplicates
    uint32_t kept               # rows that are no duplicates
    double refused              # of all picks: what gets no endpoint where others do, or for panic
    bint zoned                  # picks of P0 look at zones

# `first_of`: the first row of each row's address. Frees nothing of it. `local`: census of the local cluster, or None;
# `own`: the proxy's locality, or None.
cdef int plan_build(
    Plan* plan, EndpointRows rows, const uint32_t* first_of, const PlanOptions* options, object local, object own
) except -1
# What a table keeps as `first` of a group: where its members are, or what its picks are refused for.
cdef inline uint32_t group_first(const Group* group) noexcept nogil:
    return group.first if group.count > 0 else <uint32_t>-group.refusal
# (hosts, healthy, degraded, excluded, {locality: (hosts, healthy, their weights)}) of P0, as plan_build takes it.
cdef tuple plan_census(const Plan* plan, EndpointRows rows)
cdef void plan_free(Plan* plan) noexcept nogil
