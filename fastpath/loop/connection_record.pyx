"""Filling the record of a connection, for the access log and for refusals. Decides nothing."""
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcpy

from eastgate.fastpath.loop.cluster_slots cimport cluster_acquire
from eastgate.fastpath.loop.connection cimport Connection, ConnectionRecord, PHASE_RELAY
from eastgate.fastpath.loop.event_ring cimport record_new, ring_push
from eastgate.fastpath.loop.leg cimport leg_local
from eastgate.fastpath.loop.worker_state cimport Worker
from eastgate.fastpath.match.client_hello cimport (
    ClientHello, HELLO_BAD_SNI, HELLO_COMPLETE, HELLO_LIMIT, HelloStatus, parse_client_hello,
)
from eastgate.fastpath.match.policy cimport CompiledPolicies, PolicyVerdict, policy_name
from eastgate.fastpath.posix cimport CLOCK_REALTIME, clock_ns, count
from eastgate.fastpath.tls.handshake cimport Handshake
from eastgate.fastpath.tls.principals cimport principal_of


cdef ConnectionRecord* begin_record(Worker* worker, Connection* connection) noexcept nogil:
    cdef ConnectionRecord* record = record_new()
    if record == NULL:
        # As one that nobody has taken: its line will be missing.
        count(&worker.events.dropped, 1)
        return NULL
    leg_local(&connection.down, &record.downstream_local)
    return record


cdef void note_sniffed(ConnectionRecord* record, Connection* connection) noexcept nogil:
    # Parsed once more, rather than keep every client's server name.
    cdef ClientHello hello
    cdef HelloStatus status
    if connection.down.sniffed_length:
        status = parse_client_hello(connection.down.sniffed, connection.down.sniffed_length, HELLO_LIMIT, &hello)
        if status == HELLO_COMPLETE or status == HELLO_BAD_SNI:
            note_hello(record, &hello)
    elif connection.down.tls != NULL:
        note_expected(record, &connection.down.tls.handshake)


cdef void note_expected(ConnectionRecord* record, const Handshake* handshake) noexcept nogil:
    # Longer ones were refused by the sniffer, or are no line of a log.
    if handshake.expected == NULL or handshake.alpn_length > sizeof(record.alpn):
        return
    record.server_name_length = handshake.server_name_length
    memcpy(record.server_name, handshake.expected, handshake.server_name_length)
    record.alpn_length = handshake.alpn_length
    memcpy(record.alpn, handshake.expected + handshake.server_name_length, handshake.alpn_length)


cdef void note_hello(ConnectionRecord* record, const ClientHello* hello) noexcept nogil:
    cdef uint16_t protocol
    cdef uint8_t length
    record.server_name_length = hello.sni_length
    memcpy(record.server_name, hello.sni, hello.sni_length)
    record.alpn_length = 0
    for protocol in range(hello.protocols.count):
        length = hello.protocols.length[protocol]
        if <size_t>record.alpn_length + 1 + length > sizeof(record.alpn):
            return
        record.alpn[record.alpn_length] = length
        memcpy(record.alpn + record.alpn_length + 1, hello.protocols.bytes + hello.protocols.offset[protocol], length)
        record.alpn_length += 1 + length


cdef void note_policy(
    ConnectionRecord* record, const CompiledPolicies* policies, const PolicyVerdict* verdict
) noexcept nogil:
    record.policy_unknown = verdict.unknown
    record.policy_length = <uint16_t>policy_name(policies, verdict.policy, record.policy, sizeof(record.policy))
    if record.policy_length == 0:
        # Envoy's word where no policy allowed it.
        memcpy(record.policy, b"none", 4)
        record.policy_length = 4


cdef void note_for_logs(ConnectionRecord* record, Connection* connection) noexcept nogil:
    """What only access logs of the configuration ask for. Some of it costs a system call."""
    if connection.phase == PHASE_RELAY:
        leg_local(&connection.up, &record.upstream_local)
        if record.upstream_remote.family == 0:
            record.upstream_remote = connection.upstream
    else:
        record.upstream_remote.family = 0
    if connection.down.tls != NULL:
        record.downstream_peer = principal_of(connection.down.tls.ssl)
    if connection.up.tls != NULL:
        record.upstream_peer = principal_of(connection.up.tls.ssl)


cdef void finish_record(Worker* worker, Connection* connection, ConnectionRecord* record, int reason) noexcept nogil:
    if record == NULL:
        return
    record.reason = <uint16_t>reason
    record.listener = connection.listener.number
    record.downstream = connection.downstream
    # A refused connection may be for its listener's log, which has no number here.
    record.direct_source = connection.direct_source
    record.destination = connection.destination
    record.upstream = connection.upstream
    record.attempts = connection.attempts
    record.duration_ns = worker.now - connection.started
    record.start_realtime_ns = clock_ns(CLOCK_REALTIME) - record.duration_ns
    if connection.phase == PHASE_RELAY:
        record.rx_bytes = connection.stage.relayed.upward.bytes
        record.tx_bytes = connection.stage.relayed.downward.bytes
        record.connect_ns = connection.stage.relayed.connected - connection.connect_started
    record.log = connection.log
    if connection.log:
        note_for_logs(record, connection)
    if connection.cluster != NULL:
        cluster_acquire(connection.cluster)
        record.cluster = connection.cluster
    ring_push(&worker.events, record)
