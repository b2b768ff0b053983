# Of one worker: its connections to endpoints with a limit of connections, and those that wait for one to end.
from libc.stdint cimport uint32_t
from eastgate.fastpath.loop.connection cimport EndpointQueue
from eastgate.fastpath.tables.endpoint_state cimport EndpointState

cdef struct EndpointQueues:
    EndpointQueue** buckets     # 1 << bits of them; NULL as long as no endpoint has a limit
    uint32_t bits
    uint32_t count

# That of an endpoint, made when it is not there; NULL without memory.
cdef EndpointQueue* queue_of(EndpointQueues* queues, EndpointState* endpoint) noexcept nogil
# Free it if no connection belongs to it any more, and nobody holds it.
cdef void queue_drop(EndpointQueues* queues, EndpointQueue* queue) noexcept nogil
cdef void queues_free(EndpointQueues* queues) noexcept nogil
