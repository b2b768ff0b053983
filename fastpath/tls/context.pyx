"""Build contexts for TLS legs: certificate, key, roots and who is accepted, as one immutable thing.

Policies are Istio's: 1.2 and 1.3, no renegotiation, no compression, no early data, `istio-peer-exchange` neither
offered nor chosen.
"""
cimport cython
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from eastgate.fastpath.tls.handshake cimport (
    TlsContext, check_hello, choose_protocol, keep_session, make_ticket, note_session, tls_context_release, verify_peer,
)
from eastgate.fastpath.tls.openssl cimport (
    BIO, BIO_free, BIO_new_mem_buf, ERR_GET_REASON, ERR_R_MALLOC_FAILURE, ERR_clear_error, ERR_peek_error,
    ERR_peek_last_error, ERR_reason_error_string, EVP_PKEY, EVP_PKEY_free, PEM_R_NO_START_LINE,
    PEM_read_bio_PrivateKey, PEM_read_bio_X509, SSL_CTX, SSL_CTX_add1_chain_cert, SSL_CTX_check_private_key,
    SSL_CTX_get_cert_store, SSL_CTX_new, SSL_CTX_sess_set_cache_size, SSL_CTX_sess_set_new_cb,
    SSL_CTX_set1_groups_list, SSL_CTX_set_alpn_protos, SSL_CTX_set_alpn_select_cb,
    SSL_CTX_set_cert_verify_callback, SSL_CTX_set_cipher_list, SSL_CTX_set_client_hello_cb,
    SSL_CTX_set_default_read_buffer_len, SSL_CTX_set_max_proto_version, SSL_CTX_set_min_proto_version,
    SSL_CTX_set_mode, SSL_CTX_set_num_tickets, SSL_CTX_set_options, SSL_CTX_set_read_ahead,
    SSL_CTX_set_session_cache_mode, SSL_CTX_set_session_id_context, SSL_CTX_set_session_ticket_cb,
    SSL_CTX_set_timeout, SSL_CTX_set_verify, SSL_CTX_use_PrivateKey, SSL_CTX_use_certificate,
    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER, SSL_MODE_RELEASE_BUFFERS, SSL_OP_CIPHER_SERVER_PREFERENCE,
    SSL_OP_IGNORE_UNEXPECTED_EOF, SSL_OP_NO_COMPRESSION, SSL_OP_NO_RENEGOTIATION, SSL_OP_NO_TICKET,
    SSL_SESS_CACHE_CLIENT, SSL_SESS_CACHE_NO_INTERNAL, SSL_SESS_CACHE_OFF, SSL_SESS_CACHE_SERVER,
    SSL_VERIFY_FAIL_IF_NO_PEER_CERT, SSL_VERIFY_NONE, SSL_VERIFY_PEER, TLS1_2_VERSION, TLS1_3_VERSION,
    TLS_method, X509, X509_STORE, X509_STORE_add_cert, X509_STORE_set_flags, X509_V_FLAG_PARTIAL_CHAIN,
    X509_free,
)
from eastgate.fastpath.tls.peer_names cimport (
    NAME_ANY, NAME_CONTAINS, NAME_DNS, NAME_EXACT, NAME_PREFIX, NAME_SUFFIX, NAME_URI, NameRule,
)

NEVER_NEGOTIATED = "istio-peer-exchange"
# What a client of Istio's mTLS offers in any case, and no other.
MESH_PROTOCOL = "istio"
# Istio's list (pilot/pkg/networking/core/listener_builder); the suites of TLS 1.3 are OpenSSL's own.
CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:"
    "ECDHE-RSA-AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-GCM-SHA256"
)
cdef enum:
    SESSION_S = 3600            # how long a session may be resumed; Envoy's default is two hours
    SESSIONS_KEPT = 2048        # by a server; 12 kB each when all are of different clients, less than 1 kB when of one
    READ_BUFFER = 65536         # one recv a batch of records; given back while the leg is idle

_HOWS = {"exact": NAME_EXACT, "prefix": NAME_PREFIX, "suffix": NAME_SUFFIX, "contains": NAME_CONTAINS}
_KINDS = {"": NAME_ANY, "URI": NAME_URI, "DNS": NAME_DNS}


class TlsContextError(ValueError):
    """A context that cannot be built; the text is one line of ours, never a part of a key."""


cdef int no_password(char* into, int size, int writing, void* argument) noexcept nogil:
    # Without it OpenSSL would ask at the terminal.
    return -1


cdef str reason_of(unsigned long error):
    cdef const char* text = ERR_reason_error_string(error)
    return "unknown error" if text == NULL else (<bytes>text).decode("ascii", "replace")


cdef str last_error():
    text = reason_of(ERR_peek_last_error())
    ERR_clear_error()
    return text


cdef list certificates_of(bytes pem, str what):
    """Addresses of the X509s of a bundle, in its order; the caller frees them."""
    cdef BIO* bio = BIO_new_mem_buf(<const char*>pem, <int>len(pem))
    cdef X509* certificate
    cdef unsigned long error
    found = []
    if bio == NULL:
        raise MemoryError
    ERR_clear_error()
    while True:
        certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)
        if certificate == NULL:
            break
        found.append(<size_t>certificate)
    BIO_free(bio)
    # The first one is the cause of the others.
    error = ERR_peek_error()
    ERR_clear_error()
    if ERR_GET_REASON(error) != PEM_R_NO_START_LINE:
        free_certificates(found)
        if ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE:
            raise MemoryError
        raise TlsContextError(f"{what}: certificate {len(found) + 1} cannot be read: {reason_of(error)}")
    if not found:
        raise TlsContextError(f"{what}: no certificate in PEM form")
    return found


cdef int free_certificates(list certificates) except -1:
    for address in certificates:
        X509_free(<X509*><size_t>address)
    return 0


cdef int use_chain(SSL_CTX* ssl, bytes chain) except -1:
    certificates = certificates_of(chain, "certificate chain")
    try:
        if SSL_CTX_use_certificate(ssl, <X509*><size_t>certificates[0]) != 1:
            raise TlsContextError(f"certificate chain: {last_error()}")
        for address in certificates[1:]:
            if SSL_CTX_add1_chain_cert(ssl, <X509*><size_t>address) != 1:
                raise TlsContextError(f"certificate chain: {last_error()}")
    finally:
        free_certificates(certificates)
    return 0


cdef int use_key(SSL_CTX* ssl, bytes pem) except -1:
    cdef BIO* bio = BIO_new_mem_buf(<const char*>pem, <int>len(pem))
    cdef EVP_PKEY* key
    if bio == NULL:
        raise MemoryError
    key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL)
    BIO_free(bio)
    if key == NULL:
        ERR_clear_error()
        raise TlsContextError("private key: not one in PEM form without a password")
    used = SSL_CTX_use_PrivateKey(ssl, key) == 1 and SSL_CTX_check_private_key(ssl) == 1
    EVP_PKEY_free(key)
    ERR_clear_error()
    if not used:
        raise TlsContextError("private key: it does not belong to the certificate")
    return 0


cdef int use_roots(SSL_CTX* ssl, bytes pem) except -1:
    cdef X509_STORE* store = SSL_CTX_get_cert_store(ssl)
    certificates = certificates_of(pem, "roots")
    try:
        X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN)
        for address in certificates:
            if X509_STORE_add_cert(store, <X509*><size_t>address) != 1:
                raise TlsContextError(f"roots: {last_error()}")
    finally:
        free_certificates(certificates)
    return 0


cdef int use_names(TlsContext* context, names) except -1:
    context.rules = <NameRule*>calloc(max(1, len(names)), sizeof(NameRule))
    if context.rules == NULL:
        raise MemoryError
    for name in names:
        if name.how not in _HOWS or name.kind not in _KINDS:
            matched = f"{name.how} of {name.kind or 'any name'}"
            raise TlsContextError(f"accepted name {name.value!r}: {matched} is not evaluated")
        value = name.value.encode()
        rule = &context.rules[context.rule_count]
        rule.value = <char*>malloc(len(value) + 1)
        if rule.value == NULL:
            raise MemoryError
        memcpy(rule.value, <const char*>value, len(value))
        rule.length = <uint32_t>len(value)
        rule.how = _HOWS[name.how]
        rule.kind = _KINDS[name.kind]
        rule.ignore_case = name.ignore_case
        context.rule_count += 1
    return 0


def alpn_wire(protocols):
    """Names of protocols in the form of RFC 7301: each behind a byte with its length. ValueError for a bad one."""
    wire = b""
    for protocol in protocols:
        name = protocol.encode()
        if not 0 < len(name) < 256:
            raise TlsContextError(f"ALPN {protocol!r}: its length is not 1 to 255 bytes")
        wire += bytes((len(name),)) + name
    return wire


cdef int use_protocols(TlsContext* context, protocols) except -1:
    wire = alpn_wire([one for one in protocols if one != NEVER_NEGOTIATED])
    context.is_istio = not context.is_server and MESH_PROTOCOL in protocols
    context.alpn = <uint8_t*>malloc(len(wire) + 1)
    if context.alpn == NULL:
        raise MemoryError
    memcpy(context.alpn, <const char*>wire, len(wire))
    context.alpn_length = <uint32_t>len(wire)
    if wire and context.is_server:
        SSL_CTX_set_alpn_select_cb(context.ssl, choose_protocol, context)
    elif wire and SSL_CTX_set_alpn_protos(context.ssl, context.alpn, context.alpn_length) != 0:
        raise MemoryError
    return 0


cdef void set_resumption(TlsContext* context, bint resumes) noexcept:
    """A client keeps one session an endpoint, a server the newest of its clients: what OpenSSL would write into a
    ticket holds the client's certificate, and reading that again takes longer than the rest of the handshake. Sessions
    are the context's, so that a new certificate, other roots or other names end all of them."""
    cdef SSL_CTX* ssl = context.ssl
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF)
    if not resumes:
        SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET)
        SSL_CTX_set_num_tickets(ssl, 0)
    elif context.is_server:
        SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_SERVER)
        SSL_CTX_sess_set_cache_size(ssl, SESSIONS_KEPT)
        # In TLS 1.3 the client still gets a ticket, which is the name of a session.
        SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET)
        SSL_CTX_set_timeout(ssl, SESSION_S)
        SSL_CTX_set_session_id_context(ssl, b"eastgate", 8)
        SSL_CTX_set_num_tickets(ssl, 1)
        SSL_CTX_set_session_ticket_cb(ssl, make_ticket, NULL, NULL)
        SSL_CTX_sess_set_new_cb(ssl, note_session)
    else:
        SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL)
        SSL_CTX_sess_set_new_cb(ssl, keep_session)


cdef int set_policy(TlsContext* context, spec) except -1:
    cdef SSL_CTX* ssl = context.ssl
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE)
    if not spec.strict_end:
        SSL_CTX_set_options(ssl, SSL_OP_IGNORE_UNEXPECTED_EOF)
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER)
    SSL_CTX_set_read_ahead(ssl, 1)
    SSL_CTX_set_default_read_buffer_len(ssl, READ_BUFFER)
    set_resumption(context, spec.resumes)
    versions = {"1.2": TLS1_2_VERSION, "1.3": TLS1_3_VERSION}
    if spec.minimum_version not in versions or spec.maximum_version not in versions:
        raise TlsContextError(f"TLS {spec.minimum_version} to {spec.maximum_version}: only 1.2 and 1.3 are spoken")
    SSL_CTX_set_min_proto_version(ssl, versions[spec.minimum_version])
    SSL_CTX_set_max_proto_version(ssl, versions[spec.maximum_version])
    if SSL_CTX_set_cipher_list(ssl, (spec.ciphers or CIPHERS).encode("ascii")) != 1:
        raise TlsContextError(f"cipher list {spec.ciphers!r}: {last_error()}")
    if spec.groups and SSL_CTX_set1_groups_list(ssl, spec.groups.encode("ascii")) != 1:
        raise TlsContextError(f"groups {spec.groups!r}: {last_error()}")
    return 0


@cython.final
@cython.auto_pickle(False)
cdef class Context:
    """One side's TLS for many connections: ``Context.build(spec)``. Holds one reference; connections hold more."""

    def __dealloc__(self):
        if self.context != NULL:
            tls_context_release(self.context)

    @staticmethod
    def build(spec):
        """Build from a `ContextSpec`. TlsContextError: what of it cannot be used."""
        cdef Context built = Context.__new__(Context)
        cdef TlsContext* context = <TlsContext*>calloc(1, sizeof(TlsContext))
        cdef int mode = SSL_VERIFY_NONE
        if context == NULL:
            raise MemoryError
        context.ssl = SSL_CTX_new(TLS_method())
        if context.ssl == NULL:
            free(context)
            raise MemoryError
        context.references = 1
        built.context = context
        context.is_server = spec.is_server
        set_policy(context, spec)
        if spec.chain:
            use_chain(context.ssl, spec.chain)
            use_key(context.ssl, spec.private_key)
        elif spec.is_server:
            raise TlsContextError("a server needs a certificate")
        context.requires_certificate = spec.requires_certificate
        if spec.roots:
            use_roots(context.ssl, spec.roots)
            context.verifies = True
            mode = SSL_VERIFY_PEER
            if spec.requires_certificate:
                mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT
        elif spec.requires_certificate or spec.names:
            raise TlsContextError("peers cannot be checked without roots")
        SSL_CTX_set_verify(context.ssl, mode, NULL)
        SSL_CTX_set_cert_verify_callback(context.ssl, verify_peer, context)
        use_names(context, spec.names)
        use_protocols(context, spec.protocols)
        if spec.is_server:
            SSL_CTX_set_client_hello_cb(context.ssl, check_hello, context)
        elif spec.server_name:
            name = spec.server_name.encode("ascii")
            context.server_name = <char*>calloc(1, len(name) + 1)
            if context.server_name == NULL:
                raise MemoryError
            memcpy(context.server_name, <const char*>name, len(name))
        return built
