# TLS on one socket: what a leg of the TLS kind is made of. Not blocking; owned by one worker.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from eastgate.fastpath.posix cimport ssize_t
from eastgate.fastpath.tls.handshake cimport Handshake, TicketPlace, TlsContext
from eastgate.fastpath.tls.openssl cimport SSL

cdef enum:
    TLS_SCRATCH = 131072        # ciphertext of one call; no call makes more
    TLS_SEND_MOST = 65536       # plaintext that one call of tls_send takes

# Ciphertext that one call makes is gathered here and sent at once. Of the worker: holds nothing between two calls.
cdef struct TlsScratch:
    size_t length
    uint8_t bytes[131072]

cdef enum TlsStatus:
    TLS_DONE
    TLS_WAIT                    # for the socket: readable, and writable too where `out_length` is not 0
    TLS_FAILED                  # handshake.failure says why

cdef struct TlsSession:
    SSL* ssl
    TlsContext* context         # counted reference
    TlsScratch* scratch
    Handshake handshake
    uint8_t* held               # owned: read from the socket before TLS began; OpenSSL is given it first
    uint32_t held_offset
    uint32_t held_length
    uint8_t* out                # owned: ciphertext that the socket did not take
    uint32_t out_offset
    uint32_t out_length
    int fd
    uint8_t drained             # the last recv emptied the socket: no event, no further recv
    uint8_t hung_up             # a FIN or an error was announced: read until it is seen
    uint8_t stream_ended        # FIN read
    uint8_t ended               # the peer will send no more: its close_notify, or its FIN at a record's end
    uint8_t without_notify      # it ended with a FIN alone
    uint8_t told                # our close_notify was made
    uint8_t broken
    uint8_t header_length       # of the record header that is being read
    uint8_t header[5]
    uint32_t record_left        # bytes of the record that have not been read from the socket yet

# Of a server: what the connection was routed by, and the hello must say. Of a client: what to offer instead of what its
# context has.
cdef struct Offer:
    const char* server_name     # ended by a NUL; NULL for a client: as its context has it
    uint16_t server_name_length
    uint16_t alpn_length
    const uint8_t* alpn         # wire form; NULL for a client: as its context has it

# Begin on a socket that is connected. `held`: what was read already, owned by the session from here on. `offer`: NULL
# for none. `tickets`: of the endpoint, must outlive the session; NULL: no resumption. Returns NULL without memory.
cdef TlsSession* tls_open(
    TlsContext* context, int fd, TlsScratch* scratch, uint8_t* held, uint32_t held_length, const Offer* offer,
    TicketPlace* tickets
) noexcept nogil
cdef TlsStatus tls_handshake(TlsSession* session) noexcept nogil
# Plaintext read, until `length` or until the socket is empty. 0: nothing yet, or the end (`ended`); -1: broken.
cdef ssize_t tls_receive(TlsSession* session, uint8_t* buffer, size_t length) noexcept nogil
# Plaintext taken: all of it up to TLS_SEND_MOST, or 0 while ciphertext waits for the socket; -1: broken.
cdef ssize_t tls_send(TlsSession* session, const uint8_t* data, size_t length) noexcept nogil
# Tell the peer that no more comes. No FIN. -1: broken.
cdef int tls_end(TlsSession* session) noexcept nogil
# Send what waits. 1: nothing waits any more, 0: the socket is full, -1: broken.
cdef int tls_flush(TlsSession* session) noexcept nogil
# Read what has arrived and throw it away, so that closing the socket sends a FIN and no RST.
cdef void tls_drain(TlsSession* session) noexcept nogil
# Free it, without a look at the socket.
cdef void tls_free(TlsSession* session) noexcept nogil
