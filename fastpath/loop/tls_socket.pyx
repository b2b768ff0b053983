"""TLS on a socket of Python's, for tests of what a leg does."""
cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy

from eastgate.fastpath.loop.tls_session cimport (
    TLS_DONE, TLS_FAILED, Offer, TlsScratch, TlsSession, TlsStatus, tls_end, tls_flush, tls_free, tls_handshake,
    tls_open, tls_receive, tls_send,
)
from eastgate.fastpath.posix cimport ssize_t
from eastgate.fastpath.tls import failure as tls_failure
from eastgate.fastpath.tls.context cimport Context
from eastgate.fastpath.tls.handshake cimport TicketPlace, forget_ticket, peer_uri
from eastgate.fastpath.tls.openssl cimport SSL_get0_alpn_selected, SSL_session_reused, SSL_version


@cython.final
@cython.auto_pickle(False)
cdef class Tickets:
    """The newest session with one endpoint, which later sessions may resume."""
    cdef TicketPlace place

    def __dealloc__(self):
        forget_ticket(&self.place)

    def __bool__(self):
        return self.place.ticket != NULL


@cython.final
@cython.auto_pickle(False)
cdef class TlsSocket:
    """One session on a socket that its caller owns, and may close first. Not blocking: call again when it is ready.

    ``failure``: a TlsFailure once something answered that it broke.
    """
    cdef TlsSession* session
    cdef TlsScratch scratch
    cdef object context
    cdef object tickets

    def __cinit__(
        self, Context context not None, int fd, bytes held=b"", server_name=None, alpn=None, Tickets tickets=None
    ):
        cdef uint8_t* copied = NULL
        cdef Offer offer
        cdef bytes name = (server_name or "").encode("ascii")
        cdef bytes protocols = alpn or b""
        self.context = context
        self.tickets = tickets
        if held:
            copied = <uint8_t*>malloc(len(held))
            if copied == NULL:
                raise MemoryError
            memcpy(copied, <const char*>held, len(held))
        offer.server_name = NULL if server_name is None else <char*>name
        offer.server_name_length = <uint16_t>len(name)
        offer.alpn = NULL if alpn is None else <uint8_t*><char*>protocols
        offer.alpn_length = <uint16_t>len(protocols)
        self.session = tls_open(
            context.context, fd, &self.scratch, copied, <uint32_t>len(held),
            NULL if server_name is None and alpn is None else &offer,
            NULL if tickets is None else &tickets.place,
        )
        if self.session == NULL:
            raise MemoryError

    def __dealloc__(self):
        tls_free(self.session)

    def ready(self):
        """The socket has an event: it may be read again."""
        self.session.drained = 0

    def handshake(self):
        """True when it is done, False when the socket must become ready first. ConnectionError: it failed."""
        cdef TlsStatus status
        with nogil:
            status = tls_handshake(self.session)
        if status == TLS_FAILED:
            raise ConnectionError(self.failure)
        return status == TLS_DONE

    def receive(self, size_t length):
        """Bytes; None when there are none yet, empty at the end. ConnectionError: it broke."""
        cdef bytearray buffer = bytearray(length)
        cdef uint8_t* place = <uint8_t*><char*>buffer
        cdef ssize_t got
        with nogil:
            got = tls_receive(self.session, place, length)
        if got < 0:
            raise ConnectionError(self.failure)
        if got == 0 and not self.session.ended:
            return None
        return bytes(buffer[:got])

    def send(self, bytes data not None):
        """Bytes taken, 0 while what was taken before has not left. ConnectionError: it broke."""
        cdef const uint8_t* place = <const uint8_t*><const char*>data
        cdef size_t length = len(data)
        cdef ssize_t taken
        with nogil:
            taken = tls_send(self.session, place, length)
        if taken < 0:
            raise ConnectionError(self.failure)
        return taken

    def end(self):
        """Send close_notify; receiving goes on."""
        if tls_end(self.session) < 0:
            raise ConnectionError(self.failure)

    def flush(self):
        """Whether nothing waits for the socket any more."""
        cdef int flushed = tls_flush(self.session)
        if flushed < 0:
            raise ConnectionError(self.failure)
        return flushed == 1

    @property
    def failure(self):
        return tls_failure.TlsFailure(self.session.handshake.failure)

    @property
    def ended_without_notify(self):
        """Whether the peer ended with a FIN alone, at the end of a record."""
        return bool(self.session.without_notify)

    @property
    def protocol(self):
        """The ALPN that was chosen; empty: none."""
        cdef const unsigned char* name = NULL
        cdef unsigned int length = 0
        SSL_get0_alpn_selected(self.session.ssl, &name, &length)
        return (<bytes>name[:length]).decode("latin-1") if length else ""

    @property
    def version(self):
        """"1.2" or "1.3"."""
        return {0x0303: "1.2", 0x0304: "1.3"}.get(SSL_version(self.session.ssl), "")

    @property
    def resumed(self):
        """Whether it goes on with an earlier session."""
        return SSL_session_reused(self.session.ssl) == 1

    @property
    def peer_identity(self):
        """First URI name of the peer's certificate; empty: none."""
        cdef char name[1024]
        cdef size_t length = peer_uri(self.session.ssl, name, sizeof(name))
        return (<bytes>name[:length]).decode("utf-8", "replace")
