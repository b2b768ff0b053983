"""Move bytes between the two legs of a connection. Chooses nothing, closes nothing, and sees no descriptor.

Three ways, by what the flow has shown so far:
    copy        its first COPY_LIMIT bytes, and always while it carries less than that at a time: one recv, one send.
                What the target does not take at once is held, COPY_LIMIT bytes at most.
    splice      bulk: socket -> pipe -> socket without touching user memory. The flow has a pipe while it moves bytes,
                and for as long as bytes lie in it; an empty one goes back to the pool before the flow waits.
    peek        bulk of legs that could splice, when there is no pipe: peek, write what the target takes, then discard
                exactly that much from the origin (MSG_TRUNC: no second copy).

Bulk never lies in user memory: what the target does not take stays in the pipe and in the origin's receive queue, and
TCP slows the sender down. Writing to a broken socket through a pipe raises SIGPIPE, which Python ignores.

Worked example: a 1 MB answer. 16 KiB are copied; that filled the buffer, so the flow is bulk: it takes a pipe, and
moves up to 1 MiB in two calls, until the origin is empty. An answer of 2 kB that follows later on the same connection
is spliced, found small, and what comes after it is copied.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from eastgate.fastpath.loop.leg cimport (
    Leg, empty_pipe, fill_pipe, has_more, leg_discard, leg_end, leg_flushed, leg_peek, leg_receive, leg_send,
    may_splice,
)
from eastgate.fastpath.loop.pipe_pool cimport pipe_give, pipe_take
from eastgate.fastpath.posix cimport ssize_t


cdef void flow_free(Flow* flow, RelayMeans* means) noexcept nogil:
    free(flow.held)
    flow.held = NULL
    flow.held_length = 0
    if flow.pipe != NULL:
        pipe_give(&means.pipes, flow.pipe)
        flow.pipe = NULL


# Each step moves some bytes and says what to do next.
cdef enum Step:
    STEP_AGAIN
    STEP_WAIT
    STEP_BROKEN


cdef inline Step send_held(Flow* flow, Leg* target) noexcept nogil:
    cdef ssize_t taken
    if not target.writable:
        return STEP_WAIT
    taken = leg_send(target, flow.held + flow.held_offset, flow.held_length)
    if taken < 0:
        return STEP_BROKEN
    flow.held_offset += <uint32_t>taken
    flow.held_length -= <uint32_t>taken
    if flow.held_length == 0:
        free(flow.held)
        flow.held = NULL
    return STEP_AGAIN


cdef inline Step send_piped(Flow* flow, Leg* target, size_t* moved) noexcept nogil:
    cdef ssize_t taken
    if not target.writable:
        return STEP_WAIT
    taken = empty_pipe(target, flow.pipe)
    if taken <= 0:
        return STEP_WAIT if taken == 0 else STEP_BROKEN
    flow.bytes += <uint64_t>taken
    moved[0] += <size_t>taken
    return STEP_AGAIN


cdef inline bint hold(Flow* flow, const uint8_t* data, size_t length) noexcept nogil:
    flow.held = <uint8_t*>malloc(length)
    if flow.held == NULL:
        return False
    memcpy(flow.held, data, length)
    flow.held_offset = 0
    flow.held_length = <uint32_t>length
    return True


cdef inline Step copy_some(Flow* flow, Leg* origin, Leg* target, uint8_t* buffer, size_t* moved) noexcept nogil:
    cdef bint sealed = origin.tls != NULL or target.tls != NULL
    cdef ssize_t got = leg_receive(origin, buffer, SEALED_LIMIT if sealed else COPY_LIMIT)
    cdef ssize_t taken
    cdef bint kept = True
    if got <= 0:
        return STEP_AGAIN if got == 0 else STEP_BROKEN
    origin.bulk = got >= COPY_LIMIT
    taken = leg_send(target, buffer, <size_t>got)
    if 0 <= taken < got:
        kept = hold(flow, buffer + taken, <size_t>(got - taken))
    if sealed:
        # The worker's buffer keeps nobody's plaintext.
        memset(buffer, 0, <size_t>got)
    if taken < 0 or not kept:
        return STEP_BROKEN
    flow.bytes += <uint64_t>got
    moved[0] += <size_t>got
    return STEP_AGAIN


cdef inline Step peek_some(
    Flow* flow, Leg* origin, Leg* target, uint8_t* buffer, size_t most, size_t* moved
) noexcept nogil:
    cdef ssize_t got, taken
    if not target.writable:
        return STEP_WAIT
    got = leg_peek(origin, buffer, min(most, <size_t>RELAY_BUFFER))
    if got <= 0:
        return STEP_AGAIN if got == 0 else STEP_BROKEN
    taken = leg_send(target, buffer, <size_t>got)
    if taken < 0:
        return STEP_BROKEN
    leg_discard(origin, <size_t>taken, taken < got)
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
            step = send_piped(flow, target, &moved)
        elif origin.ended:
            # Where both ways have ended both sockets are closed next, and closing sends the FIN.
            if not target.shut and (target.tls != NULL or not (target.ended and origin.shut)):
                leg_end(target)
            return FLOW_ENDED if leg_flushed(target) else FLOW_WAITING
        elif not has_more(origin):
            # A turn of bulk that was small after all: the next one is copied.
            if origin.bulk and moved < COPY_LIMIT:
                origin.bulk = 0
            return FLOW_WAITING
        elif moved >= budget:
            return FLOW_BUSY
        elif flow.bytes < COPY_LIMIT or not origin.bulk or not may_splice(origin, target):
            step = copy_some(flow, origin, target, means.buffer, &moved)
        else:
            if flow.pipe == NULL and means.splicing:
                flow.pipe = pipe_take(&means.pipes, means.now)
            if flow.pipe != NULL:
                step = STEP_BROKEN if fill_pipe(origin, flow.pipe, budget - moved) < 0 else STEP_AGAIN
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
