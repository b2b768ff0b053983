"""Authorization of a connection: its chain's policies, over what is known of it and of its client.

They are asked when the TLS handshake is done, and before an endpoint is chosen: nobody who is denied makes the
application hear of it, nor reads what a server says first. (Envoy's network filter lets that greeting out.)
"""
from libc.stdint cimport int32_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from eastgate.fastpath.loop.closing cimport refuse
from eastgate.fastpath.loop.connection cimport (
    Connection, ConnectionRecord, ListenerState, RBAC_ALLOWED, RBAC_DENIED, RBAC_LOGGED, RBAC_SHADOW_ALLOWED,
    RBAC_SHADOW_DENIED,
)
from eastgate.fastpath.loop.connection_record cimport begin_record
from eastgate.fastpath.loop.first_request cimport hear
from eastgate.fastpath.loop.leg cimport Leg, leg_local, leg_offered_name, leg_peer
from eastgate.fastpath.loop.worker_state cimport Worker
from eastgate.fastpath.match.client_hello cimport ClientHello, HELLO_COMPLETE, parse_client_hello
from eastgate.fastpath.match.facts cimport Facts, Protocols
from eastgate.fastpath.match.policy cimport (
    CompiledPolicies, Peer, PolicyVerdict, judge_policies, policies_release, policy_name,
)
from eastgate.fastpath.posix cimport count, ssize_t
from eastgate.fastpath.reason cimport Reason

cdef enum:
    PEER_CAPACITY = 2048        # of a SPIFFE ID, https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md, 2.3


cdef void learn(Connection* connection, ClientHello* hello, Protocols* nothing, Facts* facts) noexcept nogil:
    """All that policies look at."""
    cdef Leg* down = &connection.down
    facts.destination = connection.destination
    if facts.destination.family == 0:
        # Nobody redirected it: it wanted to come to this socket.
        leg_local(down, &facts.destination)
    facts.destination.port = connection.destination_port
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
        and parse_client_hello(down.sniffed, down.sniffed_length, hello) == HELLO_COMPLETE
    ):
        facts.tls = True
        facts.server_name = hello.sni
        facts.server_name_length = hello.sni_length


cdef void count_verdict(ListenerState* listener, const PolicyVerdict* verdict) noexcept nogil:
    count(&listener.rbac[<int>(RBAC_ALLOWED if verdict.allowed else RBAC_DENIED)], 1)
    count(&listener.rbac[<int>RBAC_SHADOW_ALLOWED], verdict.shadow_allowed)
    count(&listener.rbac[<int>RBAC_SHADOW_DENIED], verdict.shadow_denied)
    count(&listener.rbac[<int>RBAC_LOGGED], verdict.logged)


cdef void name_policy(ConnectionRecord* record, const CompiledPolicies* policies, int32_t policy) noexcept nogil:
    record.policy_length = <uint16_t>policy_name(policies, policy, record.policy, sizeof(record.policy))
    if record.policy_length == 0:
        # Envoy's word where no policy allowed it.
        memcpy(record.policy, b"none", 4)
        record.policy_length = 4


cdef void deny(
    Worker* worker, Connection* connection, const CompiledPolicies* policies, const PolicyVerdict* verdict
) noexcept nogil:
    if connection.record == NULL:
        connection.record = begin_record(connection)
    if connection.record != NULL:
        connection.record.policy_unknown = verdict.unknown
        name_policy(connection.record, policies, verdict.policy)
    if connection.is_http and not connection.asked:
        hear(worker, connection)
    else:
        refuse(worker, connection, Reason.POLICY)


cdef bint authorized(Worker* worker, Connection* connection) noexcept nogil:
    cdef CompiledPolicies* policies = connection.policies
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
    memset(&peer, 0, sizeof(peer))
    length = leg_peer(&connection.down, name, sizeof(name))
    if length >= 0:
        peer.name = name
        peer.length = <uint32_t>length
        peer.unread = length == 0
    judge_policies(policies, &facts, &peer, &verdict)
    count_verdict(connection.listener, &verdict)
    connection.policies = NULL
    if not verdict.allowed:
        deny(worker, connection, policies, &verdict)
    policies_release(policies)
    return verdict.allowed
