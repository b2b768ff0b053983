"""Who waits for an endpoint that has as many connections as it may have, in the order of coming. Decides nothing.

A hash table by the address of the endpoint's state, in chains. An endpoint is in it as long as this worker has
connections to it, or some that wait: endpoints without a limit never are.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from eastgate.fastpath.loop.connection cimport EndpointQueue
from eastgate.fastpath.tables.endpoint_state cimport EndpointState

cdef enum:
    FIRST_BITS = 6


cdef inline EndpointQueue** bucket_of(
    EndpointQueue** buckets, uint32_t bits, const EndpointState* endpoint
) noexcept nogil:
    # Fibonacci hashing: the highest bits of the product depend on all of the address.
    return &buckets[(<uint64_t>endpoint * <uint64_t>0x9E3779B97F4A7C15) >> (64 - bits)]


cdef bint grow(EndpointQueues* queues) noexcept nogil:
    cdef uint32_t bits = queues.bits + 1 if queues.bits else FIRST_BITS
    cdef EndpointQueue** buckets = <EndpointQueue**>calloc(<size_t>1 << bits, sizeof(EndpointQueue*))
    cdef EndpointQueue** place
    cdef EndpointQueue* one
    cdef EndpointQueue* following
    cdef uint32_t index
    if buckets == NULL:
        return False
    if queues.buckets != NULL:
        for index in range(<uint32_t>1 << queues.bits):
            one = queues.buckets[index]
            while one != NULL:
                following = one.next
                place = bucket_of(buckets, bits, one.endpoint)
                one.next = place[0]
                place[0] = one
                one = following
    free(queues.buckets)
    queues.buckets = buckets
    queues.bits = bits
    return True


cdef EndpointQueue* queue_of(EndpointQueues* queues, EndpointState* endpoint) noexcept nogil:
    cdef EndpointQueue** place
    cdef EndpointQueue* found
    if queues.bits == 0 or queues.count >> queues.bits:
        # Chains may grow longer where there is no memory, but there must be one.
        if not grow(queues) and queues.bits == 0:
            return NULL
    place = bucket_of(queues.buckets, queues.bits, endpoint)
    found = place[0]
    while found != NULL and found.endpoint != endpoint:
        found = found.next
    if found == NULL:
        found = <EndpointQueue*>calloc(1, sizeof(EndpointQueue))
        if found == NULL:
            return NULL
        found.endpoint = endpoint
        found.next = place[0]
        place[0] = found
        queues.count += 1
    return found


cdef void queue_drop(EndpointQueues* queues, EndpointQueue* queue) noexcept nogil:
    cdef EndpointQueue** place
    if queue.own or queue.kept or queue.due or queue.waiting.first != NULL:
        return
    place = bucket_of(queues.buckets, queues.bits, queue.endpoint)
    while place[0] != queue:
        place = &place[0].next
    place[0] = queue.next
    queues.count -= 1
    free(queue)


cdef void queues_free(EndpointQueues* queues) noexcept nogil:
    cdef EndpointQueue* following
    cdef uint32_t index
    if queues.buckets == NULL:
        return
    for index in range(<uint32_t>1 << queues.bits):
        while queues.buckets[index] != NULL:
            following = queues.buckets[index].next
            free(queues.buckets[index])
            queues.buckets[index] = following
    free(queues.buckets)
    queues.buckets = NULL
