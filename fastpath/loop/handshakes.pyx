"""TLS handshakes as phases of a connection. What a peer did wrong becomes a reason by name.

No step of a handshake is taken where its event is handled: the connection enters the worker's queue, from which
journey.pyx serves some in each turn. Before the first step with a client, which uses the private key, the kernel is
asked whether the client is still there: one that sent its hello and ended cannot finish any more.

A handshake with an endpoint that fails is a failed connect: no byte of the client has left, another endpoint is tried,
and outlier detection counts it, as in Envoy. A gateway that is alive in front of a dead cluster is such a case.
"""
from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.string cimport memcpy, memset, strlen

from eastgate.fastpath.loop.closing cimport refuse
from eastgate.fastpath.loop.cluster_slots cimport (
    TLS_FAULT_OTHER, TLS_FAULT_SAN, TLS_FAULT_VERIFY, ClusterTraffic, cluster_traffic,
)
from eastgate.fastpath.loop.connection cimport Connection, PHASE_SEAL, PHASE_UNSEAL
from eastgate.fastpath.loop.handshake_queue cimport (
    SHAKING_BEGUN, SHAKING_CLIENT, SHAKING_ENDPOINT, enter_handshakes, leave_handshakes,
)
from eastgate.fastpath.loop.leg cimport Leg, leg_handshake, leg_has_left, leg_secure, leg_watch
from eastgate.fastpath.loop.tls_session cimport TLS_DONE, TLS_WAIT, Offer, TlsStatus
from eastgate.fastpath.loop.upstream cimport connect_failed
from eastgate.fastpath.loop.worker_state cimport MILLISECOND, Worker, schedule_in
from eastgate.fastpath.match.client_hello cimport ClientHello, HELLO_COMPLETE, HELLO_LIMIT, parse_client_hello
from eastgate.fastpath.posix cimport atomic_add64, count
from eastgate.fastpath.reason cimport Reason
from eastgate.fastpath.tables.endpoint_state cimport tickets_of
from eastgate.fastpath.tls.failure cimport TlsFailure
from eastgate.fastpath.tls.openssl cimport SSL_session_reused

cdef enum:
    OFFER_BYTES = 1024

# What Istio's own filter for HTTP (istio.alpn) and its clusters offer on mTLS within the mesh, by the protocol of the
# connection as it stands there: TCP, HTTP/1.0, HTTP/1.1, HTTP/2. A stock server chooses its chain by it: by `istio`
# alone that of TCP, where rules on paths deny. Never `istio-peer-exchange`, which would put frames before the bytes.
cdef const char** ISTIO_OFFERS = [
    b"\x05istio",
    b"\x0eistio-http/1.0\x05istio\x08http/1.0",
    b"\x0eistio-http/1.1\x05istio\x08http/1.1",
    b"\x08istio-h2\x05istio\x02h2",
]


# What a failure means: for a connection, by the side on which it happened, and for the statistics of a cluster.
cdef struct Meaning:
    int client
    int endpoint
    int fault

cdef Meaning[<int>TlsFailure.TLS_PROTOCOL + 1] MEANINGS


cdef void mean(int failure, int client, int endpoint, int fault=TLS_FAULT_OTHER) noexcept:
    MEANINGS[failure].client = client
    MEANINGS[failure].endpoint = endpoint
    MEANINGS[failure].fault = fault


cdef void fill_meanings() noexcept:
    cdef int failure
    for failure in range(<int>TlsFailure.TLS_PROTOCOL + 1):
        mean(failure, Reason.TLS_FAILED, Reason.UPSTREAM_TLS_FAILED)
    mean(TlsFailure.TLS_UNKNOWN_CA, Reason.TLS_UNKNOWN_CA, Reason.UPSTREAM_TLS_UNKNOWN_CA, TLS_FAULT_VERIFY)
    mean(TlsFailure.TLS_EXPIRED, Reason.TLS_EXPIRED, Reason.UPSTREAM_TLS_EXPIRED, TLS_FAULT_VERIFY)
    mean(TlsFailure.TLS_NOT_YET_VALID, Reason.TLS_EXPIRED, Reason.UPSTREAM_TLS_EXPIRED, TLS_FAULT_VERIFY)
    mean(TlsFailure.TLS_BAD_CERTIFICATE, Reason.TLS_FAILED, Reason.UPSTREAM_TLS_FAILED, TLS_FAULT_VERIFY)
    mean(TlsFailure.TLS_WRONG_NAME, Reason.TLS_WRONG_NAME, Reason.UPSTREAM_TLS_WRONG_NAME, TLS_FAULT_SAN)
    mean(TlsFailure.TLS_TWO_IDENTITIES, Reason.TLS_WRONG_NAME, Reason.UPSTREAM_TLS_WRONG_NAME, TLS_FAULT_SAN)
    mean(TlsFailure.TLS_VERSION, Reason.TLS_VERSION, Reason.UPSTREAM_TLS_VERSION)
    mean(TlsFailure.TLS_PEER_ALERT, Reason.TLS_REFUSED, Reason.UPSTREAM_TLS_REFUSED)
    # Endpoints show a certificate, and their hello is ours.
    mean(TlsFailure.TLS_NO_CERTIFICATE, Reason.TLS_NO_CERTIFICATE, Reason.UPSTREAM_TLS_FAILED)
    mean(TlsFailure.TLS_HELLO_CHANGED, Reason.TLS_HELLO_CHANGED, Reason.UPSTREAM_TLS_FAILED)


fill_meanings()


cdef inline Meaning* meaning_of(uint8_t failure) noexcept nogil:
    return &MEANINGS[min(<int>failure, <int>TlsFailure.TLS_PROTOCOL)]


cdef bint describe(const ClientHello* hello, uint8_t* alpn, Offer* offer) noexcept nogil:
    """What was routed by, as the offer that OpenSSL must find in each hello. False when it is longer than can be."""
    cdef uint16_t protocol
    cdef uint8_t length
    offer.server_name = hello.sni
    offer.server_name_length = hello.sni_length
    offer.alpn = alpn
    offer.alpn_length = 0
    for protocol in range(hello.protocols.count):
        length = hello.protocols.length[protocol]
        if offer.alpn_length + 1 + length > OFFER_BYTES:
            return False
        alpn[offer.alpn_length] = length
        memcpy(alpn + offer.alpn_length + 1, hello.protocols.bytes + hello.protocols.offset[protocol], length)
        offer.alpn_length += 1 + length
    return True


cdef void await_unseal(Worker* worker, Connection* connection) noexcept nogil:
    connection.phase = PHASE_UNSEAL
    schedule_in(worker, &connection.timer, <uint64_t>connection.stage.approach.handshake_ms * MILLISECOND)
    enter_handshakes(&worker.handshakes, connection, SHAKING_CLIENT)


cdef void await_seal(Worker* worker, Connection* connection) noexcept nogil:
    connection.phase = PHASE_SEAL
    enter_handshakes(&worker.handshakes, connection, SHAKING_ENDPOINT)


cdef void await_step(Worker* worker, Connection* connection) noexcept nogil:
    # Of one that has not begun it is in the queue already, and stays where it is.
    enter_handshakes(&worker.handshakes, connection, SHAKING_BEGUN)


cdef bint take_step(Worker* worker, Connection* connection) noexcept nogil:
    leave_handshakes(&worker.handshakes, connection)
    if connection.phase == PHASE_UNSEAL:
        return begin_unseal(worker, connection) if connection.down.tls == NULL else unsealed(worker, connection)
    if connection.down.gone:
        refuse(worker, connection, Reason.CLIENT_GONE)
        return False
    return begin_seal(worker, connection) if connection.up.tls == NULL else sealed(worker, connection)


cdef bint begin_unseal(Worker* worker, Connection* connection) noexcept nogil:
    cdef Leg* down = &connection.down
    cdef ClientHello hello
    cdef Offer offer
    cdef uint8_t alpn[OFFER_BYTES]
    # A listener that does not inspect TLS has routed by nothing that a hello could say otherwise.
    cdef bint was_sniffed = (
        down.sniffed_length
        and parse_client_hello(down.sniffed, down.sniffed_length, HELLO_LIMIT, &hello) == HELLO_COMPLETE
    )
    if leg_has_left(down):
        refuse(worker, connection, Reason.CLIENT_GONE)
        return False
    if was_sniffed and not describe(&hello, alpn, &offer):
        refuse(worker, connection, Reason.MALFORMED_HELLO)
        return False
    if not leg_secure(down, &worker.scratch, &offer if was_sniffed else NULL, NULL):
        refuse(worker, connection, Reason.LIMIT)
        return False
    return unsealed(worker, connection)


cdef bint unsealed(Worker* worker, Connection* connection) noexcept nogil:
    cdef TlsStatus status = leg_handshake(&connection.down)
    if status == TLS_WAIT:
        if not leg_watch(&connection.down, &worker.watch):
            refuse(worker, connection, Reason.LIMIT)
    elif status != TLS_DONE:
        refuse(worker, connection, meaning_of(connection.down.tls.handshake.failure).client)
    else:
        count(&connection.listener.tls_handshakes, 1)
        if SSL_session_reused(connection.down.tls.ssl):
            count(&connection.listener.tls_resumed, 1)
    return status == TLS_DONE


cdef void unseal_timeout(Worker* worker, Connection* connection) noexcept nogil:
    refuse(worker, connection, Reason.TLS_TIMEOUT)


cdef void count_sealed(Connection* connection, bint succeeded) noexcept nogil:
    cdef ClusterTraffic* traffic = cluster_traffic(connection.cluster)
    cdef uint8_t failure
    if traffic == NULL:
        return
    if not succeeded:
        # A socket that broke, or that the endpoint closed, is no fault of TLS, and none to Envoy.
        failure = connection.up.tls.handshake.failure
        if failure != TlsFailure.TLS_RESET and failure != TlsFailure.TLS_TRUNCATED:
            atomic_add64(&traffic.tls_failed[meaning_of(failure).fault], 1)
        return
    atomic_add64(&traffic.tls_handshakes, 1)
    if SSL_session_reused(connection.up.tls.ssl):
        atomic_add64(&traffic.tls_resumed, 1)


cdef bint begin_seal(Worker* worker, Connection* connection) noexcept nogil:
    cdef Offer offer
    cdef bint is_istio = connection.up.context.is_istio
    if is_istio:
        memset(&offer, 0, sizeof(offer))
        offer.alpn = <const uint8_t*>ISTIO_OFFERS[connection.stage.approach.protocol]
        offer.alpn_length = <uint16_t>strlen(ISTIO_OFFERS[connection.stage.approach.protocol])
    if not leg_secure(
        &connection.up, &worker.scratch, &offer if is_istio else NULL, tickets_of(connection.endpoint)
    ):
        connect_failed(worker, connection, Reason.LIMIT)
        return False
    return sealed(worker, connection)


cdef bint sealed(Worker* worker, Connection* connection) noexcept nogil:
    cdef TlsStatus status = leg_handshake(&connection.up)
    if status != TLS_WAIT:
        count_sealed(connection, status == TLS_DONE)
    if status != TLS_DONE and status != TLS_WAIT:
        connect_failed(worker, connection, meaning_of(connection.up.tls.handshake.failure).endpoint)
    return status == TLS_DONE
