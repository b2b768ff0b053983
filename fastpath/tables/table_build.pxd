# Tables of one cluster: a new block each, to be freed with free().
from libc.stdint cimport uint32_t
from eastgate.fastpath.tables.endpoint_rows cimport EndpointRows, Rows
from eastgate.fastpath.tables.hashed_table cimport HashOptions
from eastgate.fastpath.tables.picker cimport Table
from eastgate.fastpath.tables.share_plan cimport Plan

cdef struct ChoiceOptions:      # of LEAST_REQUEST
    uint32_t count              # endpoints that are compared; 0: all
    double bias
    bint by_weight              # nobody is compared, also where weights are equal

# Of any policy but those that hash.
cdef Table* compile_plan(
    const Plan* plan, const Rows* rows, str policy, const ChoiceOptions* choice
) except NULL
# `hash_keys`: what is hashed instead of addresses, by row, or None; `own_locality`: of the proxy, or None.
cdef Table* compile_hashed(
    const Plan* plan, EndpointRows rows, bint locality_weighted, object own_locality, object hash_keys,
    const HashOptions* options
) except NULL
