"""What a leg does apart from moving bytes: sniffing, connecting, watching, ending. Decides nothing.

TCP_NODELAY is on for every leg: the relay writes what it has, and waits for nothing more.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from eastgate.fastpath.loop.addresses cimport read_sockaddr, write_sockaddr
from eastgate.fastpath.loop.tls_session cimport (
    TLS_WAIT, tls_drain, tls_end, tls_flush, tls_free, tls_handshake, tls_open, tls_receive, tls_send,
)
from eastgate.fastpath.match.facts cimport Address
from eastgate.fastpath.tls.failure cimport TlsFailure
from eastgate.fastpath.tls.handshake cimport (
    check_peer_names, has_certificate, tls_context_acquire, tls_context_release,
)
from eastgate.fastpath.tls.openssl cimport SSL_get0_peer_certificate
from eastgate.fastpath.tls.peer_names cimport all_names
from eastgate.fastpath.posix cimport *
from eastgate.fastpath.tables.picker cimport EndpointAddress

cdef inline void set_option(const Leg* leg, int level, int option, int value) noexcept nogil:
    setsockopt(leg.fd, level, option, &value, sizeof(value))


cdef void leg_keep_urgent(Leg* leg) noexcept nogil:
    leg.urgent = 1
    set_option(leg, SOL_SOCKET, SO_OOBINLINE, 1)


cdef ssize_t leg_peek(Leg* leg, uint8_t* buffer, size_t most) noexcept nogil:
    return read_socket(leg, buffer, most, MSG_PEEK)


cdef void leg_discard(Leg* leg, size_t length, bint more) noexcept nogil:
    cdef ssize_t dropped
    if more:
        # What stays queued announces itself to nobody.
        leg.readable = 1
    while length:
        dropped = recv(leg.fd, NULL, length, MSG_TRUNC | MSG_DONTWAIT)
        if dropped > 0:
            length -= <size_t>dropped
        elif dropped == 0 or errno != EINTR:
            return


cdef ssize_t leg_sniff(Leg* leg, uint8_t* buffer, size_t most) noexcept nogil:
    cdef ssize_t got = read_socket(leg, buffer, most, 0)
    return keep_sniffed(leg, buffer, got) if got > 0 else got


cdef ssize_t leg_hear(Leg* leg, uint8_t* buffer, size_t most) noexcept nogil:
    cdef ssize_t got = leg_receive(leg, buffer, most)
    return keep_sniffed(leg, buffer, got) if got > 0 else got


cdef ssize_t keep_sniffed(Leg* leg, const uint8_t* buffer, ssize_t got) noexcept nogil:
    cdef uint8_t* sniffed
    sniffed = <uint8_t*>realloc(leg.sniffed, leg.sniffed_length + <size_t>got)
    if sniffed == NULL:
        return LEG_NO_MEMORY
    memcpy(sniffed + leg.sniffed_length, buffer, <size_t>got)
    leg.sniffed = sniffed
    leg.sniffed_length += <uint32_t>got
    return got


cdef void leg_want(Leg* leg, uint32_t bytes) noexcept nogil:
    if bytes > 1 or leg.wants_many:
        set_option(leg, SOL_SOCKET, SO_RCVLOWAT, <int>bytes)
        leg.wants_many = bytes > 1


cdef inline int enter_set(Leg* leg, Watch* watch, int how) noexcept nogil:
    cdef epoll_event event
    watch.tags += 1
    leg.tag = watch.tags
    event.events = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET
    event.data.u64 = <uint64_t>leg | (<uint64_t>leg.tag << 48)
    return epoll_ctl(watch.epoll, how, leg.fd, &event)


cdef bint leg_watch(Leg* leg, Watch* watch) noexcept nogil:
    if leg.registered:
        return True
    leg.registered = enter_set(leg, watch, EPOLL_CTL_ADD) == 0
    return leg.registered


cdef bint leg_moved(Leg* leg, Watch* watch) noexcept nogil:
    # What was reported of it before is reported once more.
    return enter_set(leg, watch, EPOLL_CTL_MOD) == 0


cdef int bind_source(Leg* leg, const Address* source) noexcept nogil:
    cdef EndpointAddress address
    cdef sockaddr_storage raw
    cdef socklen_t length
    if source.port == 0:
        # A port is chosen when the whole connection is known: one port then serves each endpoint once. Chosen here, the
        # ports of this address would be used up by 28,000 connections to whomever.
        set_option(leg, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    else:
        set_option(leg, SOL_SOCKET, SO_REUSEADDR, 1)
    address.family = source.family
    address.port = source.port
    address.address = source.bytes
    address.length = 0
    length = write_sockaddr(&address, &raw)
    return -errno if bind(leg.fd, <const sockaddr*>&raw, length) != 0 else 0


cdef int leg_set_options(Leg* leg, const SocketSettings* options) noexcept nogil:
    cdef size_t index
    for index in range(options.count):
        if setsockopt(
            leg.fd, options.first[index].level, options.first[index].name, &options.first[index].value, sizeof(int)
        ):
            return errno
    return 0


cdef int leg_connect(
    Leg* leg, const sockaddr_storage* raw, socklen_t length, const Address* source, const SocketSettings* options,
    bint early,
) noexcept nogil:
    cdef int error
    leg.fd = socket(raw.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if leg.fd < 0:
        return errno
    if raw.ss_family != AF_UNIX:
        set_option(leg, IPPROTO_TCP, TCP_NODELAY, 1)
        if early:
            # The handshake's last ACK waits for the first bytes and goes with them: a packet less.
            set_option(leg, IPPROTO_TCP, TCP_QUICKACK, 0)
        # Tried when the cluster was published: what fails now is a lack of ours, and not the endpoint's fault.
        if leg_set_options(leg, options) != 0:
            return ENOBUFS
    if source.family and raw.ss_family != AF_UNIX:
        error = bind_source(leg, source)
        if error:
            return error
    if connect(leg.fd, <const sockaddr*>raw, length) != 0 and errno != EINPROGRESS:
        return errno
    return 0


cdef int leg_error(Leg* leg) noexcept nogil:
    cdef int error = 0
    cdef socklen_t length = sizeof(error)
    getsockopt(leg.fd, SOL_SOCKET, SO_ERROR, &error, &length)
    return error


cdef void leg_guard(Leg* leg, const Keepalive* keepalive) noexcept nogil:
    set_option(leg, SOL_SOCKET, SO_KEEPALIVE, 1)
    set_option(leg, IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    if keepalive.time_s:
        set_option(leg, IPPROTO_TCP, TCP_KEEPIDLE, <int>keepalive.time_s)
    if keepalive.interval_s:
        set_option(leg, IPPROTO_TCP, TCP_KEEPINTVL, <int>keepalive.interval_s)
    if keepalive.probes:
        set_option(leg, IPPROTO_TCP, TCP_KEEPCNT, <int>keepalive.probes)


cdef bint leg_local(const Leg* leg, Address* address) noexcept nogil:
    cdef sockaddr_storage raw
    cdef socklen_t length = sizeof(raw)
    if getsockname(leg.fd, <sockaddr*>&raw, &length) != 0:
        return False
    read_sockaddr(&raw, address)
    return True


cdef bint leg_original(const Leg* leg, uint8_t family, Address* address) noexcept nogil:
    # By the peer's real family: an IPv4 peer of an IPv6 socket is known as what it is. Asked the other way, an IPv6
    # connection would be looked for as one between 127.0.0.6 and itself.
    cdef sockaddr_storage raw
    cdef socklen_t length = sizeof(raw)
    if getsockopt(leg.fd, IPPROTO_IP if family == 4 else IPPROTO_IPV6, SO_ORIGINAL_DST, &raw, &length) != 0:
        return False
    read_sockaddr(&raw, address)
    return True


cdef bint leg_has_left(const Leg* leg) noexcept nogil:
    cdef pollfd asked
    asked.fd = leg.fd
    asked.events = POLLRDHUP
    asked.revents = 0
    return poll(&asked, 1, 0) > 0


cdef void tls_note(Leg* leg) noexcept nogil:
    cdef TlsSession* tls = leg.tls
    if leg.readable:
        tls.drained = 0
    tls.hung_up = leg.hung_up or leg.urgent
    if leg.writable and tls.out_length:
        leg.writable = tls_flush(tls) != 0


cdef ssize_t send_sealed(Leg* leg, const uint8_t* data, size_t length) noexcept nogil:
    cdef ssize_t taken = tls_send(leg.tls, data, length)
    if leg.tls.out_length:
        leg.writable = 0
    return taken


cdef ssize_t receive_sealed(Leg* leg, uint8_t* buffer, size_t length) noexcept nogil:
    cdef ssize_t got = tls_receive(leg.tls, buffer, length)
    # Less than was asked for is all that OpenSSL has. A fault behind it is found by the next call.
    if <size_t>got < length and not leg.tls.broken and not leg.tls.ended:
        leg.readable = 0
    if leg.tls.out_length:
        leg.writable = 0
    if got == 0 and leg.tls.ended:
        leg.ended = 1
        leg.readable = 0
    return got


cdef void leg_will_secure(Leg* leg, TlsContext* context) noexcept nogil:
    tls_context_acquire(context)
    leg.context = context


cdef bint leg_secure(Leg* leg, TlsScratch* scratch, const Offer* offer, TicketPlace* tickets) noexcept nogil:
    cdef uint32_t length
    cdef uint8_t* sniffed = leg_take_sniffed(leg, &length)
    # A Finished is shorter than what the sniffer may have waited for.
    leg_want(leg, 1)
    leg.tls = tls_open(leg.context, leg.fd, scratch, sniffed, length, offer, tickets)
    if leg.tls == NULL:
        return False
    # What was announced before will not be announced again.
    leg.tls.hung_up = leg.hung_up or leg.urgent
    return True


cdef TlsStatus leg_handshake(Leg* leg) noexcept nogil:
    cdef TlsStatus status = tls_handshake(leg.tls)
    if status == TLS_WAIT:
        leg.readable = 0
    if leg.tls.out_length:
        leg.writable = 0
    return status


cdef ssize_t leg_peer(const Leg* leg, char* into, size_t capacity) noexcept nogil:
    if leg.tls == NULL or not has_certificate(leg.tls.ssl):
        return -1
    return <ssize_t>all_names(SSL_get0_peer_certificate(leg.tls.ssl), into, capacity)


cdef bint leg_admits(const Leg* leg, const TlsContext* context) noexcept nogil:
    if leg.tls == NULL or context == NULL:
        return leg.tls == NULL and context == NULL
    if not has_certificate(leg.tls.ssl):
        return not context.requires_certificate
    return check_peer_names(context, leg.tls.ssl) == TlsFailure.TLS_FINE


cdef const char* leg_offered_name(const Leg* leg, uint16_t* length) noexcept nogil:
    length[0] = 0
    if leg.tls == NULL or leg.tls.handshake.expected == NULL:
        return NULL
    length[0] = leg.tls.handshake.server_name_length
    return <const char*>leg.tls.handshake.expected


cdef void leg_forget_offer(Leg* leg) noexcept nogil:
    if leg.tls != NULL:
        free(leg.tls.handshake.expected)
        leg.tls.handshake.expected = NULL


cdef void leg_end(Leg* leg) noexcept nogil:
    leg.shut = 1
    if leg.tls != NULL:
        tls_end(leg.tls)
        if leg.tls.out_length:
            leg.writable = 0
        return
    # An error here means that the peer is gone; its own events tell.
    shutdown(leg.fd, SHUT_WR)


cdef void leg_reset(Leg* leg) noexcept nogil:
    cdef linger abort
    leg.aborted = 1
    abort.l_onoff = 1
    abort.l_linger = 0
    setsockopt(leg.fd, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort))


cdef void leg_close(Leg* leg, Watch* watch) noexcept nogil:
    cdef uint8_t source = leg.source
    if leg.sniffed != NULL:
        free(leg.sniffed)
    if leg.tls != NULL:
        if not leg.aborted:
            tls_end(leg.tls)
        tls_drain(leg.tls)
        tls_free(leg.tls)
    if leg.context != NULL:
        tls_context_release(leg.context)
    if leg.fd >= 0:
        if leg.registered:
            # Closing takes it out of the set only where no other process has a copy of the descriptor.
            epoll_ctl(watch.epoll, EPOLL_CTL_DEL, leg.fd, NULL)
        close(leg.fd)
    memset(leg, 0, sizeof(Leg))
    leg_init(leg, source, -1)
