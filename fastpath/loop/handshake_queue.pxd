# Handshakes that have a step to take: a worker takes some of them in each turn, and serves its relays in between. A
# step uses a private key, or checks a chain of certificates: between a tenth of a millisecond and several of them.
#
# What has begun comes before what has not, and of each the oldest first. So a handshake of which a part is paid for
# ends before its peer gives up, whatever the number of those that come after it; and those are not begun before they
# can be ended. A queue in order of arrival alone would answer everybody too late.
from libc.stdint cimport uint8_t
from eastgate.fastpath.loop.connection cimport Connection, HandshakeQueue, WaitingList

# Where a connection is: approach.shaking.
cdef enum Shaking:
    SHAKING_NOT
    SHAKING_BEGUN
    SHAKING_CLIENT              # its client waits for the first flight
    SHAKING_ENDPOINT            # its endpoint has not been sent one

cdef inline bint has_handshakes(const HandshakeQueue* queue) noexcept nogil:
    return queue.begun.first != NULL or queue.beginning.first != NULL

# Once: one that is in the queue stays where it is.
cdef inline void enter_handshakes(HandshakeQueue* queue, Connection* connection, Shaking shaking) noexcept nogil:
    cdef WaitingList* waiting = &queue.begun if shaking == SHAKING_BEGUN else &queue.beginning
    if connection.stage.approach.shaking:
        return
    connection.stage.approach.shaking = <uint8_t>shaking
    if shaking == SHAKING_CLIENT:
        connection.listener.shaking += 1
    connection.stage.approach.next_shaking = NULL
    connection.stage.approach.previous_shaking = waiting.last
    if waiting.last != NULL:
        waiting.last.stage.approach.next_shaking = connection
    else:
        waiting.first = connection
    waiting.last = connection

# It may be in no list. Not for one that is relayed.
cdef inline void leave_handshakes(HandshakeQueue* queue, Connection* connection) noexcept nogil:
    cdef Connection* previous = connection.stage.approach.previous_shaking
    cdef Connection* following = connection.stage.approach.next_shaking
    cdef WaitingList* waiting = &queue.beginning
    if not connection.stage.approach.shaking:
        return
    if connection.stage.approach.shaking == SHAKING_BEGUN:
        waiting = &queue.begun
    elif connection.stage.approach.shaking == SHAKING_CLIENT:
        connection.listener.shaking -= 1
    connection.stage.approach.shaking = SHAKING_NOT
    if previous != NULL:
        previous.stage.approach.next_shaking = following
    else:
        waiting.first = following
    if following != NULL:
        following.stage.approach.previous_shaking = previous
    else:
        waiting.last = previous
