"""What a client says first, and which filter chain that means. Connects nobody.

A listener without tls_inspector asks for no hello: its connections are routed at once, so that the server may speak
first. What was read of the ClientHello stays with the leg as the first bytes of the upward flow: what was sniffed is
what the endpoint gets. It is parsed on the stack; nothing of a client is kept in the worker.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from eastgate.fastpath.loop.closing cimport refuse
from eastgate.fastpath.loop.connection cimport (
    BEGAN_HTTP, BEGAN_TLS, BEGAN_UNSEEN, Connection, OWN_HELLO_TIMEOUT_MS, PHASE_PROXY_HEADER, PHASE_SNIFF,
)
from eastgate.fastpath.loop.connection_record cimport begin_record, note_hello
from eastgate.fastpath.loop.first_request cimport choose_by_request
from eastgate.fastpath.loop.leg cimport (
    LEG_NO_MEMORY, Leg, leg_discard, leg_local, leg_peek, leg_sniff, leg_want, leg_watch, leg_will_secure,
)
from eastgate.fastpath.loop.remembered cimport remember_hello
from eastgate.fastpath.loop.worker_state cimport (
    INSPECTED_ALPN, INSPECTED_NOT_TLS, INSPECTED_SNI, INSPECTED_TOO_LARGE, MILLISECOND, Worker, schedule_in,
)
from eastgate.fastpath.match.client_hello cimport (
    ClientHello, HELLO_BAD_SNI, HELLO_COMPLETE, HELLO_LIMIT, HELLO_NEED_MORE, HELLO_NOT_TLS, HELLO_OVERSIZE,
    HelloStatus, parse_client_hello,
)
from eastgate.fastpath.match.facts cimport Facts
from eastgate.fastpath.match.http_head cimport (
    HTTP_1_0, HTTP_1_1, HTTP_COMPLETE, HTTP_NEED_MORE, HttpHead, HttpProtocol, HttpStatus, http_protocols, inspect_http,
)
from eastgate.fastpath.match.policy cimport policies_acquire
from eastgate.fastpath.match.proxy_protocol cimport (
    PROXY_HEADER_LIMIT, PROXY_MALFORMED, PROXY_NEED_MORE, ProxyHeader, ProxyHeaderStatus, parse_proxy_header,
    proxy_outcome,
)
from eastgate.fastpath.match.route_nodes cimport (
    RouteChain, Routes, route_asks_destination, route_chain, route_inspects_http, route_inspects_tls, route_match,
)
from eastgate.fastpath.posix cimport atomic_add64, atomic_load_acquire, atomic_load_pointer, count, ssize_t
from eastgate.fastpath.reason cimport Reason


cdef enum:
    NO_REQUEST = -1
    TLS_HANDSHAKE = 22          # content type of a TLS record that holds a handshake message


cdef void wait_for_more(Worker* worker, Connection* connection, uint32_t needed) noexcept nogil:
    # Unless the kernel is told how much is missing, every byte is a wake-up.
    if connection.down.hung_up:
        refuse(worker, connection, Reason.TRUNCATED_HELLO if connection.stage.approach.began else Reason.IDLE_PROBE)
        return
    if needed > 1:
        leg_want(&connection.down, needed)
    if not leg_watch(&connection.down, &worker.watch):
        refuse(worker, connection, Reason.LIMIT)


cdef ssize_t looked(Worker* worker, Connection* connection, ssize_t got) noexcept nogil:
    """Bytes that came; 0 when the connection waits for them or is refused."""
    if got > 0:
        connection.stage.approach.began = 1
        return got
    if got == 0 and not connection.down.ended:
        wait_for_more(worker, connection, 1)
    elif got == LEG_NO_MEMORY:
        refuse(worker, connection, Reason.LIMIT)
    else:
        refuse(worker, connection, Reason.TRUNCATED_HELLO if connection.stage.approach.began else Reason.IDLE_PROBE)
    return 0


cdef void note_conveyed(Connection* connection, const ProxyHeader* header) noexcept nogil:
    connection.downstream.family = header.family
    connection.downstream.port = header.source_port
    memcpy(connection.downstream.bytes, header.source, 16)
    connection.destination.family = header.family
    connection.destination.port = header.destination_port
    memcpy(connection.destination.bytes, header.destination, 16)


cdef bint take_proxy_header(Worker* worker, Connection* connection) noexcept nogil:
    """Whether the header is consumed, or none was needed; otherwise the connection waits or is refused."""
    cdef ProxyHeader header
    cdef ProxyHeaderStatus status
    cdef ssize_t got = looked(worker, connection, leg_peek(&connection.down, worker.means.buffer, PROXY_HEADER_LIMIT))
    if got == 0:
        return False
    status = parse_proxy_header(worker.means.buffer, <size_t>got, connection.listener.proxy_protocol, &header)
    if status == PROXY_NEED_MORE:
        wait_for_more(worker, connection, header.needed)
        return False
    atomic_add64(
        &connection.listener.proxied.outcomes[<int>proxy_outcome(
            status, worker.means.buffer, <size_t>got, connection.listener.proxy_protocol
        )], 1,
    )
    if status == PROXY_MALFORMED:
        refuse(worker, connection, Reason.MALFORMED_PROXY_HEADER)
        return False
    # Of nothing, where there is no header.
    leg_discard(&connection.down, header.header_length, True)
    if header.family:
        note_conveyed(connection, &header)
    leg_want(&connection.down, 1)
    connection.phase = PHASE_SNIFF
    return True


cdef void gather(
    const Connection* connection, const Routes* routes, const ClientHello* hello, bint is_tls, Facts* facts
) noexcept nogil:
    facts.destination = connection.destination
    if facts.destination.family == 0 and route_asks_destination(routes):
        # Nobody redirected it: it wanted to come to this socket.
        leg_local(&connection.down, &facts.destination)
    facts.destination.port = connection.destination.port
    facts.source = connection.downstream
    facts.direct_source = connection.direct_source
    facts.tls = is_tls
    # The parser leaves both empty where the first bytes are no hello.
    facts.server_name = hello.sni
    facts.server_name_length = hello.sni_length
    facts.protocols = &hello.protocols
    facts.authority = NULL
    facts.authority_length = 0


cdef inline Routes* routes_of(const Connection* connection) noexcept nogil:
    # Of this turn: what a later one finds may be another table.
    return <Routes*>atomic_load_pointer(<void**>&connection.listener.routes)


cdef bint find_cluster(Worker* worker, Connection* connection, const RouteChain* chain, bint is_tls) noexcept nogil:
    """Whether it is known where the first request leads; otherwise the connection waits for more, or is refused."""
    cdef Leg* down = &connection.down
    cdef uint32_t needed = 1
    cdef int reason = <int>Reason.BAD_REQUEST
    if not is_tls:
        if (
            down.sniffed_length == 0
            and looked(worker, connection, leg_sniff(down, worker.means.buffer, HELLO_LIMIT)) == 0
        ):
            return False
        reason = choose_by_request(worker, connection, chain, &connection.slot, &needed)
    if reason == 0:
        leg_want(down, 1)
        return True
    if reason < 0:
        wait_for_more(worker, connection, needed - down.sniffed_length)
        return False
    if reason != <int>Reason.NO_ROUTE and reason != <int>Reason.BAD_REQUEST:
        connection.stage.approach.asked = 0
    refuse(worker, connection, reason)
    return False


cdef bint keep_said(
    Worker* worker, Connection* connection, const ClientHello* hello, bint is_tls, int protocol
) noexcept nogil:
    """By it the connection is judged when its chain changes. False without memory."""
    connection.how = BEGAN_UNSEEN
    if protocol != NO_REQUEST:
        connection.how = <uint8_t>(<int>BEGAN_HTTP + protocol)
    if not is_tls:
        return True
    connection.how = BEGAN_TLS
    if connection.said == NULL:
        connection.said = remember_hello(&worker.memory, hello)
    return connection.said != NULL


cdef const RouteChain* route(
    Worker* worker, Connection* connection, const ClientHello* hello, bint is_tls, int protocol
) noexcept nogil:
    """`protocol`: HttpProtocol of a request that was seen, NO_REQUEST where there was none."""
    cdef uint32_t generation = atomic_load_acquire(&connection.listener.generation)
    cdef Routes* routes = routes_of(connection)
    cdef const RouteChain* matched
    cdef Facts facts
    cdef int chain
    gather(connection, routes, hello, is_tls, &facts)
    if protocol != NO_REQUEST:
        facts.protocols = http_protocols(<HttpProtocol>protocol)
    chain = route_match(routes, &facts)
    if chain < 0:
        refuse(worker, connection, -chain)
        return NULL
    matched = route_chain(routes, chain)
    if not connection.routed:
        connection.routed = worker.now
    connection.log = matched.log
    if matched.log and connection.record == NULL:
        connection.record = begin_record(worker, connection)
    if matched.refusal:
        refuse(worker, connection, matched.refusal)
        return NULL
    connection.judged = generation
    connection.chain_number = matched.number
    if not keep_said(worker, connection, hello, is_tls, protocol):
        refuse(worker, connection, Reason.LIMIT)
        return NULL
    if matched.http_routes != NULL and not find_cluster(worker, connection, matched, is_tls):
        return NULL
    connection.stage.approach.is_http = matched.is_http
    if matched.http_routes == NULL:
        connection.stage.approach.asked = matched.is_http and (protocol == <int>HTTP_1_0 or protocol == <int>HTTP_1_1)
    if matched.sets_alpn and protocol != NO_REQUEST:
        connection.stage.approach.protocol = <uint8_t>(protocol + 1)
    if connection.record != NULL and is_tls:
        note_hello(connection.record, hello)
    if matched.termination:
        connection.stage.approach.handshake_ms = routes.terminations[matched.termination - 1].timeout_ms
        leg_will_secure(&connection.down, routes.terminations[matched.termination - 1].context)
    if matched.policies != NULL:
        policies_acquire(matched.policies)
        connection.stage.approach.policies = matched.policies
    return matched


cdef const RouteChain* route_unseen(Worker* worker, Connection* connection, int protocol) noexcept nogil:
    # Envoy's rule: where no listener filter found a transport protocol, it is raw_buffer.
    cdef ClientHello nothing
    nothing.sni[0] = 0
    nothing.sni_length = 0
    nothing.protocols.count = 0
    nothing.protocols.incomplete = 0
    return route(worker, connection, &nothing, False, protocol)


cdef const RouteChain* sniff_http(Worker* worker, Connection* connection) noexcept nogil:
    """What was sniffed is no ClientHello."""
    cdef Leg* down = &connection.down
    cdef HttpHead head
    cdef HttpStatus status = inspect_http(down.sniffed, down.sniffed_length, &head)
    if status == HTTP_NEED_MORE:
        wait_for_more(worker, connection, head.needed - down.sniffed_length)
        return NULL
    leg_want(down, 1)
    return route_unseen(worker, connection, <int>head.protocol if status == HTTP_COMPLETE else <int>NO_REQUEST)


cdef inline int inspected(HelloStatus status, const ClientHello* hello) noexcept nogil:
    if status == HELLO_COMPLETE or status == HELLO_BAD_SNI:
        return (hello.sni_length != 0) * INSPECTED_SNI + (hello.protocols.count != 0) * INSPECTED_ALPN
    return INSPECTED_TOO_LARGE if status == HELLO_OVERSIZE else INSPECTED_NOT_TLS


cdef const RouteChain* sniff_tls(Worker* worker, Connection* connection, bint then_http) noexcept nogil:
    cdef Leg* down = &connection.down
    cdef ClientHello hello
    cdef HelloStatus status = parse_client_hello(
        down.sniffed, down.sniffed_length, connection.listener.hello_limit, &hello
    )
    if status == HELLO_NEED_MORE:
        wait_for_more(worker, connection, hello.needed - down.sniffed_length)
        return NULL
    if not connection.stage.approach.inspected:
        # What is no hello may be looked at again, for its request.
        connection.stage.approach.inspected = 1
        count(&worker.inspected[inspected(status, &hello)], 1)
    if status == HELLO_NOT_TLS and then_http:
        return sniff_http(worker, connection)
    # Whoever comes next, a handshake or the relay, waits for single bytes.
    leg_want(down, 1)
    if status == HELLO_COMPLETE or status == HELLO_NOT_TLS:
        return route(worker, connection, &hello, status == HELLO_COMPLETE, NO_REQUEST)
    if status == HELLO_BAD_SNI:
        refuse(worker, connection, Reason.MALFORMED_SNI)
    elif status == HELLO_OVERSIZE:
        refuse(worker, connection, Reason.HELLO_TOO_LARGE)
    else:
        refuse(worker, connection, Reason.MALFORMED_HELLO)
    return NULL


cdef const RouteChain* sniff(Worker* worker, Connection* connection) noexcept nogil:
    cdef Leg* down = &connection.down
    cdef const Routes* routes
    cdef bint tls, http
    if connection.phase == PHASE_PROXY_HEADER and not take_proxy_header(worker, connection):
        return NULL
    routes = routes_of(connection)
    tls = connection.listener.inspect_tls and route_inspects_tls(routes, connection.destination.port)
    http = route_inspects_http(routes, connection.destination.port)
    if not tls and not http and down.sniffed_length == 0:
        return route_unseen(worker, connection, NO_REQUEST)
    if looked(worker, connection, leg_sniff(down, worker.means.buffer, HELLO_LIMIT - down.sniffed_length)) == 0:
        return NULL
    if tls:
        return sniff_tls(worker, connection, http)
    # Where nobody inspects, a chain of HTTP has asked for more.
    return sniff_http(worker, connection) if http else route_unseen(worker, connection, NO_REQUEST)


cdef bint waits_for_host(const Connection* connection) noexcept nogil:
    cdef const Leg* down = &connection.down
    cdef HttpHead head
    return down.sniffed_length and inspect_http(down.sniffed, down.sniffed_length, &head) == HTTP_COMPLETE


cdef bint takes_unseen(Connection* connection) noexcept nogil:
    """Whether a chain takes a connection of which nothing is known."""
    cdef Facts facts
    cdef ClientHello nothing
    nothing.sni[0] = 0
    nothing.sni_length = 0
    nothing.protocols.count = 0
    nothing.protocols.incomplete = 0
    gather(connection, routes_of(connection), &nothing, False, &facts)
    return route_match(routes_of(connection), &facts) >= 0


cdef const RouteChain* go_on_unseen(Worker* worker, Connection* connection) noexcept nogil:
    cdef const RouteChain* chain
    leg_want(&connection.down, 1)
    chain = route_unseen(worker, connection, NO_REQUEST)
    if chain == NULL and connection.phase <= PHASE_SNIFF:
        # A chain of HTTP took it, which has nothing to read.
        refuse(worker, connection, Reason.HELLO_TIMEOUT)
    return chain


cdef const RouteChain* own_timeout(Worker* worker, Connection* connection) noexcept nogil:
    """No time is configured, and ours is over. What began as TLS must not go on as plain text."""
    cdef uint64_t last = connection.started + <uint64_t>OWN_HELLO_TIMEOUT_MS * MILLISECOND
    cdef bint silent = not connection.stage.approach.began
    if silent and connection.listener.silent_timeout_ms and not takes_unseen(connection):
        # Whoever needs TLS here may wait, as in Envoy; there is a limit to how many do.
        return NULL
    if not silent and worker.now < last:
        schedule_in(worker, &connection.timer, last - worker.now)
        return NULL
    if not silent and connection.down.sniffed_length and connection.down.sniffed[0] == TLS_HANDSHAKE:
        refuse(worker, connection, Reason.HELLO_TIMEOUT)
        return NULL
    return go_on_unseen(worker, connection)


cdef const RouteChain* sniff_timeout(Worker* worker, Connection* connection) noexcept nogil:
    # A request without a host goes nowhere: what takes everything else would be plain text.
    if not connection.listener.continue_on_timeout or waits_for_host(connection):
        refuse(worker, connection, Reason.HELLO_TIMEOUT)
        return NULL
    if connection.listener.hello_timeout_ms == 0:
        return own_timeout(worker, connection)
    return go_on_unseen(worker, connection)
