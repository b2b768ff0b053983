"""The phases of a connection, one after the other. Each says when it is done; none is guessed from another.

PROXY header (if the listener has one) -> sniff -> (TLS with the client) -> authorize -> choose -> (wait for the
endpoint) -> connect -> (TLS with the endpoint) -> relay -> closed. Every phase has a timer.
"""
from eastgate.fastpath.loop.authorization cimport authorized
from eastgate.fastpath.loop.closing cimport answer_timeout, answered
from eastgate.fastpath.loop.connection cimport (
    Connection, PHASE_ANSWER, PHASE_CLOSED, PHASE_CONNECT, PHASE_HEAR, PHASE_RELAY, PHASE_SEAL, PHASE_UNSEAL,
    PHASE_WAIT,
)
from eastgate.fastpath.loop.first_request cimport hear_timeout, heard
from eastgate.fastpath.loop.handshakes cimport begin_seal, begin_unseal, sealed, unseal_timeout, unsealed
from eastgate.fastpath.loop.relay_phase cimport begin_relay, relay, relay_timeout
from eastgate.fastpath.loop.sniff cimport sniff, sniff_timeout
from eastgate.fastpath.loop.upstream cimport adopt, choose_upstream, upstream_ready, upstream_timeout
from eastgate.fastpath.loop.worker_state cimport Worker
from eastgate.fastpath.match.route_nodes cimport RouteChain


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
    if chain != NULL and adopt(worker, connection, chain) and (
        connection.down.context == NULL or begin_unseal(worker, connection)
    ):
        admit(worker, connection)


cdef void advance(Worker* worker, Connection* connection) noexcept nogil:
    if connection.phase == PHASE_RELAY:
        relay(worker, connection)
    elif connection.phase == PHASE_CONNECT or connection.phase == PHASE_WAIT:
        if upstream_ready(worker, connection) and (
            connection.up.context == NULL or begin_seal(worker, connection)
        ):
            start_relay(worker, connection)
    elif connection.phase == PHASE_SEAL:
        if sealed(worker, connection):
            start_relay(worker, connection)
    elif connection.phase == PHASE_UNSEAL:
        if unsealed(worker, connection):
            admit(worker, connection)
    elif connection.phase == PHASE_HEAR:
        heard(worker, connection)
    elif connection.phase == PHASE_ANSWER:
        answered(worker, connection)
    elif connection.phase != PHASE_CLOSED:
        follow(worker, connection, sniff(worker, connection))


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
