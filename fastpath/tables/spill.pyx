"""What connections have counted by the localities of an assignment, which each have one priority. Counts nothing.

Counters lie beside the endpoints' states, which outlive tables: who adds up what leaves a table, or stands elsewhere in
the next one, loses nothing.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from eastgate.fastpath.posix cimport atomic_load, atomic_load64, atomic_load_pointer
from eastgate.fastpath.tables.cluster_table cimport ClusterTable
from eastgate.fastpath.tables.endpoint_rows cimport Rows
from eastgate.fastpath.tables.endpoint_state cimport EndpointState, Moved, StateMap, block_of, state_of

from typing import NamedTuple


class Tally(NamedTuple):
    """`connections` were established, `active` of them are open; bytes are those from and to the endpoints."""

    connections: int
    failures: int
    active: int
    received: int
    sent: int


cdef struct Sums:
    uint64_t connections
    uint64_t failures
    uint64_t active
    uint64_t received
    uint64_t sent


cdef void add_state(Sums* sums, EndpointState* state) noexcept nogil:
    cdef Moved* moved = <Moved*>atomic_load_pointer(<void**>&block_of(state).moved)
    sums.connections += atomic_load(&state.cx_connected)
    sums.failures += atomic_load(&state.cx_connect_fail)
    sums.active += atomic_load(&state.active)
    if moved != NULL:
        moved += state.place
        sums.received += atomic_load64(&moved.received)
        sums.sent += atomic_load64(&moved.sent)


cdef object tally_of(const Sums* sums):
    return Tally(sums.connections, sums.failures, sums.active, sums.received, sums.sent)


cdef object tally_of_state(EndpointState* state):
    cdef Sums sums
    sums.connections = sums.failures = sums.active = sums.received = sums.sent = 0
    add_state(&sums, state)
    return tally_of(&sums)


cdef list used_rows(ClusterTable table):
    """Rows whose endpoints were tried; one that repeats an address has the state of the first, and is left out."""
    cdef StateMap* map = table.table.states
    cdef EndpointState* state
    cdef uint32_t row
    rows = []
    seen = set()
    for row in range(map.count):
        state = state_of(map, row)
        if atomic_load(&state.cx_total) == 0:
            continue
        if map.duplicates > 0:
            if <size_t>state in seen:
                continue
            seen.add(<size_t>state)
        rows.append(row)
    return rows


def by_locality(table):
    """Tally by index of the columns' localities, of those whose endpoints were tried."""
    cdef ClusterTable known = <ClusterTable?>table
    cdef const Rows* rows = &known.rows.rows
    cdef Sums* sums
    cdef bint* tried
    cdef uint32_t row, index
    cdef list used = used_rows(known)
    if not used:
        return {}
    # EndpointRows has checked each index against locality_count.
    sums = <Sums*>calloc(rows.locality_count, sizeof(Sums))
    tried = <bint*>calloc(rows.locality_count, sizeof(bint))
    try:
        if sums == NULL or tried == NULL:
            raise MemoryError
        for row in used:
            tried[rows.locality[row]] = True
            add_state(&sums[rows.locality[row]], state_of(known.table.states, row))
        return {index: tally_of(&sums[index]) for index in range(rows.locality_count) if tried[index]}
    finally:
        free(sums)
        free(tried)


cdef bint stands_as(ClusterTable old, ClusterTable new):
    """Whether each row has the endpoint, locality and priority that it had: most changes are of health and weights."""
    return (
        new.table.states == old.table.states and new.rows.locality == old.rows.locality
        and new.rows.localities == old.rows.localities
        and new.rows.locality_priorities == old.rows.locality_priorities
    )


def moves(before, after):
    """Endpoints of `before` that were tried, and where they stand in `after`; None: there is no table any more.

    (row, index of its locality, index in `after` or -1, Tally at this moment) each; none where all stand as they did.
    """
    cdef ClusterTable old = <ClusterTable?>before
    cdef ClusterTable new = <ClusterTable?>after if after is not None else None
    cdef const Rows* now = &new.rows.rows if new is not None else NULL
    cdef EndpointState* state
    cdef uint32_t row
    if new is not None and stands_as(old, new):
        return []
    used = used_rows(old)
    if not used:
        return []
    places = {}
    if new is not None:
        for row in range(new.table.states.count):
            places.setdefault(<size_t>state_of(new.table.states, row), now.locality[row])
    found = []
    for row in used:
        state = state_of(old.table.states, row)
        found.append((row, old.rows.rows.locality[row], places.get(<size_t>state, -1), tally_of_state(state)))
    return found


def of_row(table, row):
    """Tally of one endpoint."""
    cdef ClusterTable known = <ClusterTable?>table
    return tally_of_state(known.checked_state(row))
