# Lists of the RANDOM policy by what one draw says, and the exact share of each endpoint.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from eastgate.fastpath.tables.picker cimport Branch, Table, TableGroup
from eastgate.fastpath.tables.share_plan cimport Plan

cdef enum:
    BUCKETS = 100               # values of draw % 100

# Fill branch_of[100], groups (as many as the plan has; without `first` of their endpoints) and branches (no more than
# groups). Returns the number of branches.
cdef uint32_t random_build(const Plan* plan, uint8_t* branch_of, TableGroup* groups, Branch* branches) noexcept nogil
# Add to shares[rows] what each endpoint gets, from the compiled table alone.
cdef void random_shares(const Table* table, double* shares) noexcept nogil
# parts[r]: part of all draws for which branch_of[draw % 100] is `branch` and draw % count is a certain place whose
# remainder is r. Returns the modulus of that remainder, 100 at most; parts has 100 places.
cdef uint32_t draw_parts(const uint8_t* branch_of, uint8_t branch, uint64_t count, double* parts) noexcept nogil
