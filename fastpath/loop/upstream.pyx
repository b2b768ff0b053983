"""From a filter chain to a connection with an endpoint: cluster, pick, limits, connect, and another endpoint when one
fails. No byte is sent here."""
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from eastgate.fastpath.loop.charges cimport (
    CHARGE_CLUSTER, CHARGE_PENDING, CHARGE_PLACE, CHARGE_SILENT, CHARGE_WAITING, give_back, take_within,
)
from eastgate.fastpath.loop.closing cimport refuse
from eastgate.fastpath.loop.cluster_slots cimport ClusterState, SlotVersion, cluster_acquire, slot_version, version_tls
from eastgate.fastpath.loop.connection cimport (
    Connection, EndpointQueue, PHASE_CONNECT, PHASE_WAIT, TRIED_CAPACITY,
)
from eastgate.fastpath.loop.endpoint_limit cimport enter_endpoint, fail_waiting, wait_for_endpoint
from eastgate.fastpath.loop.endpoint_queue cimport queue_drop
from eastgate.fastpath.loop.handshake_queue cimport leave_handshakes
from eastgate.fastpath.loop.leg cimport leg_close, leg_error, leg_local, leg_watch, leg_will_secure
from eastgate.fastpath.loop.outlier_counters cimport endpoint_failed
from eastgate.fastpath.loop.race cimport connect_leg, race_begin, race_end, race_resumes, race_timeout
from eastgate.fastpath.loop.timer_wheel cimport wheel_cancel
from eastgate.fastpath.loop.times cimport begin_attempt, end_attempt
from eastgate.fastpath.loop.worker_state cimport MILLISECOND, OWN_CONNECT_TIMEOUT_MS, Worker, schedule_in
from eastgate.fastpath.match.chain_counts cimport chain_acquire
from eastgate.fastpath.match.facts cimport Address
from eastgate.fastpath.match.route_nodes cimport RouteChain, target_slot
from eastgate.fastpath.posix cimport *
from eastgate.fastpath.random cimport next_random
from eastgate.fastpath.reason cimport Reason
from eastgate.fastpath.tables.endpoint_state cimport EndpointState, state_acquire, state_release
from eastgate.fastpath.tables.hashing cimport source_hash
from eastgate.fastpath.tables.picker cimport (
    EndpointAddress, PickCursor, PickHash, Table, cursor_free, cursor_init, table_address, table_further,
    table_hashes, table_pick, table_pick_hash, table_size, table_state,
)
from eastgate.fastpath.tables.untried cimport untried_row
from eastgate.fastpath.tls.handshake cimport TlsContext

# ::1
cdef const char* LOOPBACK6 = b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"

cdef enum:
    REPICKS = 256               # picks to find an endpoint that was not tried yet; some microseconds, after a failure


# ---- pick

cdef inline PickCursor* cursor_of(Worker* worker, uint32_t index, SlotVersion* version) noexcept nogil:
    # The first pick after a publish starts the new table at a random place of this worker.
    cdef PickCursor* cursor = &worker.cursors[index]
    if worker.cursor_generations[index] != version.generation:
        cursor_free(cursor)
        cursor_init(version.table, cursor, next_random(&worker.random))
        worker.cursor_generations[index] = version.generation
    return cursor


cdef inline bint was_tried(Connection* connection, EndpointState* state) noexcept nogil:
    cdef int place
    for place in range(TRIED_CAPACITY):
        if connection.stage.approach.tried[place] == state:
            return True
    return False


cdef inline bint find_hash(Connection* connection, PickHash* hash) noexcept nogil:
    """The hash of its client, where its chain has a policy for that."""
    cdef uint8_t family = connection.downstream.family
    hash.present = connection.stage.approach.hash_source_ip and (family == 4 or family == 6)
    hash.value = source_hash(family, connection.downstream.bytes) if hash.present else 0
    return hash.present


cdef int32_t pick_for(
    Connection* connection, const Table* table, PickCursor* cursor, ClusterState* cluster, uint32_t own, int attempt
) noexcept nogil:
    """Pick; `own`: how many of the cluster's active connections are this one. Others than attempt 0 lead elsewhere."""
    cdef PickHash hash
    cdef uint32_t active, waiting
    if not table_hashes(table):
        return table_pick(table, cursor)
    find_hash(connection, &hash)
    hash.attempt = <uint32_t>attempt
    # Established ones, as in Envoy; counted one after the other while other workers go on.
    active = atomic_load(&cluster.cx_active) + atomic_load(&cluster.waiting)
    waiting = atomic_load(&cluster.pending_active) + own
    cursor.cluster_active = active - waiting if active > waiting else 0
    return table_pick_hash(table, cursor, &hash)


cdef int32_t pick_untried(
    Worker* worker, Connection* connection, const Table* table, PickCursor* cursor
) noexcept nogil:
    # Picks go by loads, which give a priority all or nothing while its dead endpoints count as healthy. What no pick
    # gives is looked for in the others. With nobody left the last pick stands: one that refused may accept now.
    # From a place of its own in the schedule: first picks go on as if nobody had failed.
    cdef PickCursor own = cursor[0]
    cdef int32_t endpoint, other
    cdef PickHash hash
    cdef int attempt
    own.position = next_random(&worker.random)
    own.random = next_random(&worker.random)
    endpoint = pick_for(connection, table, &own, connection.cluster, 0, 0)
    if table_size(table) <= 1:
        return endpoint
    for attempt in range(1, REPICKS + 1):
        if endpoint < 0 or not was_tried(connection, table_state(table, endpoint)):
            return endpoint
        endpoint = pick_for(connection, table, &own, connection.cluster, 0, attempt)
    # Who has a hash stays with one endpoint there, too.
    if not find_hash(connection, &hash):
        hash.value = next_random(&worker.random)
    other = untried_row(table, connection.stage.approach.tried, TRIED_CAPACITY, hash.value)
    return other if other >= 0 else endpoint


cdef int32_t row_of(const Table* table, Connection* connection) noexcept nogil:
    """Where its endpoint stands now; -1 when it is gone."""
    cdef int32_t size = <int32_t>table_size(table)
    cdef int32_t row = connection.stage.approach.row
    if row < size and table_state(table, row) == connection.endpoint:
        return row
    for row in range(size):
        if table_state(table, row) == connection.endpoint:
            return row
    return -1


cdef inline bint is_same_host(const Address* one, const Address* other) noexcept nogil:
    return one.family == other.family and memcmp(one.bytes, other.bytes, 4 if one.family == 4 else 16) == 0


cdef inline bint is_loopback(const Address* address) noexcept nogil:
    return address.bytes[0] == 127 if address.family == 4 else memcmp(address.bytes, LOOPBACK6, 16) == 0


cdef bint is_loop(Connection* connection, uint16_t port) noexcept nogil:
    """Whether the proxy would connect to itself: the client came straight here, or wanted to go to a socket of ours."""
    cdef const Address* wanted = &connection.destination
    cdef Address own
    memset(&own, 0, sizeof(own))
    if not wanted.family or not leg_local(&connection.down, &own):
        return True
    if port == own.port and is_same_host(wanted, &own):
        return True
    # Redirected on its own host it was taken at 127.0.0.1, whichever address of the host it was going to.
    return connection.listener.original_dst and port == connection.listener.own_port and (
        is_same_host(wanted, &own) or is_same_host(wanted, &connection.direct_source) or is_loopback(wanted)
    )


# ---- connect

cdef int open_upstream(Worker* worker, Connection* connection, SlotVersion* version, int32_t endpoint) noexcept nogil:
    """0 when the connect is under way, otherwise the Reason why it is not."""
    cdef ClusterState* cluster = connection.cluster
    cdef EndpointAddress address
    cdef TlsContext* context = version_tls(version, endpoint)
    cdef int reason
    table_address(version.table, endpoint, &address)
    if version.original_dst:
        address.family = connection.destination.family
        address.port = version.port_override or connection.destination.port
        address.address = connection.destination.bytes
    connection.upstream.family = address.family
    connection.upstream.port = address.port
    if address.family != 1:
        memcpy(connection.upstream.bytes, address.address, 4 if address.family == 4 else 16)
    atomic_add64(&cluster.cx_total, 1)
    begin_attempt(worker, connection)
    atomic_add(&connection.endpoint.cx_total, 1)
    # The client's socket first: what it has to report already is then known before the connect is done, in one turn.
    if not leg_watch(&connection.down, &worker.watch):
        return <int>Reason.LIMIT
    if table_further(version.table, endpoint):
        return race_begin(worker, connection, version, endpoint, context)
    reason = connect_leg(
        worker, &connection.up, version, &address, connection.down.sniffed_length != 0 or context != NULL
    )
    if reason != Reason.NONE:
        return reason
    if context != NULL:
        leg_will_secure(&connection.up, context)
    connection.phase = PHASE_CONNECT
    schedule_in(worker, &connection.timer,
                <uint64_t>(version.connect_timeout_ms or OWN_CONNECT_TIMEOUT_MS) * MILLISECOND)
    return 0


cdef int connect_to(Worker* worker, Connection* connection, SlotVersion* version, int32_t endpoint) noexcept nogil:
    """0 when the connect is under way or waits for the endpoint's limit, otherwise the Reason why it is not."""
    connection.stage.approach.row = endpoint
    if enter_endpoint(worker, connection, version):
        return open_upstream(worker, connection, version, endpoint)
    return <int>Reason.NONE if wait_for_endpoint(worker, connection) else <int>Reason.LIMIT


cdef void count_failure(Worker* worker, Connection* connection, int reason) noexcept nogil:
    cdef uint64_t one = 1
    end_attempt(worker, connection, reason != Reason.LIMIT and reason != Reason.CONNECT_TIMEOUT)
    # Who only waited has not connected.
    if connection.charged & CHARGE_CLUSTER:
        atomic_add64(&connection.cluster.cx_connect_fail, 1)
        if reason == Reason.CONNECT_TIMEOUT:
            atomic_add64(&connection.cluster.cx_connect_timeout, 1)
    if reason != Reason.LIMIT and endpoint_failed(connection.cluster, connection.endpoint):
        # Whoever hosts a worker looks after each turn; with a thread, the control side sleeps until it is told.
        if worker.events.notify_fd >= 0:
            write(worker.events.notify_fd, &one, sizeof(one))


cdef void leave_upstream(Worker* worker, Connection* connection) noexcept nogil:
    connection.stage.approach.tried[(connection.attempts - 1) % TRIED_CAPACITY] = connection.endpoint
    give_back(worker, connection, CHARGE_PLACE | CHARGE_WAITING)
    end_attempt(worker, connection, False)
    wheel_cancel(&worker.wheel, &connection.timer)
    leave_handshakes(&worker.handshakes, connection)
    race_end(worker, connection)
    leg_close(&connection.up, &worker.watch)


cdef bint try_another(Worker* worker, Connection* connection, SlotVersion* version, int* reason) noexcept nogil:
    """Connect to an endpoint that was not tried yet; False when nobody may be tried. reason[0]: see connect_to."""
    cdef int32_t endpoint
    cdef bint waited = not connection.charged & CHARGE_CLUSTER
    if waited and atomic_load(&connection.cluster.cx_active) >= version.max_connections:
        atomic_add64(&connection.cluster.cx_overflow, 1)
        reason[0] = <int>Reason.OVERFLOW
        return False
    endpoint = pick_untried(worker, connection, version.table, cursor_of(worker, connection.slot, version))
    if endpoint < 0:
        return False
    state_release(connection.endpoint)
    connection.endpoint = table_state(version.table, endpoint)
    state_acquire(connection.endpoint)
    connection.attempts += 1
    reason[0] = connect_to(worker, connection, version, endpoint)
    return True


cdef void connect_failed(Worker* worker, Connection* connection, int reason) noexcept nogil:
    """Count the failure and try another endpoint of the same cluster, or refuse for `reason`. No byte was sent yet."""
    cdef SlotVersion* version
    if reason != Reason.LIMIT and race_resumes(worker, connection):
        return
    if connection.charged & CHARGE_PLACE and reason != Reason.LIMIT:
        fail_waiting(worker, connection.queue, reason)
    while True:
        count_failure(worker, connection, reason)
        version = slot_version(&worker.slots[connection.slot])
        # The slot may have been given to another cluster since: its endpoints are none of this connection's.
        if reason == Reason.LIMIT or version == NULL or version.state != connection.cluster:
            break
        if connection.attempts >= connection.stage.approach.max_attempts:
            atomic_add64(&connection.cluster.cx_attempts_exceeded, 1)
            break
        leave_upstream(worker, connection)
        if not try_another(worker, connection, version, &reason):
            break
        if reason == Reason.NONE:
            return
    refuse(worker, connection, reason)


# ---- the phase

cdef int32_t claim_endpoint(
    Worker* worker, Connection* connection, uint32_t slot, SlotVersion* version
) noexcept nogil:
    """Endpoint to connect to, counted as active and pending; or minus a Reason."""
    # Envoy's order: max_connections before an endpoint is chosen, max_pending_requests after.
    cdef ClusterState* cluster = version.state
    cdef int32_t endpoint
    if not take_within(&cluster.cx_active, version.max_connections):
        atomic_add64(&cluster.cx_overflow, 1)
        return -<int>Reason.OVERFLOW
    connection.charged |= CHARGE_CLUSTER
    if version.original_dst and is_loop(connection, version.port_override or connection.destination.port):
        endpoint = -<int>Reason.LOOP
    else:
        endpoint = pick_for(connection, version.table, cursor_of(worker, slot, version), cluster, 1, 0)
    if endpoint < 0:
        atomic_add64(&cluster.cx_none_healthy, 1)
        return endpoint
    if not take_within(&cluster.pending_active, version.max_pending):
        atomic_add64(&cluster.pending_overflow, 1)
        # To Envoy a failed attempt, like all that would follow.
        atomic_add64(&cluster.cx_attempts_exceeded, 1)
        return -<int>Reason.OVERFLOW
    connection.charged |= CHARGE_PENDING
    return endpoint


cdef bint adopt(Worker* worker, Connection* connection, const RouteChain* chain) noexcept nogil:
    # Of routes by request the sniffer knows it already.
    cdef uint32_t target = connection.slot
    cdef SlotVersion* version
    if chain.http_routes == NULL:
        target = target_slot(chain, next_random(&worker.random) if chain.target_count > 1 else 0)
    version = slot_version(&worker.slots[target]) if target < worker.cursor_count else NULL
    connection.telemetry = chain.telemetry
    if chain.state != NULL:
        connection.chain = chain.state
        connection.counted = 1
        chain_acquire(chain.state)
        atomic_add64(&chain.state.cx_total, 1)
    if version == NULL:
        if chain.state != NULL:
            atomic_add64(&chain.state.no_route, 1)
        refuse(worker, connection, Reason.UNKNOWN_CLUSTER)
        return False
    connection.stage.approach.hash_source_ip = <uint8_t>chain.hash_source_ip
    connection.cluster = version.state
    cluster_acquire(connection.cluster)
    connection.slot = target
    connection.idle_timeout = chain.idle_timeout_ms * MILLISECOND
    connection.expiry = connection.started + chain.max_duration_ms * MILLISECOND if chain.max_duration_ms else 0
    connection.stage.approach.max_attempts = chain.max_connect_attempts
    return True


cdef void choose_upstream(Worker* worker, Connection* connection) noexcept nogil:
    cdef SlotVersion* version = slot_version(&worker.slots[connection.slot])
    cdef int32_t endpoint
    cdef int reason
    # A handshake takes a while: the slot may have been given to another cluster since.
    if version == NULL or version.state != connection.cluster:
        refuse(worker, connection, Reason.UNKNOWN_CLUSTER)
        return
    endpoint = claim_endpoint(worker, connection, connection.slot, version)
    if endpoint < 0:
        refuse(worker, connection, -endpoint)
        return
    give_back(worker, connection, CHARGE_SILENT)
    connection.connect_started = worker.now
    connection.endpoint = table_state(version.table, endpoint)
    state_acquire(connection.endpoint)
    connection.attempts = 1
    reason = connect_to(worker, connection, version, endpoint)
    if reason != Reason.NONE:
        connect_failed(worker, connection, reason)


cdef bint upstream_ready(Worker* worker, Connection* connection) noexcept nogil:
    cdef bint refused
    if connection.down.gone:
        # A client that only shut down its side still waits for an answer.
        refuse(worker, connection, Reason.CLIENT_GONE)
    elif connection.up.gone:
        refused = leg_error(&connection.up) != ETIMEDOUT
        connect_failed(worker, connection, Reason.CONNECT_FAILED if refused else Reason.CONNECT_TIMEOUT)
    elif connection.phase == PHASE_CONNECT and connection.up.writable:
        return True
    return False


cdef void upstream_timeout(Worker* worker, Connection* connection) noexcept nogil:
    if connection.phase != PHASE_WAIT:
        if not race_timeout(worker, connection):
            connect_failed(worker, connection, Reason.CONNECT_TIMEOUT)
    else:
        refuse(worker, connection, Reason.DURATION_TIMEOUT if connection.expiry else Reason.OVERFLOW)


cdef bint serve_first(Worker* worker, Connection* connection) noexcept nogil:
    """False when the endpoint is at its limit still: the connection waits on."""
    cdef SlotVersion* version = slot_version(&worker.slots[connection.slot])
    cdef int32_t row
    cdef int reason = <int>Reason.NONE_HEALTHY
    if version == NULL or version.state != connection.cluster:
        refuse(worker, connection, Reason.UNKNOWN_CLUSTER)
        return True
    row = row_of(version.table, connection)
    if row < 0:
        # Gone from the cluster while somebody waited for it.
        leave_upstream(worker, connection)
        if not try_another(worker, connection, version, &reason):
            refuse(worker, connection, reason)
            return True
    elif enter_endpoint(worker, connection, version):
        reason = open_upstream(worker, connection, version, row)
    else:
        return False
    if reason != Reason.NONE:
        connect_failed(worker, connection, reason)
    return True


cdef void serve_queue(Worker* worker, EndpointQueue* queue) noexcept nogil:
    queue.kept = 1
    while queue.waiting.first != NULL:
        if queue.waiting.first.stage.approach.failure:
            connect_failed(worker, queue.waiting.first, queue.waiting.first.stage.approach.failure)
        elif not serve_first(worker, queue.waiting.first):
            break
    queue.kept = 0
    queue_drop(&worker.waiting, queue)
