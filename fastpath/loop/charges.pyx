"""What a connection is counted in, and how that is given back. Refuses nobody."""
from libc.stdint cimport uint32_t, uint64_t

from eastgate.fastpath.loop.connection cimport Connection, EndpointQueue
from eastgate.fastpath.loop.endpoint_queue cimport queue_drop
from eastgate.fastpath.loop.waiting_list cimport list_append, list_remove
from eastgate.fastpath.loop.worker_state cimport Worker, wake_queue
from eastgate.fastpath.posix cimport atomic_add, atomic_add64, count
from eastgate.fastpath.tables.endpoint_state cimport open_of


cdef void charge_accepted(Worker* worker, Connection* connection) noexcept nogil:
    connection.charged |= CHARGE_LISTENER | CHARGE_SILENT
    count(&connection.listener.cx_active, 1)
    count(&connection.listener.cx_pre_active, 1)
    atomic_add64(&worker.shared.silent, 1)
    list_append(&worker.silent, connection)


cdef void no_longer_silent(Worker* worker, Connection* connection) noexcept nogil:
    count(&connection.listener.cx_pre_active, <uint64_t>-1)
    atomic_add64(&worker.shared.silent, <uint64_t>-1)
    list_remove(&worker.silent, connection)


cdef void leave_queue(Worker* worker, Connection* connection, int held) noexcept nogil:
    cdef EndpointQueue* queue = connection.queue
    connection.queue = NULL
    if held & CHARGE_WAITING:
        atomic_add(&connection.cluster.waiting, <uint32_t>-1)
    if queue == NULL:
        return
    if held & CHARGE_PLACE:
        atomic_add(open_of(connection.endpoint), <uint32_t>-1)
        queue.own -= 1
        wake_queue(worker, queue)
    else:
        list_remove(&queue.waiting, connection)
    queue_drop(&worker.waiting, queue)
