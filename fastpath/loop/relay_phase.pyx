"""The relay as a phase: bytes both ways under the budgets of a turn, timers, and how it ends. Moves no byte itself."""
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t, UINT64_MAX
from libc.string cimport memset

from eastgate.fastpath.loop.charges cimport CHARGE_ENDPOINT, CHARGE_PENDING, give_back
from eastgate.fastpath.loop.closing cimport abort_connection, finish
from eastgate.fastpath.loop.cluster_slots cimport SlotVersion, slot_version
from eastgate.fastpath.loop.connection cimport Connection, PHASE_RELAY, Relayed
from eastgate.fastpath.loop.leg cimport (
    Keepalive, leg_forget_offer, leg_guard, leg_local, leg_set_options, leg_take_sniffed,
)
from eastgate.fastpath.loop.outlier_counters cimport endpoint_connected
from eastgate.fastpath.loop.race cimport race_end
from eastgate.fastpath.loop.relay cimport COPY_LIMIT, FLOW_BROKEN, FLOW_BUSY, FLOW_ENDED, FlowStatus, relay_flow
from eastgate.fastpath.loop.review cimport end_reviewed, is_outdated, review
from eastgate.fastpath.loop.telemetry cimport telemetry_moved, telemetry_opened
from eastgate.fastpath.loop.timer_wheel cimport wheel_cancel
from eastgate.fastpath.loop.times cimport end_attempt, note_connected
from eastgate.fastpath.loop.worker_state cimport (
    MILLISECOND, OWN_WAIT_MS, Worker, raise_ready, schedule_in, wake_queue,
)
from eastgate.fastpath.match.facts cimport Address
from eastgate.fastpath.posix cimport atomic_add, atomic_add64, count
from eastgate.fastpath.reason cimport Reason
from eastgate.fastpath.tables.endpoint_state cimport Moved, moved_of

cdef enum:
    FLOW_BUDGET = 1048576       # bytes of one flow per turn: what a wide pipe holds

# Bits of connection.guarded.
cdef enum:
    GUARDED_UPSTREAM = 1
    HALF_CLOSED = 2             # one direction has ended, and its timer is set
    GUARDED_HALF_CLOSED = 4

# netfilter forgets a redirected connection that is half closed after a minute of silence, and what comes then is lost.
# Set, as the other, when nothing has come for a while: most end at once.
cdef enum: HALF_CLOSED_KEEPALIVE_S = 30
# Keepalive and the user timeout of an upstream socket are set when the connection has lived this long: most never do.
cdef uint64_t GUARD_AFTER = <uint64_t>1000 * MILLISECOND
# How long a connection with one direction ended, whose idle timeout is off, waits for the other.
cdef uint64_t OWN_HALF_CLOSED_TIMEOUT = <uint64_t>OWN_WAIT_MS * MILLISECOND


cdef void count_by_chain(Connection* connection, uint64_t up, uint64_t down) noexcept nogil:
    if connection.chain != NULL:
        if up:
            atomic_add64(&connection.chain.rx_bytes, up)
        if down:
            atomic_add64(&connection.chain.tx_bytes, down)
    if connection.stage.relayed.traffic != NULL:
        telemetry_moved(connection, up, down)


cdef inline void count_moved(Connection* connection, uint64_t up, uint64_t down) noexcept nogil:
    """Bytes from the client to the endpoint, and back."""
    cdef Moved* moved
    if up | down == 0:
        return
    moved = moved_of(connection.endpoint)
    if up:
        count(&connection.listener.rx_bytes, up)
        atomic_add64(&connection.cluster.tx_bytes, up)
        if moved != NULL:
            atomic_add64(&moved.sent, up)
    if down:
        count(&connection.listener.tx_bytes, down)
        atomic_add64(&connection.cluster.rx_bytes, down)
        if moved != NULL:
            atomic_add64(&moved.received, down)
    if connection.counted:
        count_by_chain(connection, up, down)


cdef void begin_relay(Worker* worker, Connection* connection) noexcept nogil:
    cdef Relayed* relayed = &connection.stage.relayed
    race_end(worker, connection)
    connection.phase = PHASE_RELAY
    memset(relayed, 0, sizeof(Relayed))
    relayed.connected = worker.now
    relayed.last_activity = worker.now
    give_back(worker, connection, CHARGE_PENDING)
    connection.charged |= CHARGE_ENDPOINT
    atomic_add(&connection.endpoint.active, 1)
    endpoint_connected(connection.endpoint)
    note_connected(worker, connection)
    if connection.queue != NULL:
        # As Envoy looks (and counts what it finds) when one has been let in, and when it is connected.
        wake_queue(worker, connection.queue)
    wheel_cancel(&worker.wheel, &connection.timer)
    connection.down.writable = 1
    leg_forget_offer(&connection.down)
    relayed.upward.held = leg_take_sniffed(&connection.down, &relayed.upward.held_length)
    relayed.upward.bytes = relayed.upward.held_length
    if connection.telemetry:
        telemetry_opened(connection)
    count_moved(connection, relayed.upward.bytes, 0)
    if is_outdated(connection):
        # A push came while it was on its way.
        review(worker, connection)
    # It may have lived long enough already.
    relay_timeout(worker, connection)


cdef void keep_busy(Worker* worker, Connection* connection) noexcept nogil:
    if not connection.busy:
        connection.busy = 1
        connection.next_listed = worker.busy
        worker.busy = connection
        raise_ready(worker)


cdef int why_broken(const Connection* connection) noexcept nogil:
    if connection.up.reset:
        return <int>Reason.UPSTREAM_RESET
    # Where neither side reset, there was no memory to hold what one of them did not take.
    return <int>Reason.CLIENT_RESET if connection.down.reset else <int>Reason.LIMIT


cdef void relay(Worker* worker, Connection* connection) noexcept nogil:
    cdef Relayed* relayed = &connection.stage.relayed
    cdef uint64_t up_before = relayed.upward.bytes
    cdef uint64_t down_before = relayed.downward.bytes
    cdef uint64_t up_moved, down_moved
    cdef bint endpoint_was_first = connection.down.shut
    # One bulk flow must not starve the others, nor all of them together the timers and the accepts.
    cdef size_t budget = FLOW_BUDGET if worker.turn_left else COPY_LIMIT
    cdef FlowStatus upward = relay_flow(&relayed.upward, &connection.down, &connection.up, &worker.means, budget)
    cdef FlowStatus downward
    if upward == FLOW_BROKEN:
        # Writing took the error with it, and reading would now find an orderly end: what the endpoint said before its
        # reset goes on, but no FIN behind it.
        connection.down.shut = 1
    downward = relay_flow(&relayed.downward, &connection.up, &connection.down, &worker.means, budget)
    up_moved = relayed.upward.bytes - up_before
    down_moved = relayed.downward.bytes - down_before
    if up_moved | down_moved:
        worker.turn_left -= min(worker.turn_left, up_moved + down_moved)
        relayed.last_activity = worker.now
        count_moved(connection, up_moved, down_moved)
    if upward == FLOW_BROKEN or downward == FLOW_BROKEN:
        end_attempt(worker, connection, connection.up.reset)
        abort_connection(worker, connection, why_broken(connection))
    elif upward == FLOW_ENDED and downward == FLOW_ENDED:
        end_attempt(worker, connection, not endpoint_was_first)
        finish(worker, connection, Reason.NONE)
    elif connection.down.reset:
        # A client that reset wants nothing delivered; an endpoint that does not read would keep the rest for long.
        abort_connection(worker, connection, Reason.CLIENT_RESET)
    else:
        if upward == FLOW_BUSY or downward == FLOW_BUSY:
            keep_busy(worker, connection)
        if (upward == FLOW_ENDED or downward == FLOW_ENDED) and not connection.guarded & HALF_CLOSED:
            connection.guarded |= HALF_CLOSED
            half_closed(worker, connection)


cdef void half_closed(Worker* worker, Connection* connection) noexcept nogil:
    """One direction has ended."""
    cdef const Relayed* relayed = &connection.stage.relayed
    cdef uint64_t due = OWN_HALF_CLOSED_TIMEOUT
    if connection.idle_timeout == 0:
        connection.idle_timeout = OWN_HALF_CLOSED_TIMEOUT
        if connection.expiry:
            due = min(due, connection.expiry - min(connection.expiry, worker.now))
        if connection.ends_for:
            due = min(due, relayed.ends - min(relayed.ends, worker.now))
        schedule_in(worker, &connection.timer, due)
    if connection.listener.captured:
        relay_timeout(worker, connection)


cdef void guard_half_closed(Connection* connection) noexcept nogil:
    cdef Keepalive keepalive
    connection.guarded |= GUARDED_HALF_CLOSED
    memset(&keepalive, 0, sizeof(keepalive))
    keepalive.time_s = HALF_CLOSED_KEEPALIVE_S
    keepalive.interval_s = HALF_CLOSED_KEEPALIVE_S
    leg_guard(&connection.down, &keepalive)
    if connection.upstream.family != 1:
        leg_guard(&connection.up, &keepalive)


cdef void guard_upstream(Worker* worker, Connection* connection) noexcept nogil:
    """Have the kernel find out when the upstream is gone; see GUARD_AFTER."""
    cdef SlotVersion* version = slot_version(&worker.slots[connection.slot])
    cdef Keepalive keepalive
    cdef Address own
    connection.guarded |= GUARDED_UPSTREAM
    if connection.upstream.family == 1:
        return
    memset(&keepalive, 0, sizeof(keepalive))
    # The slot may have been given to another cluster since: then the operating system's values stay.
    if version != NULL and version.state == connection.cluster:
        keepalive.time_s = version.keepalive_time_s
        keepalive.interval_s = version.keepalive_interval_s
        keepalive.probes = version.keepalive_probes
    leg_guard(&connection.up, &keepalive)
    if (
        version != NULL and version.state == connection.cluster and version.options4.count + version.options6.count
        and leg_local(&connection.up, &own)
    ):
        # They hold over what is set everywhere. Of an endpoint's addresses any may have been connected to.
        leg_set_options(&connection.up, &version.options4 if own.family == 4 else &version.options6)


cdef void relay_timeout(Worker* worker, Connection* connection) noexcept nogil:
    # The idle timer is not moved by traffic: when it rings, the time of the last byte says whether it counts.
    cdef const Relayed* relayed = &connection.stage.relayed
    cdef uint64_t due = UINT64_MAX
    cdef uint64_t half
    if not connection.guarded & GUARDED_UPSTREAM:
        due = relayed.connected + GUARD_AFTER
        if due <= worker.now:
            guard_upstream(worker, connection)
            due = UINT64_MAX
    if connection.listener.captured and connection.guarded & (HALF_CLOSED | GUARDED_HALF_CLOSED) == HALF_CLOSED:
        half = relayed.last_activity + GUARD_AFTER
        if half <= worker.now:
            guard_half_closed(connection)
        else:
            due = min(due, half)
    if connection.idle_timeout:
        if relayed.last_activity + connection.idle_timeout <= worker.now:
            finish(worker, connection, Reason.IDLE_TIMEOUT)
            return
        due = min(due, relayed.last_activity + connection.idle_timeout)
    if connection.expiry:
        if connection.expiry <= worker.now:
            finish(worker, connection, Reason.DURATION_TIMEOUT)
            return
        due = min(due, connection.expiry)
    if connection.ends_for:
        if relayed.ends <= worker.now and end_reviewed(worker, connection):
            return
        if connection.ends_for:
            due = min(due, relayed.ends)
    if due != UINT64_MAX:
        schedule_in(worker, &connection.timer, due - worker.now)


cdef void relay_busy(Worker* worker) noexcept nogil:
    cdef Connection* connection = worker.busy
    cdef Connection* following
    worker.busy = NULL
    while connection != NULL:
        following = connection.next_listed
        connection.busy = 0
        if connection.phase == PHASE_RELAY:
            relay(worker, connection)
        connection = following
