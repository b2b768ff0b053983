# Where a further connect goes when every endpoint that picks give was tried.
from libc.stdint cimport int32_t, uint32_t, uint64_t
from eastgate.fastpath.tables.endpoint_state cimport EndpointState
from eastgate.fastpath.tables.picker cimport Table

# Row of an available endpoint whose state is none of `tried` (`count` of them, NULL for none); -1 when there is none
# left. Looks at every row: for who has failed to connect, not for a first pick.
cdef int32_t untried_row(const Table* table, EndpointState** tried, uint32_t count, uint64_t seed) noexcept nogil
