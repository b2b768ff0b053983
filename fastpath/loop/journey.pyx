"""The phases of a connection, one after the other. Each says when it is done; none is guessed from another.

PROXY header (if the listener has one) -> sniff -> choose -> (wait for the endpoint) -> connect -> relay -> closed.
Every phase has a timer.
"""
from eastgate.fastpath.loop.connection cimport Connection, PHASE_CLOSED, PHASE_CONNECT, PHASE_RELAY, PHASE_WAIT
from eastgate.fastpath.loop.relay_phase cimport begin_relay, relay, relay_timeout
from eastgate.fastpath.loop.sniff cimport sniff, sniff_timeout
from eastgate.fastpath.loop.upstream cimport choose_upstream, upstream_ready, upstream_timeout
from eastgate.fastpath.loop.worker_state cimport Worker
from eastgate.fastpath.match.route_nodes cimport RouteChain


cdef void advance(Worker* worker, Connection* connection) noexcept nogil:
    cdef const RouteChain* chain
    if connection.phase == PHASE_RELAY:
        relay(worker, connection)
    elif connection.phase == PHASE_CONNECT or connection.phase == PHASE_WAIT:
        if upstream_ready(worker, connection):
            begin_relay(worker, connection)
            if connection.phase == PHASE_RELAY:
                relay(worker, connection)
    elif connection.phase != PHASE_CLOSED:
        chain = sniff(worker, connection)
        if chain != NULL:
            # Connecting takes a while: its event goes on from here.
            choose_upstream(worker, connection, chain)


cdef void phase_timeout(Worker* worker, Connection* connection) noexcept nogil:
    if connection.phase == PHASE_RELAY:
        relay_timeout(worker, connection)
    elif connection.phase == PHASE_CONNECT or connection.phase == PHASE_WAIT:
        upstream_timeout(worker, connection)
    else:
        sniff_timeout(worker, connection)
