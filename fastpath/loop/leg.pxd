# A leg: one socket of a connection. All reading, writing, ending and closing of it stands here; who uses a leg sees no
# descriptor and does not know its kind.
#
# What an answer means is the same for every kind:
#   receive, send, fill_pipe, empty_pipe     bytes moved; 0: nothing now, an event will tell; -1: broken
#   leg.ended                                set by a receive or fill_pipe that answers 0: nothing will ever come
#   has_more(leg)                            a receive may give something though no event comes
#   leg.writable                             a send may take something though no event comes
# Bytes that a send did not take are offered again, all of them.
#
# Two kinds: plain, whose bytes are those of its socket, and TLS (leg_secure). Another one is another branch of the
# functions below.
#
# TCP's urgent bytes are bytes like others, in their place (SO_OOBINLINE, as RFC 6093 asks for): taken out of the stream
# they would be lost. A pipe stops in front of one, and then says what it says at the end of the stream: a leg that had
# one is copied from there on, and where a pipe got nothing a receive decides whether that was the end.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from eastgate.fastpath.loop.pipe_pool cimport Pipe
from eastgate.fastpath.loop.tls_session cimport Offer, TlsScratch, TlsSession, TlsStatus
from eastgate.fastpath.match.facts cimport Address
from eastgate.fastpath.tls.handshake cimport TicketPlace, TlsContext
from eastgate.fastpath.posix cimport (
    EAGAIN, EINTR, EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP, MSG_DONTWAIT, MSG_NOSIGNAL,
    SPLICE_F_MOVE, SPLICE_F_NONBLOCK, errno, recv, send, sockaddr_storage, socklen_t, splice, ssize_t,
)

cdef enum:
    LEG_NO_MEMORY = -2
    # TCP_USER_TIMEOUT of both sockets: a peer that acknowledges nothing, or whose window stays closed, for that long is
    # gone. The kernel alone would take a quarter of an hour for the first and forever for the second.
    USER_TIMEOUT_MS = 600000

# An epoll set. What it reports carries the tag of the leg that was watched: a process that was forked meanwhile keeps
# copies of descriptors, and with them in the set what was closed here. An event whose tag is not the leg's is dropped.
cdef struct Watch:
    int epoll
    uint16_t tags               # the last one given

# Edge-triggered: readable and writable stay set until a call says that it would block.
cdef struct Leg:
    uint8_t source              # first: see Source of connection.pxd
    uint8_t readable
    uint8_t writable
    uint8_t hung_up             # a FIN or an error was announced: read until it is seen
    uint8_t gone                # both ways have ended, or an error
    uint8_t reset               # an error, announced or met
    uint8_t registered          # in the epoll set
    uint16_t tag                # while it is
    uint8_t ended               # its FIN was read
    uint8_t shut                # our FIN was sent to it
    uint8_t urgent              # urgent bytes were announced, or may have been: splice no more
    uint8_t aborted             # closing it resets it
    uint8_t wants_many          # no event before several bytes have come
    uint8_t bulk                # what it brings comes COPY_LIMIT bytes or more at a time; see relay.pyx
    int fd                      # -1: none
    uint32_t sniffed_length
    uint8_t* sniffed            # owned: read to look at it, and received by nobody yet
    TlsContext* context         # counted reference: what it is secured with; NULL: it stays plain
    TlsSession* tls             # owned; NULL: plain, or not secured yet

# One setsockopt with a number.
cdef struct SocketSetting:
    int level
    int name
    int value

# Of sockets of one family, in order.
cdef struct SocketSettings:
    const SocketSetting* first
    size_t count

# Keepalive of a leg in seconds and probes; 0: the operating system's.
cdef struct Keepalive:
    uint32_t time_s
    uint32_t interval_s
    uint32_t probes

# Have urgent bytes stay in their place.
cdef void leg_keep_urgent(Leg* leg) noexcept nogil

cdef inline void leg_init(Leg* leg, uint8_t source, int fd) noexcept nogil:
    leg.source = source
    leg.fd = fd

# Addresses of user memory have 48 bits; the tag stands in front of them.
cdef inline void* watched(uint64_t data) noexcept nogil:
    return <void*>(data & <uint64_t>0xFFFFFFFFFFFF)

cdef inline bint is_stale(const Leg* leg, uint64_t data) noexcept nogil:
    return leg.tag != data >> 48

# The branches of a leg whose bytes are sealed by TLS.
cdef void tls_note(Leg* leg) noexcept nogil
cdef ssize_t send_sealed(Leg* leg, const uint8_t* data, size_t length) noexcept nogil
cdef ssize_t receive_sealed(Leg* leg, uint8_t* buffer, size_t length) noexcept nogil

cdef inline void leg_note(Leg* leg, uint32_t events) noexcept nogil:
    """Remember what epoll reported."""
    if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
        leg.readable = 1
    if events & (EPOLLOUT | EPOLLHUP | EPOLLERR):
        leg.writable = 1
    if events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
        leg.hung_up = 1
        leg.gone |= events & (EPOLLHUP | EPOLLERR) != 0
        leg.reset |= events & EPOLLERR != 0
    if events & EPOLLPRI:
        leg_keep_urgent(leg)
        leg.readable = 1
    if leg.tls != NULL:
        tls_note(leg)

# ---- moving bytes

cdef inline bint has_more(const Leg* leg) noexcept nogil:
    return leg.readable

cdef inline ssize_t leg_send(Leg* leg, const uint8_t* data, size_t length) noexcept nogil:
    cdef ssize_t taken
    if leg.tls != NULL:
        return send_sealed(leg, data, length)
    while True:
        taken = send(leg.fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT)
        if taken >= 0:
            if <size_t>taken < length:
                leg.writable = 0
            return taken
        if errno == EINTR:
            continue
        if errno == EAGAIN:
            leg.writable = 0
            return 0
        leg.reset = 1
        return -1

cdef inline ssize_t read_socket(Leg* leg, uint8_t* buffer, size_t length, int flags) noexcept nogil:
    cdef ssize_t got
    while True:
        got = recv(leg.fd, buffer, length, flags | MSG_DONTWAIT)
        if got > 0:
            # A short read has emptied the queue, or stopped in front of an urgent byte; a FIN that came with it was
            # announced, one that comes later will be.
            if <size_t>got < length and not (leg.hung_up or leg.urgent):
                leg.readable = 0
            return got
        if got == 0:
            leg.ended = 1
            leg.readable = 0
            return 0
        if errno == EINTR:
            continue
        if errno == EAGAIN:
            leg.readable = 0
            return 0
        leg.reset = 1
        return -1

cdef inline ssize_t leg_receive(Leg* leg, uint8_t* buffer, size_t length) noexcept nogil:
    return read_socket(leg, buffer, length, 0) if leg.tls == NULL else receive_sealed(leg, buffer, length)

cdef inline bint may_splice(const Leg* origin, const Leg* target) noexcept nogil:
    """Whether what comes next may go through a pipe, or be peeked at and discarded: the bytes of both sockets."""
    return not origin.urgent and origin.tls == NULL and target.tls == NULL

cdef inline ssize_t fill_pipe(Leg* leg, Pipe* pipe, size_t most) noexcept nogil:
    """Leg -> pipe, which must be empty: it has room for a number of pieces, not of bytes, and "it would block" says
    nothing about the leg while something is in it."""
    cdef size_t want = min(most, <size_t>pipe.capacity)
    cdef ssize_t got
    while True:
        got = splice(leg.fd, NULL, pipe.write_fd, NULL, want, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
        if got > 0:
            pipe.held = <uint32_t>got
            return got
        if got == 0:
            leg_keep_urgent(leg)
            return 0
        if errno == EINTR:
            continue
        if errno == EAGAIN:
            leg.readable = 0
            return 0
        leg.reset = 1
        return -1

cdef inline ssize_t empty_pipe(Leg* leg, Pipe* pipe) noexcept nogil:
    """Pipe -> leg."""
    cdef ssize_t taken
    while True:
        taken = splice(pipe.read_fd, NULL, leg.fd, NULL, pipe.held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
        if taken > 0:
            pipe.held -= <uint32_t>taken
            return taken
        if taken < 0 and errno == EINTR:
            continue
        if taken < 0 and errno == EAGAIN:
            leg.writable = 0
            return 0
        leg.reset = 1
        return -1

# Look at what comes next, and drop what was dealt with: bulk that has no pipe.
cdef ssize_t leg_peek(Leg* leg, uint8_t* buffer, size_t most) noexcept nogil
# `more`: what was seen goes on behind them.
cdef void leg_discard(Leg* leg, size_t length, bint more) noexcept nogil

# ---- before the relay

# Read up to `most` bytes into `buffer` and keep them behind what was sniffed before. Answers like leg_receive, and
# LEG_NO_MEMORY when they cannot be kept.
cdef ssize_t leg_sniff(Leg* leg, uint8_t* buffer, size_t most) noexcept nogil
# The same of what comes through TLS, once the handshake is done.
cdef ssize_t leg_hear(Leg* leg, uint8_t* buffer, size_t most) noexcept nogil
# What was sniffed, as the first bytes that are received; the caller frees it. NULL when there is none.
cdef inline uint8_t* leg_take_sniffed(Leg* leg, uint32_t* length) noexcept nogil:
    cdef uint8_t* sniffed = leg.sniffed
    length[0] = leg.sniffed_length
    leg.sniffed = NULL
    leg.sniffed_length = 0
    return sniffed
# No event before this many bytes have come, unless the peer ends. It is 1 again before the relay.
cdef void leg_want(Leg* leg, uint32_t bytes) noexcept nogil

# ---- the socket

# Report what happens to it, in the epoll set; False when that cannot be.
cdef bint leg_watch(Leg* leg, Watch* watch) noexcept nogil
# It lies somewhere else than when it began to be watched; False when nothing will be reported any more.
cdef bint leg_moved(Leg* leg, Watch* watch) noexcept nogil
# Begin to connect, from `source` unless its family is 0; `early`: bytes will be sent as soon as it is connected.
# Returns 0, an error number, or minus that of the bind. The caller watches the leg.
cdef int leg_connect(
    Leg* leg, const sockaddr_storage* raw, socklen_t length, const Address* source, const SocketSettings* options,
    bint early,
) noexcept nogil
# The error that an event announced; it is gone afterwards.
cdef int leg_error(Leg* leg) noexcept nogil
# Have the kernel find out when the peer is gone.
cdef void leg_guard(Leg* leg, const Keepalive* keepalive) noexcept nogil
# 0, or the errno of the first that the kernel does not set.
cdef int leg_set_options(Leg* leg, const SocketSettings* options) noexcept nogil
# Whether its peer has ended its side or is gone, though what it sent before may not be read yet: asked of the kernel.
cdef bint leg_has_left(const Leg* leg) noexcept nogil
# Its own address; False when it has none.
cdef bint leg_local(const Leg* leg, Address* address) noexcept nogil
# Where netfilter redirected it from, by the family (4 or 6) of its peer; False when it did not.
cdef bint leg_original(const Leg* leg, uint8_t family, Address* address) noexcept nogil

# ---- TLS

# It will be secured with this context.
cdef void leg_will_secure(Leg* leg, TlsContext* context) noexcept nogil
# Go on as TLS: a server's side of what was sniffed, or a client's on a socket that is connected. Arguments as of
# tls_open. False when there is no memory.
cdef bint leg_secure(Leg* leg, TlsScratch* scratch, const Offer* offer, TicketPlace* tickets) noexcept nogil
# Nothing may be received or sent before it is done. The leg's session holds the failure.
cdef TlsStatus leg_handshake(Leg* leg) noexcept nogil
# Names of its peer's certificate with a NUL between (all_names), 0 where they do not fit; -1 where there is no
# certificate, or no TLS.
cdef ssize_t leg_peer(const Leg* leg, char* into, size_t capacity) noexcept nogil
# Whether a client that came as it came would be let in by this context too; NULL: by none, as plain text. The chain of
# its certificate is not looked at again: a rotation of roots touches nobody who is in.
cdef bint leg_admits(const Leg* leg, const TlsContext* context) noexcept nogil
# Server name that the handshake was held to, until it is forgotten; NULL for none.
cdef const char* leg_offered_name(const Leg* leg, uint16_t* length) noexcept nogil
cdef void leg_forget_offer(Leg* leg) noexcept nogil
# Whether everything that was taken has left for the socket; what has not is sent with the next events.
cdef inline bint leg_flushed(const Leg* leg) noexcept nogil:
    return leg.tls == NULL or leg.tls.out_length == 0

# ---- the end

# Say that nothing more will be sent to it: half-close. Of TLS no FIN, but its close_notify.
cdef void leg_end(Leg* leg) noexcept nogil
# Have leg_close reset it: its peer must not take this for an orderly end.
cdef void leg_reset(Leg* leg) noexcept nogil
# Close and be as new; what was sniffed is freed.
cdef void leg_close(Leg* leg, Watch* watch) noexcept nogil
