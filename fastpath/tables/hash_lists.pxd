# The endpoints that RING_HASH and MAGLEV choose among: by priority, with normalised weights and the text hashed for
# each.
from libc.stdint cimport uint8_t, uint32_t
from eastgate.fastpath.tables.endpoint_rows cimport EndpointRows
from eastgate.fastpath.tables.share_plan cimport Plan

cdef struct WeightedList:       # of one priority
    uint32_t first              # members[first : first + count]
    uint32_t count

cdef struct HashLists:
    WeightedList lists[128]
    uint32_t list_count
    uint8_t branch_of[100]      # list by draw % 100; NO_BRANCH where it has no endpoint
    uint32_t member_count
    uint32_t* members           # rows, in Envoy's order
    double* weights             # by member; those of a list sum to 1, or to less
    char* text                  # keys of all members, one behind the other
    uint32_t* key_first         # by member, and one more: text[key_first[i] : key_first[i + 1]]

# `own`: the proxy's own locality, or None. `keys`: by row, bytes that stand for an endpoint, or None for its address;
# or None for all. Whatever happens, hash_lists_free is right afterwards.
cdef int hash_lists_build(
    HashLists* lists, const Plan* plan, EndpointRows rows, bint locality_weighted, object own, object keys) except -1
cdef void hash_lists_free(HashLists* lists) noexcept nogil
