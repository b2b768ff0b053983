# Who takes a connection instead of an endpoint that has more than its part: hash_balance_factor.
from libc.stdint cimport uint32_t, uint64_t
from eastgate.fastpath.tables.endpoint_state cimport StateMap

# Connections that all endpoints together may have.
cdef uint32_t slots_of_all(uint32_t active, uint32_t factor) noexcept nogil
# How full an endpoint is: 1.0 is what its normalised weight allows.
cdef double overload(uint32_t active, uint32_t slots, double weight) noexcept nogil
# `candidate`, or the index in rows[count] of who stands in for it. `order` is 0..count-1 and `drawn` has `count`
# places; order is as before when this returns.
cdef uint32_t choose_bounded(
    const StateMap* states, const uint32_t* rows, const double* weights, uint32_t count, uint32_t candidate,
    uint64_t hash, uint32_t slots, uint32_t* order, uint32_t* drawn) noexcept nogil
