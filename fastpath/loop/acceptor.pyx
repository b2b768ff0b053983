"""Listening sockets, and what happens to a connection when it comes: its limits, its legs, its first timer.

Two limits, both of the whole engine. Past max_connections a new connection is reset at once: the operator has kept
descriptors for others. Past max_silent the oldest of those that have not said yet what they want is closed, never the
newest and never one that is served: whoever opens connections to keep others out loses his own.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from eastgate.fastpath.loop.addresses cimport parse_sockaddr, read_sockaddr
from eastgate.fastpath.loop.charges cimport CHARGE_ENGINE, charge_accepted
from eastgate.fastpath.loop.closing cimport new_connection, refuse
from eastgate.fastpath.loop.connection cimport (
    Connection, Listener, ListenerState, OWN_HELLO_TIMEOUT_MS, PHASE_PROXY_HEADER, PHASE_SNIFF, SOURCE_DOWNSTREAM,
    SOURCE_LISTENER, SOURCE_UPSTREAM,
)
from eastgate.fastpath.loop.connection_record cimport begin_record
from eastgate.fastpath.loop.journey cimport advance
from eastgate.fastpath.loop.leg cimport Leg, USER_TIMEOUT_MS, leg_close, leg_init, leg_original, leg_reset
from eastgate.fastpath.loop.listener_states cimport Directory, ListenerStates, state_at
from eastgate.fastpath.loop.timer_wheel cimport timer_init
from eastgate.fastpath.loop.worker_state cimport MILLISECOND, Worker, schedule_in
from eastgate.fastpath.match.facts cimport Address
from eastgate.fastpath.posix cimport *
from eastgate.fastpath.reason cimport Reason

import os

cdef enum:
    ACCEPTS_PER_EVENT = 64
    CLOSING_ACCEPTS = 64        # times that many, when a listener is closed: a whole backlog
    ACCEPT_RETRY_MS = 100
    # Clients of a listener and worker that wait for the first flight of a handshake. With so many no further one is
    # accepted: half a second where a handshake takes 2 ms, as with RSA on a busy machine.
    SHAKING_MOST = 256


# ---- connections

cdef ListenerState* redirected(Worker* worker, Connection* connection, ListenerState* state) noexcept nogil:
    """Whose it is by where netfilter says that it was going: another listener's, or that of the socket that took it."""
    cdef ListenerState* other = NULL
    # Without an answer the connection was not redirected, or nothing tracks connections here: then it came to us.
    if leg_original(&connection.down, connection.direct_source.family, &connection.destination):
        if state.hands_over:
            other = state_at(
                <Directory*>atomic_load_pointer(<void**>&worker.shared.directory),
                &connection.destination,
                worker.number,
            )
    return other if other != NULL else state


cdef void turn_away(Worker* worker, Listener* listener, int fd, Reason reason) noexcept nogil:
    cdef Leg unwanted
    count(&listener.state.cx_total, 1)
    count(&listener.state.refused[<int>reason], 1)
    memset(&unwanted, 0, sizeof(unwanted))
    leg_init(&unwanted, SOURCE_DOWNSTREAM, fd)
    leg_reset(&unwanted)
    leg_close(&unwanted, &worker.watch)


cdef void make_room(Worker* worker) noexcept nogil:
    # Another worker may be closing one for the same reason: then it is one too many that goes, and that was silent too.
    if worker.silent.first != NULL and atomic_load64(&worker.shared.silent) > worker.shared.max_silent:
        refuse(worker, worker.silent.first, Reason.SILENT)


cdef void welcome(Worker* worker, Listener* listener, int fd, sockaddr_storage* peer) noexcept nogil:
    cdef Connection* connection = NULL
    cdef ListenerState* state = listener.state
    cdef bint shed = atomic_load8(&worker.shared.overloaded)
    if atomic_add64(&worker.shared.connections, 1) < worker.shared.max_connections and not shed:
        connection = new_connection(worker)
    if connection == NULL:
        atomic_add64(&worker.shared.connections, <uint64_t>-1)
        turn_away(worker, listener, fd, Reason.OVERLOAD if shed else Reason.LIMIT)
        return
    connection.charged = CHARGE_ENGINE
    timer_init(&connection.timer)
    leg_init(&connection.down, SOURCE_DOWNSTREAM, fd)
    leg_init(&connection.up, SOURCE_UPSTREAM, -1)
    connection.started = worker.now
    connection.destination.port = state.own_port
    read_sockaddr(peer, &connection.downstream)
    connection.direct_source = connection.downstream
    if state.original_dst:
        state = redirected(worker, connection, state)
    count(&state.cx_total, 1)
    connection.listener = state
    connection.phase = PHASE_PROXY_HEADER if state.proxy_protocol else PHASE_SNIFF
    connection.next = worker.open
    if worker.open != NULL:
        worker.open.previous = connection
    worker.open = connection
    charge_accepted(worker, connection)
    if atomic_load8(&worker.shared.record_all):
        connection.record = begin_record(worker, connection)
    schedule_in(
        worker,
        &connection.timer,
        <uint64_t>(state.hello_timeout_ms or state.silent_timeout_ms or OWN_HELLO_TIMEOUT_MS) * MILLISECOND,
    )
    advance(worker, connection)
    make_room(worker)


# ---- sockets

cdef void pause_accepting(Worker* worker, Listener* listener) noexcept nogil:
    # Level-triggered accept without a descriptor to accept into would spin.
    epoll_ctl(worker.watch.epoll, EPOLL_CTL_DEL, listener.fd, NULL)
    listener.paused = 1
    count(&listener.state.refused[<int>Reason.LIMIT], 1)
    if not worker.accept_retry.scheduled:
        schedule_in(worker, &worker.accept_retry, <uint64_t>ACCEPT_RETRY_MS * MILLISECOND)


cdef bint resume_accepting(Worker* worker, Listener* listener) noexcept nogil:
    cdef epoll_event event
    event.events = EPOLLIN
    event.data.ptr = listener
    listener.paused = 0
    return epoll_ctl(worker.watch.epoll, EPOLL_CTL_ADD, listener.fd, &event) == 0


cdef bint accept_connections(Worker* worker, Listener* listener) noexcept nogil:
    """Whether more may be waiting. The listener is level-triggered: what is left is for the next turn."""
    cdef sockaddr_storage peer
    cdef socklen_t length
    cdef int fd, _
    for _ in range(ACCEPTS_PER_EVENT):
        if listener.state.shaking >= SHAKING_MOST and listener.accepting:
            # Whoever waits costs less in the kernel's queue, and a full one tells clients to come later. No turn is
            # idle meanwhile.
            return True
        length = sizeof(peer)
        fd = accept4(listener.fd, <sockaddr*>&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd >= 0:
            welcome(worker, listener, fd, &peer)
        elif errno == EMFILE or errno == ENFILE or errno == ENOBUFS or errno == ENOMEM:
            pause_accepting(worker, listener)
            return False
        elif errno != EINTR and errno != ECONNABORTED:
            return False
    return True


cdef void retry_accepting(Worker* worker) noexcept nogil:
    cdef Listener* listener = worker.listeners
    while listener != NULL:
        if listener.accepting and listener.paused and not resume_accepting(worker, listener):
            pause_accepting(worker, listener)
        listener = listener.next


cdef int64_t add_listener(Worker* worker, Listener* listener) noexcept nogil:
    listener.source = SOURCE_LISTENER
    listener.next = worker.listeners
    worker.listeners = listener
    if not resume_accepting(worker, listener):
        return -errno
    listener.accepting = 1
    return 0


cdef void close_listener(Worker* worker, Listener* listener) noexcept nogil:
    listener.accepting = 0
    if listener.fd >= 0:
        # Closing takes it out of the set only where no other process has a copy of the descriptor.
        epoll_ctl(worker.watch.epoll, EPOLL_CTL_DEL, listener.fd, NULL)
        close(listener.fd)
    listener.fd = -1


cdef void stop_accepting(Worker* worker, Listener* listener) noexcept nogil:
    # Whoever finished the handshake was promised a connection: closing the socket would reset those in its queue.
    cdef bint more = listener.accepting and not listener.paused
    cdef int _
    listener.accepting = 0
    for _ in range(CLOSING_ACCEPTS):
        if not more:
            break
        more = accept_connections(worker, listener)
    close_listener(worker, listener)


cdef void free_listeners(Worker* worker) noexcept nogil:
    cdef Listener* listener
    while worker.listeners != NULL:
        listener = worker.listeners
        worker.listeners = listener.next
        close_listener(worker, listener)
        free(listener)


cdef void set_listening_options(int fd, int family, const SocketOptions* options) noexcept:
    cdef int one = 1, zero = 0, user_timeout_ms = USER_TIMEOUT_MS
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one))
    # One socket per worker on the same address; also lets a successor bind while its predecessor drains.
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one))
    # Accepted sockets inherit these.
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one))
    setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof(one))
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof(user_timeout_ms))
    if family == AF_INET6:
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one if options.ipv6_only else &zero, sizeof(one))
    if options.defer_accept_s:
        setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &options.defer_accept_s, sizeof(options.defer_accept_s))
    if options.fast_open:
        setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &options.fast_open, sizeof(options.fast_open))


cdef int open_listening_socket(str host, object port, const SocketOptions* options) except -1:
    cdef sockaddr_storage raw
    cdef socklen_t length
    cdef int fd, error
    if not 0 <= port <= 65535:
        raise ValueError(f"port {port} is outside 0..65535")
    encoded = host.encode()
    length = 0 if b"\0" in encoded else parse_sockaddr(encoded, port, &raw)
    if length == 0:
        raise ValueError(f"{host!r} is not an IPv4 or IPv6 address")
    fd = socket(raw.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if fd < 0:
        error = errno
        raise OSError(error, f"cannot open a listening socket: {os.strerror(error)}")
    set_listening_options(fd, raw.ss_family, options)
    if bind(fd, <sockaddr*>&raw, length) != 0 or listen(fd, options.backlog) != 0:
        error = errno
        close(fd)
        raise OSError(error, f"cannot listen on {host} port {port}: {os.strerror(error)}")
    return fd


cdef int bound_port(int fd) noexcept:
    cdef sockaddr_storage raw
    cdef socklen_t length = sizeof(raw)
    cdef Address address
    if getsockname(fd, <sockaddr*>&raw, &length) != 0:
        return 0
    read_sockaddr(&raw, &address)
    return address.port


cdef int set_inherited_option(int fd, int level, int name, int value) except -1:
    if setsockopt(fd, level, name, &value, sizeof(value)):
        raise OSError(errno, os.strerror(errno))
    return 0


cdef void close_sockets(ListenerStates own) noexcept:
    cdef uint32_t worker
    for worker in range(own.workers):
        if own.sockets[worker] != NULL and own.sockets[worker].fd >= 0:
            close(own.sockets[worker].fd)
        free(own.sockets[worker])
    free(own.sockets)
    own.sockets = NULL


cdef int open_sockets(
    ListenerStates own, str host, object port, const SocketOptions* options, object inherited
) except -1:
    cdef uint32_t worker
    own.sockets = <Listener**>calloc(own.workers, sizeof(Listener*))
    if own.sockets == NULL:
        raise MemoryError
    try:
        for worker in range(own.workers):
            own.sockets[worker] = <Listener*>calloc(1, sizeof(Listener))
            if own.sockets[worker] == NULL:
                raise MemoryError
            own.sockets[worker].state = own.states[worker]
            own.sockets[worker].fd = -1
            own.sockets[worker].fd = open_listening_socket(host, port, options)
            for level, name, value in inherited:
                set_inherited_option(own.sockets[worker].fd, level, name, value)
            # The sockets of the other workers share the port that the first one got.
            port = bound_port(own.sockets[worker].fd)
            own.states[worker].own_port = port
    except (OSError, ValueError, MemoryError):
        close_sockets(own)
        raise
    return 0
