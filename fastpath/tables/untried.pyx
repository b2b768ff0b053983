"""Choose an endpoint when all that picks give were tried, and failed. Not for a first pick: it looks at every row.

Rule: the healthy endpoints of the lowest priority that has an untried one; where no priority has any, the degraded ones
in the same way, whatever the policy: one that hashes picks none of them, and would lose the connection. Among several
their weights decide.

Worked example: P0 has one endpoint, which EDS still calls healthy, and it refuses. Its load is 100 %, so every pick of
every attempt leads to it. P1 has two healthy endpoints with weights 1 and 3: a connection that P0 has refused goes to
the first in one of four cases, and to the second in three.

Where it differs from Envoy: there each attempt is a new pick with the same loads, and the connection is lost when the
last one met the dead endpoint again. First picks are not concerned, and so neither are shares.
"""
from libc.stdint cimport int32_t, uint32_t, uint64_t

from eastgate.fastpath.random cimport mix_seed, next_random
from eastgate.fastpath.tables.cluster_table cimport ClusterTable
from eastgate.fastpath.tables.endpoint_rows cimport Rows
from eastgate.fastpath.tables.endpoint_state cimport EndpointState, state_of
from eastgate.fastpath.tables.picker cimport Table
from eastgate.fastpath.tables.priority_load cimport DEGRADED, HEALTHY, PRIORITY_LIMIT, HealthClass, health_class

cdef enum:
    TRIED_MOST = 4
    NO_RANK = 0xFFFFFFFF


cdef inline uint32_t rank_of(const Rows* rows, uint32_t row) noexcept nogil:
    """Lower ones come first; NO_RANK: not available."""
    cdef HealthClass found = health_class(rows.health[row], rows.failed != NULL and rows.failed[row] != 0)
    if found == HEALTHY:
        return rows.priority[row]
    if found == DEGRADED:
        return <uint32_t>PRIORITY_LIMIT + rows.priority[row]
    return NO_RANK


cdef int32_t untried_row(const Table* table, EndpointState** tried, uint32_t count, uint64_t seed) noexcept nogil:
    cdef const Rows* rows = &table.rows
    cdef EndpointState* state
    cdef uint64_t random = mix_seed(seed)
    cdef uint64_t weights = 0
    cdef uint32_t best = NO_RANK
    cdef int32_t chosen = -1
    cdef uint32_t row, rank, place
    for row in range(rows.count):
        rank = rank_of(rows, row)
        if rank > best or rank == NO_RANK:
            continue
        state = state_of(table.states, row)
        for place in range(count):
            if tried[place] == state:
                break
        else:
            if rank < best:
                best = rank
                weights = 0
            # Each row stays with the part that its weight has of those seen so far: at the end all have their own.
            weights += rows.pick_weight[row]
            if weights == 0 or next_random(&random) % weights < rows.pick_weight[row]:
                chosen = <int32_t>row
    return chosen


def next_untried(table, tried, *, seed):
    """Row that a connection goes to whose picks all gave rows of `tried`; -1: nobody is left. At most 4 rows."""
    cdef ClusterTable known = <ClusterTable?>table
    cdef EndpointState* states[TRIED_MOST]
    cdef uint32_t count = 0
    if len(tried) > TRIED_MOST:
        raise ValueError(f"tried: {len(tried)} rows, and {<int>TRIED_MOST} at most are looked at")
    for row in tried:
        states[count] = known.checked_state(row)
        count += 1
    return untried_row(known.table, states, count, seed & 0xFFFFFFFFFFFFFFFF)
