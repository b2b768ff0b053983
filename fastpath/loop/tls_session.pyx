"""TLS on one socket, by OpenSSL over a BIO of our own.

Reading: OpenSSL is given first what was sniffed, then what one `recv` of many records brings (read-ahead).
`tls_receive` goes on until the caller's buffer is full or OpenSSL has nothing more, so that it is never asked whether
something is pending: with read-ahead it would say yes for a part of a record too.

Writing: the BIO takes everything. What one call makes is gathered in the worker's scratch and sent at once; what the
socket does not take is kept by the session, and until it is gone no more plaintext is taken. So OpenSSL never meets a
full socket: no call has to be repeated with the same bytes, and reading never waits for writing.

Ending: our close_notify is sent without a FIN, as Envoy does; the FIN comes when both directions have ended. A peer's
FIN without close_notify is an end where a record ends, and a truncation within one: the BIO counts records to know.
"""
from libc.stdint cimport INT64_MAX, int64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memmove
from libc.time cimport time as unix_time

from eastgate.fastpath.posix cimport EAGAIN, EINTR, MSG_DONTWAIT, MSG_NOSIGNAL, errno, recv, send
from eastgate.fastpath.tls.failure cimport TlsFailure
from eastgate.fastpath.tls.handshake cimport (
    check_peer_names, offer_ticket, tls_context_acquire, tls_context_release,
)
from eastgate.fastpath.tls.openssl cimport (
    BIO, BIO_clear_retry_flags, BIO_CTRL_EOF, BIO_CTRL_FLUSH, BIO_get_data, BIO_get_new_index, BIO_meth_new,
    BIO_meth_set_ctrl, BIO_meth_set_read_ex, BIO_meth_set_write_ex, BIO_METHOD, BIO_new, BIO_set_data, BIO_set_init,
    BIO_set_retry_read, BIO_TYPE_SOURCE_SINK, ERR_clear_error, ERR_GET_LIB, ERR_GET_REASON, ERR_LIB_SSL, ERR_peek_error,
    SSL_AD_REASON_OFFSET, SSL_do_handshake, SSL_ERROR_WANT_READ, SSL_ERROR_ZERO_RETURN, SSL_free, SSL_get_error,
    SSL_is_init_finished, SSL_new, SSL_R_NO_SHARED_CIPHER, SSL_R_NO_SHARED_GROUPS,
    SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, SSL_R_UNSUPPORTED_PROTOCOL, SSL_R_VERSION_TOO_LOW, SSL_R_WRONG_SSL_VERSION,
    SSL_read_ex, SSL_RECEIVED_SHUTDOWN, SSL_SENT_SHUTDOWN, SSL_session_reused, SSL_set_accept_state,
    SSL_set_alpn_protos, SSL_set_bio, SSL_set_connect_state, SSL_set_ex_data, SSL_set_shutdown,
    SSL_set_tlsext_host_name, SSL_shutdown, SSL_write_ex,
)

cdef enum:
    RECORD_HEADER = 5
    DRAIN_MOST = 262144         # what is read and thrown away before a close; a peer that goes on sending gets its RST
    VERSION_ALERT = 70          # protocol_version, RFC 8446 6.2

cdef BIO_METHOD* METHOD = NULL


cdef void count_records(TlsSession* session, const uint8_t* data, size_t length) noexcept nogil:
    """Follow record headers: is the place behind these bytes the end of a record?"""
    cdef size_t part
    while length:
        if session.record_left:
            part = min(length, <size_t>session.record_left)
            session.record_left -= <uint32_t>part
        else:
            part = min(length, <size_t>(RECORD_HEADER - session.header_length))
            memcpy(session.header + session.header_length, data, part)
            session.header_length += <uint8_t>part
            if session.header_length == RECORD_HEADER:
                session.header_length = 0
                session.record_left = (<uint32_t>session.header[3] << 8) | session.header[4]
        data += part
        length -= part


cdef int read_some(BIO* bio, char* into, size_t length, size_t* got) noexcept nogil:
    cdef TlsSession* session = <TlsSession*>BIO_get_data(bio)
    cdef ssize_t received
    BIO_clear_retry_flags(bio)
    got[0] = 0
    if session.held_length:
        length = min(length, <size_t>session.held_length)
        memcpy(into, session.held + session.held_offset, length)
        session.held_offset += <uint32_t>length
        session.held_length -= <uint32_t>length
        if session.held_length == 0:
            free(session.held)
            session.held = NULL
        count_records(session, <uint8_t*>into, length)
        got[0] = length
        return 1
    while not session.drained and not session.stream_ended:
        received = recv(session.fd, into, length, MSG_DONTWAIT)
        if received > 0:
            if <size_t>received < length and not session.hung_up:
                session.drained = 1
            count_records(session, <uint8_t*>into, <size_t>received)
            got[0] = <size_t>received
            return 1
        if received == 0:
            session.stream_ended = 1
        elif errno == EAGAIN:
            session.drained = 1
        elif errno != EINTR:
            session.broken = 1
            return 0
    if not session.stream_ended:
        BIO_set_retry_read(bio)
    return 0


cdef int write_some(BIO* bio, const char* data, size_t length, size_t* taken) noexcept nogil:
    cdef TlsSession* session = <TlsSession*>BIO_get_data(bio)
    cdef TlsScratch* scratch = session.scratch
    BIO_clear_retry_flags(bio)
    taken[0] = 0
    if length > TLS_SCRATCH - scratch.length:
        session.broken = 1
        return 0
    memcpy(scratch.bytes + scratch.length, data, length)
    scratch.length += length
    taken[0] = length
    return 1


cdef long control(BIO* bio, int command, long number, void* pointer) noexcept nogil:
    # Flushing is done behind each call. OpenSSL asks for the end to tell it from a fault.
    if command == BIO_CTRL_EOF:
        return (<TlsSession*>BIO_get_data(bio)).stream_ended
    return command == BIO_CTRL_FLUSH


def _make_method():
    global METHOD
    METHOD = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, b"eastgate leg")
    if METHOD == NULL:
        raise MemoryError
    BIO_meth_set_read_ex(METHOD, read_some)
    BIO_meth_set_write_ex(METHOD, write_some)
    BIO_meth_set_ctrl(METHOD, control)


_make_method()


cdef bint keep(TlsSession* session, const uint8_t* data, size_t length) noexcept nogil:
    """Behind what waits already."""
    cdef uint8_t* grown
    if session.out_offset:
        memmove(session.out, session.out + session.out_offset, session.out_length)
        session.out_offset = 0
    grown = <uint8_t*>realloc(session.out, session.out_length + length)
    if grown == NULL:
        return False
    memcpy(grown + session.out_length, data, length)
    session.out = grown
    session.out_length += <uint32_t>length
    return True


cdef ssize_t push(TlsSession* session, const uint8_t* data, size_t length) noexcept nogil:
    """Bytes that the socket took, -1: broken."""
    cdef size_t sent = 0
    cdef ssize_t taken
    while sent < length:
        taken = send(session.fd, data + sent, length - sent, MSG_NOSIGNAL | MSG_DONTWAIT)
        if taken >= 0:
            sent += <size_t>taken
        elif errno == EAGAIN:
            break
        elif errno != EINTR:
            session.broken = 1
            return -1
    return <ssize_t>sent


cdef int tls_flush(TlsSession* session) noexcept nogil:
    cdef ssize_t sent
    if session.out_length == 0:
        return 1
    sent = push(session, session.out + session.out_offset, session.out_length)
    if sent < 0:
        return -1
    session.out_offset += <uint32_t>sent
    session.out_length -= <uint32_t>sent
    if session.out_length:
        return 0
    free(session.out)
    session.out = NULL
    session.out_offset = 0
    return 1


cdef int send_gathered(TlsSession* session) noexcept nogil:
    """Behind each call of OpenSSL that may write. As tls_flush."""
    cdef TlsScratch* scratch = session.scratch
    cdef size_t length = scratch.length
    cdef ssize_t sent = 0
    cdef int flushed = tls_flush(session)
    scratch.length = 0
    if length == 0 or flushed < 0:
        return flushed
    if flushed:
        sent = push(session, scratch.bytes, length)
        if sent < 0:
            return -1
    if <size_t>sent == length:
        return 1
    if not keep(session, scratch.bytes + sent, length - <size_t>sent):
        session.handshake.failure = TlsFailure.TLS_NO_MEMORY
        session.broken = 1
        return -1
    return 0


cdef TlsFailure failure_of(TlsSession* session) noexcept nogil:
    cdef unsigned long code = ERR_peek_error()
    cdef int reason = ERR_GET_REASON(code)
    if session.stream_ended:
        return TlsFailure.TLS_TRUNCATED
    if session.broken or code == 0:
        return TlsFailure.TLS_RESET
    if ERR_GET_LIB(code) != ERR_LIB_SSL:
        return TlsFailure.TLS_PROTOCOL
    if reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return TlsFailure.TLS_NO_CERTIFICATE
    if reason in (
        SSL_R_UNSUPPORTED_PROTOCOL, SSL_R_VERSION_TOO_LOW, SSL_R_WRONG_SSL_VERSION, SSL_AD_REASON_OFFSET + VERSION_ALERT
    ):
        return TlsFailure.TLS_VERSION
    if reason in (SSL_R_NO_SHARED_CIPHER, SSL_R_NO_SHARED_GROUPS):
        return TlsFailure.TLS_NO_CIPHER
    return TlsFailure.TLS_PEER_ALERT if reason > SSL_AD_REASON_OFFSET else TlsFailure.TLS_PROTOCOL


cdef void note_failure(TlsSession* session) noexcept nogil:
    if session.handshake.failure == TlsFailure.TLS_FINE:
        session.handshake.failure = <uint8_t>failure_of(session)
    session.broken = 1
    ERR_clear_error()


cdef bint expect(Handshake* handshake, const Offer* offer) noexcept nogil:
    handshake.expected = <uint8_t*>malloc(<size_t>offer.server_name_length + offer.alpn_length + 1)
    if handshake.expected == NULL:
        return False
    if offer.server_name_length:
        memcpy(handshake.expected, offer.server_name, offer.server_name_length)
    if offer.alpn_length:
        memcpy(handshake.expected + offer.server_name_length, offer.alpn, offer.alpn_length)
    handshake.server_name_length = offer.server_name_length
    handshake.alpn_length = offer.alpn_length
    handshake.checks_hello = 1
    return True


cdef bint attach(TlsSession* session) noexcept nogil:
    cdef BIO* bio = BIO_new(METHOD)
    if bio == NULL:
        return False
    BIO_set_data(bio, session)
    BIO_set_init(bio, 1)
    SSL_set_bio(session.ssl, bio, bio)
    return SSL_set_ex_data(session.ssl, 0, &session.handshake) == 1


cdef bint prepare_client(TlsSession* session, const Offer* offer) noexcept nogil:
    cdef const char* name = session.context.server_name
    SSL_set_connect_state(session.ssl)
    if offer != NULL and offer.server_name != NULL:
        name = offer.server_name
    if name != NULL and SSL_set_tlsext_host_name(session.ssl, name) != 1:
        return False
    if offer == NULL or offer.alpn == NULL:
        return True
    return SSL_set_alpn_protos(session.ssl, offer.alpn, offer.alpn_length) == 0


cdef TlsSession* tls_open(
    TlsContext* context, int fd, TlsScratch* scratch, uint8_t* held, uint32_t held_length, const Offer* offer,
    TicketPlace* tickets
) noexcept nogil:
    cdef TlsSession* session = <TlsSession*>calloc(1, sizeof(TlsSession))
    cdef bint ready
    if session == NULL:
        free(held)
        return NULL
    tls_context_acquire(context)
    session.context = context
    session.fd = fd
    session.scratch = scratch
    session.held = held
    session.held_length = held_length
    session.handshake.context = context
    session.handshake.ends = INT64_MAX
    session.handshake.tickets = tickets
    session.ssl = SSL_new(context.ssl)
    ready = session.ssl != NULL and attach(session)
    if ready and context.is_server:
        SSL_set_accept_state(session.ssl)
        ready = offer == NULL or expect(&session.handshake, offer)
    elif ready:
        if tickets != NULL:
            offer_ticket(session.ssl, &session.handshake, <int64_t>unix_time(NULL))
        ready = prepare_client(session, offer)
    if ready:
        return session
    ERR_clear_error()
    tls_free(session)
    return NULL


cdef TlsStatus tls_handshake(TlsSession* session) noexcept nogil:
    cdef int result, error
    cdef TlsFailure failure
    if session.broken or tls_flush(session) < 0:
        note_failure(session)
        return TLS_FAILED
    ERR_clear_error()
    result = SSL_do_handshake(session.ssl)
    error = SSL_get_error(session.ssl, result) if result <= 0 else 0
    # What it made goes out in any case: a failure's alert too.
    if send_gathered(session) < 0 or (result <= 0 and error != SSL_ERROR_WANT_READ):
        note_failure(session)
        return TLS_FAILED
    if result <= 0:
        return TLS_WAIT
    if SSL_session_reused(session.ssl):
        # OpenSSL asks nobody about the certificate of a session.
        failure = check_peer_names(session.context, session.ssl)
        if failure != TlsFailure.TLS_FINE:
            session.handshake.failure = <uint8_t>failure
            session.broken = 1
            return TLS_FAILED
    session.handshake.checks_hello = 0
    return TLS_DONE


cdef ssize_t tls_receive(TlsSession* session, uint8_t* buffer, size_t length) noexcept nogil:
    cdef size_t got = 0
    cdef size_t part = 0
    cdef int error
    if session.broken:
        return -1
    ERR_clear_error()
    while got < length:
        if SSL_read_ex(session.ssl, buffer + got, length - got, &part) == 1:
            got += part
            continue
        error = SSL_get_error(session.ssl, 0)
        if error == SSL_ERROR_WANT_READ:
            break
        if error == SSL_ERROR_ZERO_RETURN and not (session.stream_ended and (
            session.record_left or session.header_length
        )):
            session.ended = 1
            session.without_notify = session.stream_ended
            break
        if error == SSL_ERROR_ZERO_RETURN:
            session.handshake.failure = TlsFailure.TLS_TRUNCATED
        # What was read before the fault is delivered first; the fault is found again by the next call.
        note_failure(session)
        break
    if send_gathered(session) < 0 and got == 0:
        note_failure(session)
    return -1 if got == 0 and session.broken else <ssize_t>got


cdef ssize_t tls_send(TlsSession* session, const uint8_t* data, size_t length) noexcept nogil:
    cdef size_t taken = 0
    cdef int flushed = -1 if session.broken else tls_flush(session)
    if flushed <= 0 or length == 0:
        return flushed if flushed < 0 else 0
    length = min(length, <size_t>TLS_SEND_MOST)
    ERR_clear_error()
    if SSL_write_ex(session.ssl, data, length, &taken) != 1 or send_gathered(session) < 0:
        session.scratch.length = 0
        note_failure(session)
        return -1
    return <ssize_t>taken


cdef int tls_end(TlsSession* session) noexcept nogil:
    if session.broken:
        return -1
    if session.told or not SSL_is_init_finished(session.ssl):
        return 0
    session.told = 1
    ERR_clear_error()
    SSL_shutdown(session.ssl)
    ERR_clear_error()
    return -1 if send_gathered(session) < 0 else 0


cdef void tls_drain(TlsSession* session) noexcept nogil:
    cdef size_t left = DRAIN_MOST
    cdef ssize_t got
    while left and not session.stream_ended and not session.broken:
        got = recv(session.fd, session.scratch.bytes, min(left, <size_t>TLS_SCRATCH), MSG_DONTWAIT)
        if got <= 0:
            break
        left -= min(left, <size_t>got)


cdef void tls_free(TlsSession* session) noexcept nogil:
    if session == NULL:
        return
    # A connection that is cut does not spoil its session.
    SSL_set_shutdown(session.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN)
    SSL_free(session.ssl)
    session.scratch.length = 0
    tls_context_release(session.context)
    free(session.handshake.expected)
    free(session.held)
    free(session.out)
    free(session)
