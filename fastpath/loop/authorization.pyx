"""Authorization of a connection: its chain's policies, over what is known of it and of its client.

They are asked when the TLS handshake is done, and before an endpoint is chosen: nobody who is denied makes the
application hear of it, nor reads what a server says first. (Envoy's network filter lets that greeting out.)
"""
from libc.stdint cimport uint32_t
from libc.string cimport memset

from eastgate.fastpath.loop.closing cimport refuse
from eastgate.fastpath.loop.connection cimport (
    BEGAN_TLS, Connection, ListenerState, PEER_CAPACITY, RBAC_ALLOWED, RBAC_DENIED, RBAC_LOGGED, RBAC_SHADOW_ALLOWED,
    RBAC_SHADOW_DENIED,
)
from eastgate.fastpath.loop.connection_record cimport begin_record, note_policy
from eastgate.fastpath.loop.first_request cimport hear
from eastgate.fastpath.loop.leg cimport Leg, leg_local, leg_offered_name, leg_peer
from eastgate.fastpath.loop.remembered cimport remember_hello
from eastgate.fastpath.loop.worker_state cimport Worker
from eastgate.fastpath.match.client_hello cimport ClientHello, HELLO_COMPLETE, HELLO_LIMIT, parse_client_hello
from eastgate.fastpath.match.facts cimport Facts, Protocols
from eastgate.fastpath.match.policy cimport (
    CompiledPolicies, Peer, PolicyVerdict, judge_policies, policies_release,
)
from eastgate.fastpath.posix cimport count, ssize_t
from eastgate.fastpath.reason cimport Reason


cdef void learn(Connection* connection, ClientHello* hello, Protocols* nothing, Facts* facts) noexcept nogil:
    """All that policies look at."""
    cdef Leg* down = &connection.down
    facts.destination = connection.destination
    if facts.destination.family == 0:
        # Nobody redirected it: it wanted to come to this socket.
        leg_local(down, &facts.destination)
    facts.destination.port = connection.destination.port
    facts.source = connection.downstream
    facts.direct_source = connection.direct_source
    facts.authority = NULL
    facts.authority_length = 0
    nothing.count = 0
    nothing.incomplete = 0
    facts.protocols = nothing
    facts.tls = down.tls != NULL
    facts.server_name = leg_offered_name(down, &facts.server_name_length)
    if (
        down.tls == NULL and down.sniffed_length
        and parse_client_hello(down.sniffed, down.sniffed_length, HELLO_LIMIT, hello) == HELLO_COMPLETE
    ):
        facts.tls = True
        facts.server_name = hello.sni
        facts.server_name_length = hello.sni_length


cdef void count_verdict(ListenerState* listener, const PolicyVerdict* verdict) noexcept nogil:
    count(&listener.rbac[<int>(RBAC_ALLOWED if verdict.allowed else RBAC_DENIED)], 1)
    count(&listener.rbac[<int>RBAC_SHADOW_ALLOWED], verdict.shadow_allowed)
    count(&listener.rbac[<int>RBAC_SHADOW_DENIED], verdict.shadow_denied)
    count(&listener.rbac[<int>RBAC_LOGGED], verdict.logged)


cdef void deny(
    Worker* worker, Connection* connection, const CompiledPolicies* policies, const PolicyVerdict* verdict
) noexcept nogil:
    if connection.record == NULL:
        connection.record = begin_record(worker, connection)
    if connection.record != NULL:
        note_policy(connection.record, policies, verdict)
    if connection.stage.approach.is_http and not connection.stage.approach.asked:
        hear(worker, connection)
    else:
        refuse(worker, connection, Reason.POLICY)


cdef bint authorized(Worker* worker, Connection* connection) noexcept nogil:
    cdef CompiledPolicies* policies = connection.stage.approach.policies
    cdef PolicyVerdict verdict
    cdef ClientHello hello
    cdef Protocols nothing
    cdef Facts facts
    cdef Peer peer
    cdef char name[PEER_CAPACITY]
    cdef ssize_t length
    if policies == NULL:
        return True
    learn(connection, &hello, &nothing, &facts)
    if connection.down.tls == NULL and facts.tls and connection.said == NULL:
        # No filter looked for its hello, and these policies see it: so do those that come later.
        connection.said = remember_hello(&worker.memory, &hello)
        connection.how = BEGAN_TLS
    memset(&peer, 0, sizeof(peer))
    length = leg_peer(&connection.down, name, sizeof(name))
    if length >= 0:
        peer.name = name
        peer.length = <uint32_t>length
        peer.unread = length == 0
    judge_policies(policies, &facts, &peer, &verdict)
    count_verdict(connection.listener, &verdict)
    connection.stage.approach.policies = NULL
    if not verdict.allowed:
        deny(worker, connection, policies, &verdict)
    policies_release(policies)
    return verdict.allowed
