"""Entering an endpoint that has a limit of connections, and waiting for it. Connects nobody."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from eastgate.fastpath.loop.charges cimport CHARGE_CLUSTER, CHARGE_PLACE, CHARGE_WAITING, give_back
from eastgate.fastpath.loop.cluster_slots cimport SlotVersion, UNLIMITED
from eastgate.fastpath.loop.connection cimport Connection, EndpointQueue, PHASE_WAIT
from eastgate.fastpath.loop.endpoint_queue cimport queue_of
from eastgate.fastpath.loop.leg cimport leg_watch
from eastgate.fastpath.loop.waiting_list cimport list_append
from eastgate.fastpath.loop.worker_state cimport MILLISECOND, OWN_WAIT_MS, Worker, schedule_in, wake_queue
from eastgate.fastpath.posix cimport atomic_add, atomic_add64
from eastgate.fastpath.tables.endpoint_state cimport open_of


cdef bint enter_endpoint(Worker* worker, Connection* connection, SlotVersion* version) noexcept nogil:
    cdef EndpointQueue* queue
    cdef uint32_t* opened
    cdef bint full = False
    if not connection.charged & CHARGE_CLUSTER:
        # It waited: its place among the active ones was given back then.
        full = atomic_add(&connection.cluster.cx_active, 1) >= version.max_connections
        connection.charged |= CHARGE_CLUSTER
    elif version.max_per_endpoint == UNLIMITED:
        return True
    opened = open_of(connection.endpoint)
    queue = queue_of(&worker.waiting, connection.endpoint) if opened != NULL else NULL
    if queue == NULL:
        # No memory to count with is no reason to refuse.
        give_back(worker, connection, CHARGE_WAITING)
        return True
    if atomic_add(opened, 1) >= version.max_per_endpoint:
        full = True
    if full:
        atomic_add64(&connection.cluster.cx_overflow, 1)
        if queue.own:
            atomic_add(opened, <uint32_t>-1)
            give_back(worker, connection, CHARGE_CLUSTER)
            return False
    queue.own += 1
    give_back(worker, connection, CHARGE_WAITING)
    connection.queue = queue
    connection.charged |= CHARGE_PLACE
    return True


cdef bint wait_for_endpoint(Worker* worker, Connection* connection) noexcept nogil:
    cdef uint64_t most = <uint64_t>OWN_WAIT_MS * MILLISECOND
    cdef EndpointQueue* queue = queue_of(&worker.waiting, connection.endpoint)
    if queue == NULL or not leg_watch(&connection.down, &worker.watch):
        return False
    if connection.expiry:
        most = connection.expiry - worker.now if connection.expiry > worker.now else 0
    connection.phase = PHASE_WAIT
    connection.stage.approach.failure = 0
    connection.charged |= CHARGE_WAITING
    atomic_add(&connection.cluster.waiting, 1)
    connection.queue = queue
    list_append(&queue.waiting, connection)
    schedule_in(worker, &connection.timer, most)
    return True


cdef void fail_waiting(Worker* worker, EndpointQueue* queue, int reason) noexcept nogil:
    cdef Connection* connection = queue.waiting.first
    while connection != NULL:
        connection.stage.approach.failure = <uint8_t>reason
        connection = connection.next_listed
    wake_queue(worker, queue)
