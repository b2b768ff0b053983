"""Move bytes between the two sockets of a connection. Chooses nothing and closes no socket.

Three ways, by what the flow has shown so far:
    copy        its first COPY_LIMIT bytes, and always while it carries less than that at a time: one recv, one send.
                What the target does not take at once is held, COPY_LIMIT bytes at most.
    splice      bulk: socket -> pipe -> socket without touching user memory. The flow has a pipe while it moves bytes,
                and for as long as bytes lie in it; an empty one goes back to the pool before the flow waits.
    peek        bulk when there is no pipe: peek, write what the target takes, then discard exactly that much from the
                origin (MSG_TRUNC: no second copy).

Bulk never lies in user memory: what the target does not take stays in the pipe and in the origin's receive queue, and
TCP slows the sender down. Writing to a broken socket through a pipe raises SIGPIPE, which Python ignores.

Worked example: a 1 MB answer. 16 KiB are copied; that filled the buffer, so the flow is bulk: it takes a pipe, and
moves up to 1 MiB in two calls, until the origin is empty. An answer of 2 kB that follows later on the same connection
is spliced, found small, and what comes after it is copied.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from eastgate.fastpath.loop.pipe_pool cimport Pipe, pipe_give, pipe_take
from eastgate.fastpath.posix cimport (
    EAGAIN, EINTR, MSG_DONTWAIT, MSG_NOSIGNAL, MSG_PEEK, MSG_TRUNC, SHUT_WR, SPLICE_F_MOVE, SPLICE_F_NONBLOCK, errno,
    recv, send, shutdown, splice, ssize_t,
)


cdef void flow_free(Flow* flow, RelayMeans* means) noexcept nogil:
    free(flow.held)
    flow.held = NULL
    flow.held_length = 0
    if flow.pipe != NULL:
        pipe_give(&means.pipes, flow.pipe)
        flow.pipe = NULL


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


# Each step moves some bytes and says what to do next.
cdef enum Step:
    STEP_AGAIN
    STEP_WAIT
    STEP_BROKEN


cdef inline Step send_held(Flow* flow, Leg* target) noexcept nogil:
    cdef ssize_t taken
    if not target.writable:
        return STEP_WAIT
    taken = send_some(target, flow.held + flow.held_offset, flow.held_length)
    if taken < 0:
        return STEP_BROKEN
    flow.held_offset += <uint32_t>taken
    flow.held_length -= <uint32_t>taken
    if flow.held_length == 0:
        free(flow.held)
        flow.held = NULL
    return STEP_AGAIN


cdef inline Step empty_pipe(Flow* flow, Leg* target, size_t* moved) noexcept nogil:
    """Pipe -> target."""
    cdef Pipe* pipe = flow.pipe
    cdef ssize_t taken
    if not target.writable:
        return STEP_WAIT
    taken = splice(pipe.read_fd, NULL, target.fd, NULL, pipe.held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
    if taken > 0:
        pipe.held -= <uint32_t>taken
        flow.bytes += <uint64_t>taken
        moved[0] += <size_t>taken
        return STEP_AGAIN
    if taken < 0 and errno == EINTR:
        return STEP_AGAIN
    if taken < 0 and errno == EAGAIN:
        target.writable = 0
        return STEP_WAIT
    return STEP_BROKEN


cdef inline Step fill_pipe(Flow* flow, Leg* origin, size_t most) noexcept nogil:
    """Origin -> pipe, which is empty: it has room for a number of pieces, not of bytes, and "it would block" says
    nothing about the origin while something is in it."""
    cdef size_t want = min(most, <size_t>flow.pipe.capacity)
    cdef ssize_t got = splice(origin.fd, NULL, flow.pipe.write_fd, NULL, want, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
    if got > 0:
        flow.pipe.held = <uint32_t>got
    elif got == 0:
        origin.ended = 1
        origin.readable = 0
    elif errno == EAGAIN:
        origin.readable = 0
    elif errno != EINTR:
        return STEP_BROKEN
    return STEP_AGAIN


cdef inline Step copy_some(Flow* flow, Leg* origin, Leg* target, uint8_t* buffer, size_t* moved) noexcept nogil:
    cdef ssize_t got = receive_some(origin, buffer, COPY_LIMIT, 0)
    cdef ssize_t taken
    if got <= 0:
        return STEP_AGAIN if got == 0 else STEP_BROKEN
    flow.bulk = got == COPY_LIMIT
    taken = send_some(target, buffer, <size_t>got)
    if taken < 0:
        return STEP_BROKEN
    if taken < got:
        flow.held = <uint8_t*>malloc(<size_t>(got - taken))
        if flow.held == NULL:
            return STEP_BROKEN
        memcpy(flow.held, buffer + taken, <size_t>(got - taken))
        flow.held_offset = 0
        flow.held_length = <uint32_t>(got - taken)
    flow.bytes += <uint64_t>got
    moved[0] += <size_t>got
    return STEP_AGAIN


cdef inline Step peek_some(
    Flow* flow, Leg* origin, Leg* target, uint8_t* buffer, size_t most, size_t* moved
) noexcept nogil:
    cdef ssize_t got, taken
    if not target.writable:
        return STEP_WAIT
    got = receive_some(origin, buffer, min(most, <size_t>RELAY_BUFFER), MSG_PEEK)
    if got <= 0:
        return STEP_AGAIN if got == 0 else STEP_BROKEN
    taken = send_some(target, buffer, <size_t>got)
    if taken < 0:
        return STEP_BROKEN
    if taken > 0:
        recv(origin.fd, NULL, <size_t>taken, MSG_TRUNC | MSG_DONTWAIT)
    if taken < got:
        # What stays queued announces itself to nobody.
        origin.readable = 1
    flow.bytes += <uint64_t>taken
    moved[0] += <size_t>taken
    return STEP_AGAIN


cdef FlowStatus move(Flow* flow, Leg* origin, Leg* target, RelayMeans* means, size_t budget) noexcept nogil:
    cdef size_t moved = 0
    cdef Step step
    while True:
        if flow.held_length:
            step = send_held(flow, target)
        elif flow.pipe != NULL and flow.pipe.held:
            step = empty_pipe(flow, target, &moved)
        elif origin.ended:
            # Where both ways have ended both sockets are closed next, and closing sends the FIN.
            if not target.shut and not (target.ended and origin.shut):
                target.shut = 1
                # An error here means that the target is gone; its own events tell.
                shutdown(target.fd, SHUT_WR)
            return FLOW_ENDED
        elif not origin.readable:
            # A turn of bulk that was small after all: the next one is copied.
            if flow.bulk and moved < COPY_LIMIT:
                flow.bulk = 0
            return FLOW_WAITING
        elif moved >= budget:
            return FLOW_BUSY
        elif flow.bytes < COPY_LIMIT or not flow.bulk:
            step = copy_some(flow, origin, target, means.buffer, &moved)
        else:
            if flow.pipe == NULL and means.splicing:
                flow.pipe = pipe_take(&means.pipes, means.now)
            if flow.pipe != NULL:
                step = fill_pipe(flow, origin, budget - moved)
            else:
                step = peek_some(flow, origin, target, means.buffer, budget - moved, &moved)
        if step == STEP_WAIT:
            return FLOW_WAITING
        if step == STEP_BROKEN:
            return FLOW_BROKEN


cdef FlowStatus relay_flow(Flow* flow, Leg* origin, Leg* target, RelayMeans* means, size_t budget) noexcept nogil:
    cdef FlowStatus status = move(flow, origin, target, means, budget)
    if flow.pipe != NULL and flow.pipe.held == 0:
        pipe_give(&means.pipes, flow.pipe)
        flow.pipe = NULL
    return status
