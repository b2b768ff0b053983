# What a connection is counted in. Each count is a bit of `charged`, set where it is taken and given back here alone.
from libc.stdint cimport uint32_t, uint64_t
from eastgate.fastpath.loop.connection cimport Connection
from eastgate.fastpath.loop.worker_state cimport Worker
from eastgate.fastpath.posix cimport atomic_add, atomic_add64, count

cdef enum Charge:
    CHARGE_ENGINE = 1           # max_connections of the engine
    CHARGE_LISTENER = 2         # its listener's open ones
    CHARGE_SILENT = 4           # not routed yet: its listener's gauge, max_silent, and the worker's list of them
    CHARGE_CLUSTER = 8          # max_connections of its cluster
    CHARGE_PENDING = 16         # max_pending_requests of its cluster: connecting or waiting
    CHARGE_WAITING = 32         # it waits for one of the endpoint's connections to end
    CHARGE_PLACE = 64           # one of the endpoint's connections, where those have a limit
    CHARGE_ENDPOINT = 128       # established: what least request compares
    CHARGE_ALL = 255

# Count one more, or not where that would pass the limit: workers together never do.
cdef inline bint take_within(uint32_t* counter, uint32_t limit) noexcept nogil:
    if atomic_add(counter, 1) < limit:
        return True
    atomic_add(counter, <uint32_t>-1)
    return False

# Count an accepted connection: CHARGE_LISTENER and CHARGE_SILENT.
cdef void charge_accepted(Worker* worker, Connection* connection) noexcept nogil
cdef void no_longer_silent(Worker* worker, Connection* connection) noexcept nogil
# It waits no longer, or its connection to the endpoint has ended: then another one's turn may have come.
cdef void leave_queue(Worker* worker, Connection* connection, int held) noexcept nogil

# Give back those of `charges` that the connection holds. Inline, for most callers name one.
cdef inline void give_back(Worker* worker, Connection* connection, int charges) noexcept nogil:
    cdef int held = connection.charged & charges
    connection.charged &= ~charges
    if held & CHARGE_SILENT:
        no_longer_silent(worker, connection)
    if held & (CHARGE_WAITING | CHARGE_PLACE):
        leave_queue(worker, connection, held)
    if held & CHARGE_CLUSTER:
        atomic_add(&connection.cluster.cx_active, <uint32_t>-1)
    if held & CHARGE_PENDING:
        atomic_add(&connection.cluster.pending_active, <uint32_t>-1)
    if held & CHARGE_ENDPOINT:
        atomic_add(&connection.endpoint.active, <uint32_t>-1)
    if held & CHARGE_LISTENER:
        count(&connection.listener.cx_active, <uint64_t>-1)
    if held & CHARGE_ENGINE:
        atomic_add64(&worker.shared.connections, <uint64_t>-1)
