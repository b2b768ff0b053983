"""Move bytes between the two sockets of a connection. Chooses nothing and closes nothing.

A flow starts with plain reads and writes. Past COPY_LIMIT it peeks, writes what the target takes, and then discards
exactly that much from the origin (MSG_TRUNC: no second copy). Nothing is ever held in user memory for a bulk flow:
what the target does not take stays in the origin's receive queue, and TCP slows the sender down.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from eastgate.fastpath.posix cimport (
    EAGAIN, EINTR, MSG_DONTWAIT, MSG_NOSIGNAL, MSG_PEEK, MSG_TRUNC, SHUT_WR, errno, recv, send, shutdown, ssize_t,
)


cdef void flow_free(Flow* flow) noexcept nogil:
    free(flow.held)
    flow.held = NULL
    flow.held_length = 0


cdef inline ssize_t send_some(Leg* target, const uint8_t* data, size_t length) noexcept nogil:
    # Bytes taken (0: the target is full), or -1 when it is broken.
    cdef ssize_t taken
    while True:
        taken = send(target.fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT)
        if taken >= 0:
            if <size_t>taken < length:
                target.writable = 0
            return taken
        if errno == EINTR:
            continue
        if errno == EAGAIN:
            target.writable = 0
            return 0
        return -1


cdef inline ssize_t receive_some(Leg* origin, uint8_t* buffer, size_t length, int flags) noexcept nogil:
    # Bytes read; 0 with origin.ended set at the end of the stream, 0 without it when there is nothing yet; -1: broken.
    cdef ssize_t got
    while True:
        got = recv(origin.fd, buffer, length, flags | MSG_DONTWAIT)
        if got > 0:
            # A short read has emptied the queue; a FIN that came with it was announced, one that comes later will be.
            if <size_t>got < length and not origin.hung_up:
                origin.readable = 0
            return got
        if got == 0:
            origin.ended = 1
            origin.readable = 0
            return 0
        if errno == EINTR:
            continue
        if errno == EAGAIN:
            origin.readable = 0
            return 0
        return -1


cdef FlowStatus relay_flow(Flow* flow, Leg* origin, Leg* target, uint8_t* buffer) noexcept nogil:
    cdef uint64_t moved = 0
    cdef ssize_t got, taken
    cdef size_t want
    cdef bint peeking
    while True:
        if flow.held_length:
            if not target.writable:
                return FLOW_WAITING
            taken = send_some(target, flow.held + flow.held_offset, flow.held_length)
            if taken < 0:
                return FLOW_BROKEN
            flow.held_offset += <uint32_t>taken
            flow.held_length -= <uint32_t>taken
            if flow.held_length:
                continue
            flow_free(flow)
        if origin.ended:
            if not target.shut:
                target.shut = 1
                # An error here means that the target is gone; its own events tell.
                shutdown(target.fd, SHUT_WR)
            return FLOW_ENDED
        if not origin.readable:
            return FLOW_WAITING
        if moved >= TURN_BUDGET:
            return FLOW_BUSY
        peeking = flow.bytes >= COPY_LIMIT
        if peeking and not target.writable:
            return FLOW_WAITING
        want = RELAY_BUFFER if peeking else COPY_LIMIT
        got = receive_some(origin, buffer, want, MSG_PEEK if peeking else 0)
        if got < 0:
            return FLOW_BROKEN
        if got == 0:
            continue
        taken = send_some(target, buffer, <size_t>got)
        if taken < 0:
            return FLOW_BROKEN
        if peeking:
            if taken > 0:
                recv(origin.fd, NULL, <size_t>taken, MSG_TRUNC | MSG_DONTWAIT)
            if taken < got:
                # What stays queued announces itself to nobody.
                origin.readable = 1
        elif taken < got:
            flow.held = <uint8_t*>malloc(<size_t>(got - taken))
            if flow.held == NULL:
                return FLOW_BROKEN
            memcpy(flow.held, buffer + taken, <size_t>(got - taken))
            flow.held_offset = 0
            flow.held_length = <uint32_t>(got - taken)
            flow.bytes += <uint64_t>(got - taken)
        flow.bytes += <uint64_t>taken
        moved += <uint64_t>got
