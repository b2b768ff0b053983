"""The first request of a connection of HTTP: where it goes, or that it is there to be answered.

HTTP/1 is read up to its Host, or to the end of its head where a route asks for another header, 16 KiB at most. Of
HTTP/2 nothing is waited for: its client may wait for our SETTINGS. It goes where the virtual host leads that holds the
address it was going to.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport strlen

from eastgate.fastpath.loop.closing cimport refuse
from eastgate.fastpath.loop.connection cimport BEGAN_HTTP, Connection, PHASE_HEAR
from eastgate.fastpath.loop.leg cimport Leg, leg_hear, leg_local, leg_want, leg_watch
from eastgate.fastpath.loop.remembered cimport remember_authority
from eastgate.fastpath.loop.worker_state cimport MILLISECOND, Worker, schedule_in
from eastgate.fastpath.match.facts cimport Address
from eastgate.fastpath.match.http_choice cimport (
    HTTP_FOUND, HTTP_MORE, HTTP_NOBODY, HttpChoice, choose_http_route,
)
from eastgate.fastpath.match.http_head cimport (
    AUTHORITY_CAPACITY, HTTP_2, HTTP_COMPLETE, HTTP_LIMIT, HTTP_MALFORMED, HTTP_NEED_MORE, HTTP_NO_AUTHORITY, HttpHead,
    HttpStatus, inspect_http,
    read_http_head,
)
from eastgate.fastpath.match.route_nodes cimport RouteChain
from eastgate.fastpath.posix cimport AF_INET, AF_INET6, inet_ntop, ssize_t
from eastgate.fastpath.random cimport next_random
from eastgate.fastpath.reason cimport Reason

cdef enum:
    ADDRESS_TEXT = 64
    HEAR_MS = 5000              # how long a request that is denied may take to come


cdef void name_destination(const Connection* connection, HttpHead* head) noexcept nogil:
    """Where it was going, as the authority of a request."""
    cdef Address address = connection.destination
    cdef char text[ADDRESS_TEXT]
    if address.family == 0:
        leg_local(&connection.down, &address)
    text[0] = 0
    if address.family == 4:
        inet_ntop(AF_INET, address.bytes, text, sizeof(text))
    elif address.family == 6:
        inet_ntop(AF_INET6, address.bytes, text, sizeof(text))
    snprintf(
        head.authority, AUTHORITY_CAPACITY, b"[%s]:%d" if address.family == 6 else b"%s:%d",
        <char*>text, <int>connection.destination.port,
    )
    head.authority_length = <uint16_t>strlen(head.authority)


cdef int choose_by_request(
    Worker* worker, Connection* connection, const RouteChain* chain, uint32_t* slot, uint32_t* needed
) noexcept nogil:
    cdef const uint8_t* data = connection.down.sniffed
    cdef size_t length = connection.down.sniffed_length
    cdef HttpHead head
    cdef HttpChoice choice
    cdef HttpStatus status = read_http_head(data, length, &head)
    if status == HTTP_NEED_MORE:
        needed[0] = head.needed
        return -1
    if status != HTTP_COMPLETE:
        connection.stage.approach.asked = status == HTTP_MALFORMED or status == HTTP_NO_AUTHORITY
        return <int>Reason.BAD_REQUEST
    connection.stage.approach.asked = head.protocol != HTTP_2
    if head.protocol == HTTP_2:
        name_destination(connection, &head)
    choice = choose_http_route(chain.http_routes, data, length, &head, next_random(&worker.random), slot)
    if choice == HTTP_FOUND:
        connection.how = <uint8_t>(<int>BEGAN_HTTP + <int>head.protocol)
        if head.protocol != HTTP_2 and connection.said == NULL:
            connection.said = remember_authority(&worker.memory, head.authority, head.authority_length)
        return 0 if head.protocol == HTTP_2 or connection.said != NULL else <int>Reason.LIMIT
    if choice == HTTP_MORE and length < HTTP_LIMIT:
        needed[0] = <uint32_t>length + 1
        return -1
    if choice == HTTP_MORE:
        return <int>Reason.BAD_REQUEST
    # A route that refuses, or asks for what nobody here knows, is the configuration's.
    return <int>(Reason.NO_ROUTE if choice == HTTP_NOBODY else Reason.POLICY)


cdef void hear(Worker* worker, Connection* connection) noexcept nogil:
    connection.phase = PHASE_HEAR
    schedule_in(worker, &connection.timer, <uint64_t>HEAR_MS * MILLISECOND)
    leg_want(&connection.down, 1)
    # What was read for another filter may hold it.
    if find_request(connection) == HTTP_NEED_MORE:
        heard(worker, connection)
    else:
        refuse(worker, connection, Reason.POLICY)


cdef HttpStatus find_request(Connection* connection) noexcept nogil:
    cdef HttpHead head
    cdef HttpStatus status = HTTP_NEED_MORE
    if connection.down.sniffed_length:
        status = inspect_http(connection.down.sniffed, connection.down.sniffed_length, &head)
        connection.stage.approach.asked = status == HTTP_COMPLETE and head.protocol != HTTP_2
    return status


cdef void heard(Worker* worker, Connection* connection) noexcept nogil:
    cdef Leg* down = &connection.down
    cdef ssize_t got = leg_hear(down, worker.means.buffer, HTTP_LIMIT - down.sniffed_length)
    cdef HttpStatus status = HTTP_NEED_MORE
    if got > 0:
        status = find_request(connection)
    if status == HTTP_NEED_MORE and (got > 0 or (got == 0 and not down.ended)):
        if leg_watch(down, &worker.watch):
            return
    refuse(worker, connection, Reason.POLICY)


cdef void hear_timeout(Worker* worker, Connection* connection) noexcept nogil:
    refuse(worker, connection, Reason.POLICY)
