# One cluster's compiled endpoints: everything that a pick and a connect read. The engine cimports all of this from
# here; contracts of the functions stand in picker.pxd and endpoint_state.pxd.
from libc.stdint cimport uint32_t
from eastgate.fastpath.tables.endpoint_rows cimport EndpointRows
from eastgate.fastpath.tables.endpoint_state cimport EndpointState, state_acquire, state_release
from eastgate.fastpath.tables.picker cimport (
    PICK_NO_ENDPOINTS, PICK_NONE_HEALTHY, PICK_PANIC, EndpointAddress, PickCursor, Table, cursor_free, cursor_init,
    table_address, table_pick, table_size, table_state,
)
from eastgate.fastpath.tables.share_plan cimport PlanOptions
from eastgate.fastpath.tables.table_build cimport ChoiceOptions

cdef class ClusterTable:
    cdef Table* table           # owned
    cdef PickCursor cursor      # of Python callers only
    cdef readonly object columns
    cdef readonly str policy
    cdef readonly double refused
    cdef readonly bint zoned
    cdef object own             # locality of the proxy
    cdef object local           # census of the local cluster
    cdef EndpointRows rows      # keeps alive what `table` points into
    cdef PlanOptions options
    cdef int build(self, ClusterTable before, const ChoiceOptions* choice, object hashing, object hash_keys) except -1
    cdef int count_active(self) except -1
    cdef EndpointState* checked_state(self, object endpoint) except NULL
