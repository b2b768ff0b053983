"""What OpenSSL asks during a handshake: is this peer accepted, is this the hello that was routed by, which protocol,
may this session go on?

The peer is checked *in* the handshake, so that one who is refused gets an alert and no ticket: the chain against every
root of the bundle (an intermediate is an anchor too, as in Envoy's BoringSSL), then the names.
"""
from libc.stdint cimport INT64_MAX
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy
from libc.time cimport time as unix_time
from libc.time cimport tm

from eastgate.fastpath.posix cimport atomic_add, atomic_exchange_pointer, atomic_sub_release, atomic_swap_if_pointer
from eastgate.fastpath.tls.failure cimport TlsFailure
from eastgate.fastpath.tls.openssl cimport (
    ASN1_TIME_to_tm, sk_X509_num, sk_X509_value, SSL, SSL_AD_ILLEGAL_PARAMETER, SSL_CLIENT_HELLO_ERROR,
    SSL_client_hello_get0_ext, SSL_CLIENT_HELLO_SUCCESS, SSL_CTX_free, SSL_get0_peer_certificate, SSL_get_ex_data,
    SSL_get_ex_data_X509_STORE_CTX_idx, SSL_get_session, SSL_SESSION, SSL_SESSION_free, SSL_SESSION_get0_ticket_appdata,
    SSL_SESSION_get_timeout, SSL_SESSION_is_resumable, SSL_session_reused, SSL_SESSION_set1_ticket_appdata,
    SSL_SESSION_set_timeout, SSL_set_session, SSL_TLSEXT_ERR_NOACK, SSL_TLSEXT_ERR_OK, SSL_version, TLS1_3_VERSION,
    TLSEXT_TYPE_application_layer_protocol_negotiation, TLSEXT_TYPE_server_name, X509, X509_CHAIN, X509_get0_notAfter,
    X509_STORE_CTX, X509_STORE_CTX_get0_cert, X509_STORE_CTX_get0_chain, X509_STORE_CTX_get_error,
    X509_STORE_CTX_get_ex_data, X509_STORE_CTX_set_error, X509_V_ERR_APPLICATION_VERIFICATION,
    X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
    X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT,
    X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, X509_verify_cert,
)
from eastgate.fastpath.tls.peer_names cimport check_names, same_text, uri_name

cdef extern from "time.h" nogil:
    long timegm(tm* time)

cdef enum:
    SERVER_NAME_OFFSET = 5      # of a server_name extension: list length 2, name type 1, name length 2
    ALPN_OFFSET = 2             # of an ALPN extension: list length 2


cdef TlsFailure check_peer_names(const TlsContext* context, SSL* ssl) noexcept nogil:
    cdef X509* certificate = SSL_get0_peer_certificate(ssl)
    if certificate == NULL:
        return TlsFailure.TLS_NO_CERTIFICATE if context.rule_count else TlsFailure.TLS_FINE
    return check_names(context.rules, context.rule_count, certificate)


cdef bint has_certificate(SSL* ssl) noexcept nogil:
    return SSL_get0_peer_certificate(ssl) != NULL


cdef size_t peer_uri(SSL* ssl, char* into, size_t capacity) noexcept nogil:
    cdef X509* certificate = SSL_get0_peer_certificate(ssl)
    return 0 if certificate == NULL else uri_name(certificate, into, capacity)


cdef TlsFailure chain_failure(int error) noexcept nogil:
    if error == X509_V_ERR_CERT_HAS_EXPIRED:
        return TlsFailure.TLS_EXPIRED
    if error == X509_V_ERR_CERT_NOT_YET_VALID:
        return TlsFailure.TLS_NOT_YET_VALID
    if (
        error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT
        or error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
        or error == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT
        or error == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN
        or error == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE
    ):
        return TlsFailure.TLS_UNKNOWN_CA
    return TlsFailure.TLS_BAD_CERTIFICATE


cdef int64_t end_of_chain(X509_STORE_CTX* store) noexcept nogil:
    """Seconds since 1970 when the first certificate of the verified chain ends."""
    cdef X509_CHAIN* chain = X509_STORE_CTX_get0_chain(store)
    cdef int64_t ends = INT64_MAX
    cdef int place
    cdef tm time
    for place in range(sk_X509_num(chain)):
        if ASN1_TIME_to_tm(X509_get0_notAfter(sk_X509_value(chain, place)), &time) == 1:
            ends = min(ends, <int64_t>timegm(&time))
    return ends


cdef int verify_peer(X509_STORE_CTX* store, void* argument) noexcept nogil:
    """cert_verify_callback of OpenSSL: 1 accepts."""
    cdef TlsContext* context = <TlsContext*>argument
    cdef SSL* ssl = <SSL*>X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx())
    cdef Handshake* handshake = <Handshake*>SSL_get_ex_data(ssl, 0)
    cdef TlsFailure failure
    if not context.verifies:
        return 1
    if X509_verify_cert(store) <= 0:
        handshake.failure = chain_failure(X509_STORE_CTX_get_error(store))
        return 0
    failure = check_names(context.rules, context.rule_count, X509_STORE_CTX_get0_cert(store))
    if failure != TlsFailure.TLS_FINE:
        handshake.failure = failure
        X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION)
        return 0
    handshake.ends = end_of_chain(store)
    return 1


cdef void bind_session(SSL* ssl, SSL_SESSION* session) noexcept nogil:
    """Of a server: a session goes on no longer than the chain that its client first showed. What it was taken from says
    when that ends."""
    cdef Handshake* handshake = <Handshake*>SSL_get_ex_data(ssl, 0)
    cdef void* said = NULL
    cdef size_t length = 0
    if SSL_session_reused(ssl) and SSL_SESSION_get0_ticket_appdata(session, &said, &length) == 1:
        if length == sizeof(handshake.ends):
            memcpy(&handshake.ends, said, sizeof(handshake.ends))
    if SSL_SESSION_set1_ticket_appdata(session, &handshake.ends, sizeof(handshake.ends)) != 1:
        SSL_SESSION_set_timeout(session, 0)
        return
    SSL_SESSION_set_timeout(
        session, <long>max(0, min(<int64_t>SSL_SESSION_get_timeout(session), handshake.ends - unix_time(NULL)))
    )


cdef int make_ticket(SSL* ssl, void* argument) noexcept nogil:
    """Of a server, in TLS 1.3: before a session is kept, and its client gets the name of it."""
    bind_session(ssl, SSL_get_session(ssl))
    return 1


cdef int note_session(SSL* ssl, SSL_SESSION* session) noexcept nogil:
    """sess_set_new_cb of a server: before TLS 1.3 there are no tickets that could be bound. 0: the cache alone keeps
    it."""
    if SSL_version(ssl) < TLS1_3_VERSION:
        bind_session(ssl, session)
    return 0


cdef void free_ticket(Ticket* ticket) noexcept nogil:
    if ticket == NULL:
        return
    SSL_SESSION_free(ticket.session)
    tls_context_release(ticket.context)
    free(ticket)


cdef void forget_ticket(TicketPlace* place) noexcept nogil:
    free_ticket(<Ticket*>atomic_exchange_pointer(<void**>&place.ticket, NULL))


cdef int keep_session(SSL* ssl, SSL_SESSION* session) noexcept nogil:
    """sess_set_new_cb of a client: 1 keeps the reference to the session."""
    cdef Handshake* handshake = <Handshake*>SSL_get_ex_data(ssl, 0)
    cdef Ticket* ticket
    if handshake.tickets == NULL or SSL_SESSION_is_resumable(session) != 1:
        return 0
    ticket = <Ticket*>malloc(sizeof(Ticket))
    if ticket == NULL:
        return 0
    ticket.context = <TlsContext*>handshake.context
    tls_context_acquire(ticket.context)
    ticket.session = session
    ticket.ends = handshake.ends
    free_ticket(<Ticket*>atomic_exchange_pointer(<void**>&handshake.tickets.ticket, ticket))
    return 1


cdef void offer_ticket(SSL* ssl, Handshake* handshake, int64_t now) noexcept nogil:
    """The ticket is taken out of its place while it is looked at, and put back: a burst resumes one session, and nobody
    frees what another worker reads."""
    cdef Ticket* ticket = <Ticket*>atomic_exchange_pointer(<void**>&handshake.tickets.ticket, NULL)
    cdef void* none = NULL
    if ticket == NULL:
        return
    if ticket.context != handshake.context or ticket.ends <= now or SSL_set_session(ssl, ticket.session) != 1:
        free_ticket(ticket)
        return
    handshake.ends = ticket.ends
    # Somebody may have brought a newer one meanwhile.
    if not atomic_swap_if_pointer(<void**>&handshake.tickets.ticket, &none, ticket):
        free_ticket(ticket)


cdef int check_hello(SSL* ssl, int* alert, void* argument) noexcept nogil:
    """client_hello_cb of OpenSSL, called for each hello, that after a HelloRetryRequest too: it offers what the
    connection was routed by, or the connection ends."""
    cdef Handshake* handshake = <Handshake*>SSL_get_ex_data(ssl, 0)
    cdef const uint8_t* extension = NULL
    cdef size_t length = 0
    cdef bint same = True
    if not handshake.checks_hello:
        return SSL_CLIENT_HELLO_SUCCESS
    if SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &extension, &length):
        same = (
            length == <size_t>(SERVER_NAME_OFFSET + handshake.server_name_length)
            and same_text(extension + SERVER_NAME_OFFSET, <char*>handshake.expected, handshake.server_name_length, True)
        )
    else:
        same = handshake.server_name_length == 0
    if SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &extension, &length):
        same = (
            same
            and length == <size_t>(ALPN_OFFSET + handshake.alpn_length)
            and memcmp(
                extension + ALPN_OFFSET, handshake.expected + handshake.server_name_length, handshake.alpn_length
            ) == 0
        )
    else:
        same = same and handshake.alpn_length == 0
    if same:
        return SSL_CLIENT_HELLO_SUCCESS
    handshake.failure = TlsFailure.TLS_HELLO_CHANGED
    alert[0] = SSL_AD_ILLEGAL_PARAMETER
    return SSL_CLIENT_HELLO_ERROR


cdef int choose_protocol(
    SSL* ssl, const unsigned char** chosen, unsigned char* chosen_length,
    const unsigned char* offered, unsigned int offered_length, void* argument
) noexcept nogil:
    """alpn_select_cb of OpenSSL. The first of ours that the client offers; none in common is no alert."""
    cdef TlsContext* context = <TlsContext*>argument
    cdef uint32_t own = 0
    cdef unsigned int place
    while own < context.alpn_length:
        place = 0
        while place + 1 + offered[place] <= offered_length:
            if offered[place] == context.alpn[own] and memcmp(
                offered + place + 1, context.alpn + own + 1, context.alpn[own]
            ) == 0:
                chosen[0] = offered + place + 1
                chosen_length[0] = offered[place]
                return SSL_TLSEXT_ERR_OK
            place += 1 + offered[place]
            if place >= offered_length:
                break
        own += 1 + context.alpn[own]
    return SSL_TLSEXT_ERR_NOACK


cdef void tls_context_acquire(TlsContext* context) noexcept nogil:
    atomic_add(&context.references, 1)


cdef void tls_context_release(TlsContext* context) noexcept nogil:
    cdef uint32_t rule
    if atomic_sub_release(&context.references, 1) != 1:
        return
    SSL_CTX_free(context.ssl)
    for rule in range(context.rule_count):
        free(context.rules[rule].value)
    free(context.rules)
    free(context.alpn)
    free(context.server_name)
    free(context)
