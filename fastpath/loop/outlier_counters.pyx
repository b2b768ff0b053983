"""The counters of outlier detection as the control side reads and sets them back. Decides nothing.

Worked example: thresholds 3 and 2, an endpoint fails four times in a row. The second failure sets the gateway bit, the
third the other one; take_crossed gives the row with both, once. What is not set back with reset_failures is not told
again.
"""
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc

from eastgate.fastpath.loop.cluster_slots cimport ClusterSlots
from eastgate.fastpath.tables.cluster_table cimport ClusterTable
from eastgate.fastpath.tables.endpoint_state cimport EndpointState, StateBlock, block_of, state_of
from eastgate.fastpath.loop.outlier_counters cimport (
    CROSSED_FAILURES, CROSSED_GATEWAY, endpoint_connected, endpoint_failed,
)
from eastgate.fastpath.posix cimport atomic_exchange8, atomic_load, atomic_load8, atomic_store, atomic_store16

FAILURES = <int>CROSSED_FAILURES
GATEWAY = <int>CROSSED_GATEWAY


cdef uint32_t* window_of(EndpointState* state) except NULL:
    """Two counters of the endpoint as they were when the last interval ended."""
    cdef StateBlock* block = block_of(state)
    if block.window == NULL:
        block.window = <uint32_t*>calloc(block.capacity, 2 * sizeof(uint32_t))
        if block.window == NULL:
            raise MemoryError
    return &block.window[2 * state.place]


def host_count(table):
    """How many endpoints the cluster has: duplicates of an address count once."""
    cdef ClusterTable known = <ClusterTable?>table
    return known.table.rows.count - known.table.states.duplicates


def take_crossed(table):
    """(row, bits) of endpoints that crossed a threshold since the last call: FAILURES, GATEWAY or both."""
    cdef ClusterTable known = <ClusterTable?>table
    cdef EndpointState* state
    cdef uint32_t row
    cdef uint8_t crossed
    found = []
    for row in range(known.table.rows.count):
        state = state_of(known.table.states, row)
        if atomic_load8(&state.crossed):
            crossed = atomic_exchange8(&state.crossed, 0)
            if crossed:
                found.append((row, crossed))
    return found


def take_volumes(table, minimum):
    """(row, connected, ended) since the last call, of endpoints with at least `minimum`, and 1, connects that ended."""
    cdef ClusterTable known = <ClusterTable?>table
    cdef EndpointState* state
    cdef uint32_t* window
    cdef uint32_t row, connected, failed, successes, total
    cdef uint32_t least = min(max(minimum, 1), 0xFFFFFFFF)
    found = []
    for row in range(known.table.rows.count):
        state = state_of(known.table.states, row)
        connected = atomic_load(&state.cx_connected)
        failed = atomic_load(&state.cx_connect_fail)
        if not connected | failed:
            continue
        window = window_of(state)
        successes = connected - window[0]
        total = successes + (failed - window[1])
        window[0] = connected
        window[1] = failed
        if total >= least:
            found.append((row, successes, total))
    return found


def reset_failures(table, endpoint, bits):
    """Begin to count failures in a row anew: FAILURES, GATEWAY or both."""
    cdef ClusterTable known = <ClusterTable?>table
    cdef EndpointState* state = known.checked_state(endpoint)
    if bits & CROSSED_FAILURES:
        atomic_store(&state.consecutive_failures, 0)
    if bits & CROSSED_GATEWAY:
        atomic_store16(&state.gateway_failures, 0)


def restart(table):
    """Begin all of it anew, for every endpoint."""
    cdef ClusterTable known = <ClusterTable?>table
    cdef EndpointState* state
    cdef uint32_t row
    for row in range(known.table.rows.count):
        state = state_of(known.table.states, row)
        atomic_store(&state.consecutive_failures, 0)
        atomic_store16(&state.gateway_failures, 0)
        atomic_exchange8(&state.crossed, 0)
    take_volumes(known, 0xFFFFFFFF)


def record(slots, slot, table, endpoint, connected):
    """Count the end of a connect as workers do. For tests of what is made of it."""
    cdef ClusterSlots known = <ClusterSlots?>slots
    cdef ClusterTable endpoints = <ClusterTable?>table
    if connected:
        endpoint_connected(endpoints.checked_state(endpoint))
    else:
        endpoint_failed(known.slot_of(slot).owner, endpoints.checked_state(endpoint))
