"""The phases of a connection, one after the other. Each says when it is done; none is guessed from another.

PROXY header (if the listener has one) -> sniff -> (TLS with the client) -> authorize -> choose -> (wait for the
endpoint) -> connect -> (TLS with the endpoint) -> relay -> closed. Every phase has a timer.

Both handshakes go through the worker's queue. Worked example: 192 hellos come in one turn, beside a relay, and the
first flight to each takes 1 ms. Their events are handled in 2 ms, with the relay's among them; then two flights are
made. The next turn moves what the relay has by then, and makes another flight; as soon as the first client answers,
the end of its handshake comes before further flights. The relay waits for two steps; without the queue it was 192.
"""
from libc.stdint cimport uint64_t

from eastgate.fastpath.loop.authorization cimport authorized
from eastgate.fastpath.loop.closing cimport answer_timeout, answered
from eastgate.fastpath.loop.connection cimport (
    Connection, HandshakeQueue, PHASE_ANSWER, PHASE_CLOSED, PHASE_CONNECT, PHASE_HEAR, PHASE_RELAY, PHASE_SEAL,
    PHASE_UNSEAL, PHASE_WAIT,
)
from eastgate.fastpath.loop.first_request cimport hear_timeout, heard
from eastgate.fastpath.loop.handshakes cimport await_seal, await_step, await_unseal, take_step, unseal_timeout
from eastgate.fastpath.loop.relay_phase cimport begin_relay, relay, relay_timeout
from eastgate.fastpath.loop.sniff cimport sniff, sniff_timeout
from eastgate.fastpath.loop.upstream cimport adopt, choose_upstream, upstream_ready, upstream_timeout
from eastgate.fastpath.loop.worker_state cimport Worker
from eastgate.fastpath.match.route_nodes cimport RouteChain
from eastgate.fastpath.posix cimport CLOCK_MONOTONIC, clock_ns

# What the handshakes of a turn may take: as long as everything else in it, so that neither keeps the other waiting for
# more than twice its time, within these bounds. A step is not interrupted.
cdef uint64_t HANDSHAKES_LEAST = 500000
cdef uint64_t HANDSHAKES_MOST = 4000000


cdef void start_relay(Worker* worker, Connection* connection) noexcept nogil:
    begin_relay(worker, connection)
    if connection.phase == PHASE_RELAY:
        relay(worker, connection)


cdef inline void admit(Worker* worker, Connection* connection) noexcept nogil:
    """Its client is known."""
    if authorized(worker, connection):
        choose_upstream(worker, connection)


cdef void follow(Worker* worker, Connection* connection, const RouteChain* chain) noexcept nogil:
    """Go on by the chain that was found; NULL: none yet, or the connection has ended."""
    # Connecting takes a while: its event goes on from here.
    if chain == NULL or not adopt(worker, connection, chain):
        return
    if connection.down.context == NULL:
        admit(worker, connection)
    else:
        await_unseal(worker, connection)


cdef void advance(Worker* worker, Connection* connection) noexcept nogil:
    if connection.phase == PHASE_RELAY:
        relay(worker, connection)
    elif connection.phase == PHASE_CONNECT or connection.phase == PHASE_WAIT:
        if not upstream_ready(worker, connection):
            return
        if connection.up.context == NULL:
            start_relay(worker, connection)
        else:
            await_seal(worker, connection)
    elif connection.phase == PHASE_SEAL or connection.phase == PHASE_UNSEAL:
        await_step(worker, connection)
    elif connection.phase == PHASE_HEAR:
        heard(worker, connection)
    elif connection.phase == PHASE_ANSWER:
        answered(worker, connection)
    elif connection.phase != PHASE_CLOSED:
        follow(worker, connection, sniff(worker, connection))


cdef inline void shake(Worker* worker, Connection* connection) noexcept nogil:
    cdef bint with_client = connection.phase == PHASE_UNSEAL
    if take_step(worker, connection):
        if with_client:
            admit(worker, connection)
        else:
            start_relay(worker, connection)
    worker.now = clock_ns(CLOCK_MONOTONIC)


cdef void serve_handshakes(Worker* worker, uint64_t began) noexcept nogil:
    cdef HandshakeQueue* queue = &worker.handshakes
    cdef uint64_t until
    worker.now = clock_ns(CLOCK_MONOTONIC)
    until = worker.now + min(max(worker.now - began, HANDSHAKES_LEAST), HANDSHAKES_MOST)
    # One that begins in any case: peers that go on with theirs byte by byte must not keep others out.
    if queue.beginning.first != NULL:
        shake(worker, queue.beginning.first)
    while queue.begun.first != NULL:
        shake(worker, queue.begun.first)
        if worker.now >= until:
            return
    while queue.beginning.first != NULL and worker.now < until:
        shake(worker, queue.beginning.first)


cdef void phase_timeout(Worker* worker, Connection* connection) noexcept nogil:
    if connection.phase == PHASE_RELAY:
        relay_timeout(worker, connection)
    elif connection.phase == PHASE_UNSEAL:
        unseal_timeout(worker, connection)
    elif connection.phase == PHASE_CONNECT or connection.phase == PHASE_WAIT or connection.phase == PHASE_SEAL:
        upstream_timeout(worker, connection)
    elif connection.phase == PHASE_HEAR:
        hear_timeout(worker, connection)
    elif connection.phase == PHASE_ANSWER:
        answer_timeout(worker, connection)
    else:
        follow(worker, connection, sniff_timeout(worker, connection))
