# What one side of connections needs of TLS, built by context.pyx, and what OpenSSL's callbacks read and write of one
# handshake. A context is shared by workers, immutable, and freed with the last connection that uses it.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from eastgate.fastpath.tls.failure cimport TlsFailure
from eastgate.fastpath.tls.openssl cimport SSL, SSL_CTX, SSL_SESSION, X509_STORE_CTX
from eastgate.fastpath.tls.peer_names cimport NameRule

cdef struct TlsContext:
    uint32_t references         # atomic
    SSL_CTX* ssl
    uint8_t is_server
    uint8_t verifies            # there are roots
    uint8_t requires_certificate
    uint8_t is_istio            # of a client: it offers `istio`, so that Istio's ALPN of a connection takes its place
    NameRule* rules             # owned; one must match, where there are any
    uint32_t rule_count
    uint8_t* alpn               # owned; wire form: what a client offers, a server chooses from
    uint32_t alpn_length
    char* server_name           # owned; of a client, NULL: none

# A session that a client may resume. Of one context: another certificate, other roots or other names make another one.
cdef struct Ticket:
    TlsContext* context         # counted reference
    SSL_SESSION* session
    int64_t ends                # seconds since 1970: when the first certificate of the peer's chain does

# The newest session with one endpoint. Several workers and many connections use one place.
cdef struct TicketPlace:
    Ticket* ticket              # atomic; NULL: none, or in somebody's hands for a moment

# What OpenSSL's callbacks read and write of one handshake: ex data 0 of its SSL.
cdef struct Handshake:
    uint8_t failure             # TlsFailure, the first one
    uint8_t checks_hello        # `server_name` and `alpn` are what the connection was routed by
    uint16_t server_name_length
    uint16_t alpn_length
    uint8_t* expected           # owned, until it is relayed: lower case server name, wire form of the ALPN offer
    int64_t ends                # as in Ticket
    TicketPlace* tickets        # of a client's endpoint, alive as long as the connection; NULL: nothing is resumed
    const TlsContext* context

cdef void tls_context_acquire(TlsContext* context) noexcept nogil
cdef void tls_context_release(TlsContext* context) noexcept nogil
# Does a name of the peer's certificate match? TLS_FINE, or why not. For a resumed session the caller asks again.
cdef TlsFailure check_peer_names(const TlsContext* context, SSL* ssl) noexcept nogil
# Whether the peer has shown one, in this handshake or in that of the session that is resumed.
cdef bint has_certificate(SSL* ssl) noexcept nogil
# First URI name of the peer's certificate into `into`; its length, 0 where there is none or it does not fit.
cdef size_t peer_uri(SSL* ssl, char* into, size_t capacity) noexcept nogil

# Have a client resume the session of its place, if that is of this context and still good.
cdef void offer_ticket(SSL* ssl, Handshake* handshake, int64_t now) noexcept nogil
cdef void forget_ticket(TicketPlace* place) noexcept nogil

# Callbacks of OpenSSL; the argument is a TlsContext.
cdef int verify_peer(X509_STORE_CTX* store, void* argument) noexcept nogil
cdef int check_hello(SSL* ssl, int* alert, void* argument) noexcept nogil
cdef int choose_protocol(
    SSL* ssl, const unsigned char** chosen, unsigned char* chosen_length,
    const unsigned char* offered, unsigned int offered_length, void* argument
) noexcept nogil
cdef int make_ticket(SSL* ssl, void* argument) noexcept nogil
cdef int note_session(SSL* ssl, SSL_SESSION* session) noexcept nogil
cdef int keep_session(SSL* ssl, SSL_SESSION* session) noexcept nogil
