"""Connecting to an endpoint that has several addresses, as Envoy's Happy Eyeballs does it (RFC 8305).

Rule: the addresses are tried in turn, the next one 300 ms after the one before, or at once when one fails; those that
are under way stay so. The first that is connected wins, and the others are closed. connect_timeout is that of all of
them together. Their order: that of the message, but that families alternate, beginning with that of the first; or as
happy_eyeballs_config of the cluster says, so many of one family, then one of the other.

Each attempt is counted as a connection of cluster and endpoint, as in Envoy; a failed connect is what fails with all of
them. Outlier detection hears of the endpoint, never of one of its addresses.

Worked example: 10.0.0.1, 10.0.0.2, fd00::1, connect_timeout 1 s. Nobody answers at 10.0.0.1; fd00::1 is tried after
300 ms, and refuses; so 10.0.0.2 is tried at once, and has the 700 ms that are left.

Where it differs from Envoy: a TLS handshake is not raced. The others are closed as soon as TCP is connected; when the
handshake fails, the next address is tried.
"""
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from eastgate.fastpath.loop.addresses cimport write_sockaddr
from eastgate.fastpath.loop.cluster_slots cimport SlotVersion, slot_version
from eastgate.fastpath.loop.connection cimport (
    Attempt, Connection, PHASE_CONNECT, Race, SOURCE_ATTEMPT, SOURCE_UPSTREAM,
)
from eastgate.fastpath.loop.handshake_queue cimport leave_handshakes
from eastgate.fastpath.loop.leg cimport (
    Leg, is_stale, leg_close, leg_connect, leg_init, leg_moved, leg_note, leg_watch, leg_will_secure,
)
from eastgate.fastpath.loop.worker_state cimport MILLISECOND, OWN_CONNECT_TIMEOUT_MS, Worker, schedule_in
from eastgate.fastpath.posix cimport *
from eastgate.fastpath.reason cimport Reason
from eastgate.fastpath.tables.picker cimport EndpointAddress, Table, table_address_at, table_further
from eastgate.fastpath.tls.handshake cimport tls_context_acquire, tls_context_release

# Envoy's delay between attempts; RFC 8305 recommends 250 ms.
cdef uint64_t NEXT_ATTEMPT = <uint64_t>300 * MILLISECOND


# ---- one address

cdef inline bint is_local_failure(int error) noexcept nogil:
    return (
        error == EMFILE or error == ENFILE or error == ENOBUFS or error == ENOMEM or error == EADDRNOTAVAIL
        or error == EAGAIN
    )


cdef int connect_leg(
    Worker* worker, Leg* leg, const SlotVersion* version, const EndpointAddress* address, bint early
) noexcept nogil:
    cdef sockaddr_storage raw
    cdef socklen_t length = write_sockaddr(address, &raw)
    cdef int error
    if length == 0:
        return <int>Reason.CONNECT_FAILED
    error = leg_connect(
        leg, &raw, length, &version.source4 if address.family == 4 else &version.source6,
        &version.options4 if address.family == 4 else &version.options6, early,
    )
    if error:
        return <int>Reason.LIMIT if is_local_failure(error) else <int>Reason.CONNECT_FAILED
    return <int>Reason.NONE if leg_watch(leg, &worker.watch) else <int>Reason.LIMIT


# ---- the order of several

cdef uint32_t find_address(
    const Table* table, int32_t endpoint, uint32_t number, uint32_t count, uint8_t family, bint alike
) noexcept nogil:
    """The first address from `number` on that is of this family, or that is not; `count`: there is none."""
    cdef EndpointAddress address
    while number < count:
        table_address_at(table, endpoint, number, &address)
        if (address.family == family) == alike:
            return number
        number += 1
    return count


cdef void add_address(Race* race, const Table* table, int32_t endpoint, uint32_t number) noexcept nogil:
    cdef Attempt* attempt = &race.attempts[race.count]
    cdef EndpointAddress address
    table_address_at(table, endpoint, number, &address)
    attempt.race = race
    leg_init(&attempt.leg, SOURCE_ATTEMPT, -1)
    attempt.address.family = address.family
    attempt.address.port = address.port
    memcpy(attempt.address.bytes, address.address, address.length)
    race.count += 1


cdef void add_addresses(Race* race, const SlotVersion* version, int32_t endpoint, uint32_t count) noexcept nogil:
    cdef const Table* table = version.table
    cdef EndpointAddress address
    cdef uint8_t family = version.first_family
    cdef uint32_t first, other, _
    if family == 0:
        table_address_at(table, endpoint, 0, &address)
        family = address.family
    first = find_address(table, endpoint, 0, count, family, True)
    other = find_address(table, endpoint, 0, count, family, False)
    while first < count or other < count:
        for _ in range(version.first_family_count):
            if first < count:
                add_address(race, table, endpoint, first)
                first = find_address(table, endpoint, first + 1, count, family, True)
        if other < count:
            add_address(race, table, endpoint, other)
            other = find_address(table, endpoint, other + 1, count, family, False)


# ---- the race

cdef inline const SlotVersion* version_of(Worker* worker, Connection* connection) noexcept nogil:
    """NULL when its cluster is not there any more."""
    cdef const SlotVersion* version = slot_version(&worker.slots[connection.slot])
    return version if version != NULL and version.state == connection.cluster else NULL


cdef inline void set_timer(Worker* worker, Connection* connection, bint more) noexcept nogil:
    """`more`: another address follows, unless the time of all is over before."""
    cdef Race* race = connection.stage.approach.race
    cdef uint64_t left = race.deadline - worker.now if race.deadline > worker.now else 0
    race.more = more and left > NEXT_ATTEMPT
    schedule_in(worker, &connection.timer, NEXT_ATTEMPT if race.more else left)


cdef int go_on(Worker* worker, Connection* connection, const SlotVersion* version) noexcept nogil:
    """Begin with the next address that can be begun with. Answers as race_begin."""
    cdef Race* race = connection.stage.approach.race
    cdef Attempt* attempt
    cdef EndpointAddress address
    cdef int reason = <int>Reason.CONNECT_FAILED
    while version != NULL and race.begun < race.count:
        attempt = &race.attempts[race.begun]
        if race.begun:
            # The first one was counted by who began.
            atomic_add64(&connection.cluster.cx_total, 1)
            atomic_add(&connection.endpoint.cx_total, 1)
        race.begun += 1
        address.family = attempt.address.family
        address.port = attempt.address.port
        address.address = attempt.address.bytes
        reason = connect_leg(worker, &attempt.leg, version, &address, race.early)
        if reason == <int>Reason.NONE:
            race.running += 1
            break
        leg_close(&attempt.leg, &worker.watch)
    if race.running == 0:
        return reason
    set_timer(worker, connection, version != NULL and race.begun < race.count)
    return <int>Reason.NONE


cdef int race_begin(
    Worker* worker, Connection* connection, const SlotVersion* version, int32_t endpoint, TlsContext* context
) noexcept nogil:
    cdef uint32_t count = 1 + table_further(version.table, endpoint)
    cdef Race* race = <Race*>calloc(1, sizeof(Race) + count * sizeof(Attempt))
    if race == NULL:
        return <int>Reason.LIMIT
    race.attempts = <Attempt*>(race + 1)
    race.connection = connection
    race.context = context
    if context != NULL:
        tls_context_acquire(context)
    race.early = connection.down.sniffed_length != 0 or context != NULL
    race.deadline = worker.now + <uint64_t>(version.connect_timeout_ms or OWN_CONNECT_TIMEOUT_MS) * MILLISECOND
    add_addresses(race, version, endpoint, count)
    connection.stage.approach.race = race
    connection.phase = PHASE_CONNECT
    return go_on(worker, connection, version)


cdef void close_attempts(Worker* worker, Race* race) noexcept nogil:
    cdef uint32_t number
    for number in range(race.begun):
        leg_close(&race.attempts[number].leg, &worker.watch)
    race.running = 0


cdef void hand_over(Worker* worker, Attempt* attempt) noexcept nogil:
    """Make this leg the connection's, and close the others."""
    cdef Race* race = attempt.race
    cdef Connection* connection = race.connection
    connection.up = attempt.leg
    connection.up.source = SOURCE_UPSTREAM
    if connection.record != NULL:
        connection.record.upstream_remote = attempt.address
    leg_init(&attempt.leg, SOURCE_ATTEMPT, -1)
    close_attempts(worker, race)
    if not leg_moved(&connection.up, &worker.watch):
        connection.up.gone = 1
    if race.context != NULL:
        leg_will_secure(&connection.up, race.context)
    set_timer(worker, connection, False)


cdef Connection* race_event(Worker* worker, Leg* leg, const epoll_event* event) noexcept nogil:
    cdef Attempt* attempt = <Attempt*>leg
    cdef Race* race = attempt.race
    if is_stale(leg, event.data.u64):
        return NULL
    leg_note(leg, event.events)
    if leg.gone and race.begun < race.count:
        go_on(worker, race.connection, version_of(worker, race.connection))
    if leg.gone and race.running > 1:
        race.running -= 1
        leg_close(leg, &worker.watch)
        return NULL
    if not leg.gone and not leg.writable:
        return NULL
    hand_over(worker, attempt)
    return race.connection


cdef bint race_timeout(Worker* worker, Connection* connection) noexcept nogil:
    cdef Race* race = connection.stage.approach.race
    if race == NULL or not race.more:
        return False
    go_on(worker, connection, version_of(worker, connection))
    return True


cdef bint race_resumes(Worker* worker, Connection* connection) noexcept nogil:
    cdef Race* race = connection.stage.approach.race
    if race == NULL or race.begun == race.count or worker.now >= race.deadline:
        return False
    leave_handshakes(&worker.handshakes, connection)
    leg_close(&connection.up, &worker.watch)
    connection.phase = PHASE_CONNECT
    return go_on(worker, connection, version_of(worker, connection)) == <int>Reason.NONE


cdef void race_end(Worker* worker, Connection* connection) noexcept nogil:
    cdef Race* race = connection.stage.approach.race
    if race == NULL:
        return
    connection.stage.approach.race = NULL
    close_attempts(worker, race)
    if race.context != NULL:
        tls_context_release(race.context)
    race.next_ended = worker.ended_races
    worker.ended_races = race


cdef void free_races(Worker* worker) noexcept nogil:
    cdef Race* race
    while worker.ended_races != NULL:
        race = worker.ended_races
        worker.ended_races = race.next_ended
        free(race)
