"""One native loop: accept, sniff, route, pick, connect, relay. Decides nothing that a compiled table does not say.

Life of a connection: PROXY header (if the listener has one) -> sniff -> connect -> relay -> closed. Every phase has a
timer. What was read of the ClientHello is held as the first bytes of the upward flow: what was sniffed is what the
upstream gets. Descriptors are in the epoll set once, edge-triggered; a leg remembers that it is readable or writable
until a call says EAGAIN.

A refused client sees nothing but a closed connection: RST when it had sent something, as Envoy's clients see it; FIN
when it never sent a byte.

System calls of a short connection, 16 without the waits, which connections share: accept4, recv of the hello, socket,
TCP_NODELAY, TCP_QUICKACK, connect, epoll_ctl of both sockets, send; recv and send of the answer; recv of the end of
each side, one shutdown, close of both.
"""
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t, UINT64_MAX
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from eastgate.fastpath.loop.addresses cimport read_sockaddr, write_sockaddr
from eastgate.fastpath.loop.busy_poll cimport busy_poll
from eastgate.fastpath.match.client_hello cimport (
    ClientHello, HelloStatus, HELLO_BAD_SNI, HELLO_COMPLETE, HELLO_LIMIT, HELLO_NEED_MORE, HELLO_NOT_TLS,
    HELLO_OVERSIZE, parse_client_hello,
)
from eastgate.fastpath.loop.cluster_slots cimport (
    ClusterState, SlotVersion, UNLIMITED, cluster_acquire, cluster_release, slot_version,
)
from eastgate.fastpath.loop.connection cimport (
    Connection, ConnectionRecord, Listener, PHASE_CLOSED, PHASE_CONNECT, PHASE_PROXY_HEADER,
    PHASE_RELAY, PHASE_SNIFF, SOURCE_DOWNSTREAM, SOURCE_LISTENER, SOURCE_READY, SOURCE_TIMER, SOURCE_UPSTREAM,
    EndpointQueue, TRIED_CAPACITY,
)
from eastgate.fastpath.loop.endpoint_queue cimport queue_append, queue_drop, queue_of, queue_remove, queues_free
from eastgate.fastpath.tables.endpoint_state cimport EndpointState, open_of, state_acquire, state_release
from eastgate.fastpath.loop.event_ring cimport record_free, record_new, ring_free, ring_init, ring_push
from eastgate.fastpath.tables.hashing cimport source_hash
from eastgate.fastpath.loop.leg cimport (
    Keepalive, LEG_NO_MEMORY, Leg, leg_close, leg_connect, leg_discard, leg_error, leg_guard, leg_init, leg_local,
    leg_note, leg_original, leg_peek, leg_reset, leg_sniff, leg_take_sniffed, leg_want, leg_watch,
)
from eastgate.fastpath.loop.outlier_counters cimport endpoint_connected, endpoint_failed
from eastgate.fastpath.tables.picker cimport (
    EndpointAddress, PICK_NO_ENDPOINTS, PickCursor, PickHash, Table, cursor_free, cursor_init, table_address,
    table_hashes, table_pick, table_pick_hash, table_size, table_state,
)
from eastgate.fastpath.loop.pipe_pool cimport pool_free
from eastgate.fastpath.posix cimport *
from eastgate.fastpath.match.proxy_protocol cimport (
    PROXY_HEADER_LIMIT, PROXY_MALFORMED, PROXY_NEED_MORE, ProxyHeader, ProxyHeaderStatus, parse_proxy_header,
)
from eastgate.fastpath.loop.publication cimport reader_offline, reader_online
from eastgate.fastpath.random cimport mix_seed, next_random
from eastgate.fastpath.reason cimport Reason
from eastgate.fastpath.loop.relay cimport (
    COPY_LIMIT, FLOW_BROKEN, FLOW_BUSY, FLOW_ENDED, FlowStatus, RELAY_BUFFER, flow_free, relay_flow,
)
from eastgate.fastpath.match.facts cimport Address, Facts
from eastgate.fastpath.match.route_nodes cimport (
    RouteChain, Routes, route_asks_destination, route_chain, route_match, target_slot,
)
from eastgate.fastpath.loop.timer_wheel cimport (
    Timer, timer_init, timer_pop, wheel_advance, wheel_cancel, wheel_init, wheel_next, wheel_schedule,
)

cdef enum:
    TICK_SHIFT = 24             # a tick is 2^24 ns, 16.8 ms
    EVENTS_PER_WAIT = 256
    WAITS_PER_TURN = 4          # bounds a turn, so that the hosting loop gets its share
    ACCEPTS_PER_EVENT = 64
    CLOSING_ACCEPTS = 64        # times that many, when a listener is closed: a whole backlog
    SPARE_LIMIT = 1024          # connection structs kept for reuse
    ACCEPT_RETRY_MS = 100
    FLOW_BUDGET = 1048576       # bytes of one flow per turn: what a wide pipe holds
    TURN_BUDGET = 4194304       # bytes of all flows per turn; past that a flow gets COPY_LIMIT
    REPICKS = 256               # picks to find an endpoint that was not tried yet; some microseconds, after a failure

cdef enum:
    MILLISECOND = 1000000
    # Where the configuration says 0 (none), a phase that nobody can wait for still ends.
    OWN_HELLO_TIMEOUT_MS = 15000
    OWN_CONNECT_TIMEOUT_MS = 10000

# Keepalive and the user timeout of an upstream socket are set when the connection has lived this long: most never do.
cdef uint64_t GUARD_AFTER = <uint64_t>1000 * MILLISECOND

# A connection with one direction ended, whose idle timeout is off, waits this long for the other; and one that came to
# an endpoint at its limit, for its turn.
cdef uint64_t OWN_HALF_CLOSED_TIMEOUT = <uint64_t>3600000 * MILLISECOND


cdef inline void schedule_in(Worker* worker, Timer* timer, uint64_t ns) noexcept nogil:
    wheel_schedule(&worker.wheel, timer, ((worker.now + ns) >> TICK_SHIFT) + 1)


# ---- records

cdef inline HelloStatus parse_hello(Worker* worker, Connection* connection) noexcept nogil:
    return parse_client_hello(connection.down.sniffed, connection.down.sniffed_length, &worker.hello)


cdef void note_hello(ConnectionRecord* record, ClientHello* hello) noexcept nogil:
    cdef uint16_t protocol
    cdef uint8_t length
    record.server_name_length = hello.sni_length
    memcpy(record.server_name, hello.sni, hello.sni_length)
    for protocol in range(hello.protocols.count):
        length = hello.protocols.length[protocol]
        if <size_t>record.alpn_length + 1 + length > sizeof(record.alpn):
            return
        record.alpn[record.alpn_length] = length
        memcpy(record.alpn + record.alpn_length + 1, hello.protocols.bytes + hello.protocols.offset[protocol], length)
        record.alpn_length += 1 + length


cdef void finish_record(Worker* worker, Connection* connection, ConnectionRecord* record, int reason) noexcept nogil:
    record.reason = <uint16_t>reason
    record.listener = connection.listener.number
    record.downstream = connection.downstream
    record.upstream = connection.upstream
    record.attempts = connection.attempts
    record.rx_bytes = connection.upward.bytes
    record.tx_bytes = connection.downward.bytes
    record.duration_ns = worker.now - connection.started
    record.start_realtime_ns = clock_ns(CLOCK_REALTIME) - record.duration_ns
    if connection.connected:
        record.connect_ns = connection.connected - connection.connect_started
    if connection.cluster != NULL:
        cluster_acquire(connection.cluster)
        record.cluster = connection.cluster
    ring_push(&worker.events, record)


cdef ConnectionRecord* begin_record(Worker* worker, Connection* connection) noexcept nogil:
    cdef ConnectionRecord* record = record_new()
    if record == NULL:
        return NULL
    leg_local(&connection.down, &record.downstream_local)
    if not worker.hello_known and connection.phase == PHASE_CONNECT:
        # The hello is still held: look at it once more rather than keep every client's server name.
        worker.hello_known = parse_hello(worker, connection) == HELLO_COMPLETE
    if worker.hello_known:
        note_hello(record, &worker.hello)
    return record


# ---- the limit of an endpoint

# Rule, as in Envoy's connection pools: who finds an endpoint at its limit of connections waits for one of this worker's
# to end, first come, first served, and is not active but pending meanwhile. A worker without any makes one over the
# limit, since nothing of its own would wake those that wait. A connect that fails takes those that wait with it: they
# have failed as well, and try another endpoint if they may.

cdef bint enter_endpoint(Worker* worker, Connection* connection, SlotVersion* version) noexcept nogil:
    """Whether it may connect; then it is counted among those of its endpoint, if that has a limit."""
    cdef EndpointQueue* queue
    cdef uint32_t* opened
    cdef bint full = False
    if version.max_per_endpoint == UNLIMITED and not connection.waiting:
        return True
    if connection.waiting:
        full = atomic_add(&connection.cluster.cx_active, 1) >= version.max_connections
    opened = open_of(connection.endpoint)
    queue = queue_of(&worker.waiting, connection.endpoint) if opened != NULL else NULL
    if queue == NULL:
        # No memory to count with is no reason to refuse.
        no_longer_waiting(connection)
        return True
    if atomic_add(opened, 1) >= version.max_per_endpoint:
        full = True
    if full:
        atomic_add64(&connection.cluster.cx_overflow, 1)
        if queue.own:
            atomic_add(opened, <uint32_t>-1)
            atomic_add(&connection.cluster.cx_active, <uint32_t>-1)
            return False
    no_longer_waiting(connection)
    connection.queue = queue
    queue.own += 1
    return True


cdef inline void no_longer_waiting(Connection* connection) noexcept nogil:
    if connection.waiting:
        connection.waiting = 0
        atomic_add(&connection.cluster.waiting, <uint32_t>-1)
        if connection.queue != NULL:
            queue_remove(connection.queue, connection)
            connection.queue = NULL


cdef bint wait_for_endpoint(Worker* worker, Connection* connection) noexcept nogil:
    """Have it wait behind the others; False when nobody would hear that its client has gone."""
    cdef uint64_t most = OWN_HALF_CLOSED_TIMEOUT
    if connection.expiry:
        most = connection.expiry - worker.now if connection.expiry > worker.now else 0
    if not connection.waiting:
        connection.waiting = 1
        atomic_add(&connection.cluster.waiting, 1)
    connection.failure = 0
    connection.queue = queue_of(&worker.waiting, connection.endpoint)
    queue_append(connection.queue, connection)
    if not leg_watch(&connection.down, worker.epoll):
        return False
    schedule_in(worker, &connection.timer, most)
    return True


cdef void leave_endpoint(Worker* worker, Connection* connection) noexcept nogil:
    """Its connection to the endpoint has ended, or it no longer waits for one."""
    cdef EndpointQueue* queue = connection.queue
    if queue == NULL:
        return
    connection.queue = NULL
    if connection.waiting:
        queue_remove(queue, connection)
    else:
        atomic_add(open_of(connection.endpoint), <uint32_t>-1)
        queue.own -= 1
        if queue.first != NULL:
            enqueue(worker, queue.first)
    queue_drop(&worker.waiting, queue)


cdef void fail_waiting(Worker* worker, EndpointQueue* queue, int reason) noexcept nogil:
    cdef Connection* connection = queue.first
    while connection != NULL:
        connection.failure = <uint8_t>reason
        enqueue(worker, connection)
        connection = connection.next_waiting


cdef int32_t row_of(const Table* table, Connection* connection) noexcept nogil:
    """Where its endpoint stands now; -1 when it is gone."""
    cdef int32_t size = <int32_t>table_size(table)
    cdef int32_t row
    if connection.row < size and table_state(table, connection.row) == connection.endpoint:
        return connection.row
    for row in range(size):
        if table_state(table, row) == connection.endpoint:
            return row
    return -1


cdef void serve_waiting(Worker* worker, EndpointQueue* queue) noexcept nogil:
    """Let those that wait connect, as far as the limit allows."""
    cdef Connection* connection
    cdef SlotVersion* version
    cdef int32_t row
    cdef int reason
    queue.kept = 1
    while queue.first != NULL and not queue.first.failure:
        connection = queue.first
        version = slot_version(&worker.slots[connection.slot])
        if version == NULL or version.state != connection.cluster:
            refuse(worker, connection, Reason.UNKNOWN_CLUSTER)
            continue
        row = row_of(version.table, connection)
        if row < 0:
            # Gone from the cluster while somebody waited for it.
            leave_upstream(worker, connection)
            reason = <int>Reason.NONE_HEALTHY
            if not try_another(worker, connection, version, &reason):
                refuse(worker, connection, reason)
                continue
        elif not enter_endpoint(worker, connection, version):
            break
        else:
            reason = open_upstream(worker, connection, version, row)
        if reason != Reason.NONE:
            connect_failed(worker, connection, reason)
    queue.kept = 0
    queue_drop(&worker.waiting, queue)


cdef void wake(Worker* worker, Connection* connection) noexcept nogil:
    """Go on with a connection that waits, and with those behind it."""
    cdef EndpointQueue* queue = connection.queue
    if connection.failure:
        queue.kept = 1
        connect_failed(worker, connection, connection.failure)
    serve_waiting(worker, queue)


# ---- the end of a connection

cdef void close_connection(Worker* worker, Connection* connection) noexcept nogil:
    if connection.phase == PHASE_PROXY_HEADER or connection.phase == PHASE_SNIFF:
        count(&connection.listener.cx_pre_active, <uint64_t>-1)
    leave_endpoint(worker, connection)
    if connection.cluster != NULL:
        if connection.waiting:
            no_longer_waiting(connection)
        else:
            atomic_add(&connection.cluster.cx_active, <uint32_t>-1)
        if connection.phase == PHASE_CONNECT:
            atomic_add(&connection.cluster.pending_active, <uint32_t>-1)
        cluster_release(connection.cluster)
        connection.cluster = NULL
    if connection.endpoint != NULL:
        if connection.phase == PHASE_RELAY:
            atomic_add(&connection.endpoint.active, <uint32_t>-1)
        state_release(connection.endpoint)
        connection.endpoint = NULL
    connection.phase = PHASE_CLOSED
    wheel_cancel(&worker.wheel, &connection.timer)
    record_free(connection.record)
    connection.record = NULL
    flow_free(&connection.upward, &worker.means)
    flow_free(&connection.downward, &worker.means)
    leg_close(&connection.up)
    leg_close(&connection.down)
    count(&connection.listener.cx_active, <uint64_t>-1)
    atomic_add64(&worker.shared.connections, <uint64_t>-1)
    if connection.previous != NULL:
        connection.previous.next = connection.next
    else:
        worker.open = connection.next
    if connection.next != NULL:
        connection.next.previous = connection.previous
    # Events of this turn may still point here: the memory is given back when it ends.
    connection.next = worker.closed
    worker.closed = connection


cdef void refuse(Worker* worker, Connection* connection, int reason) noexcept nogil:
    cdef ConnectionRecord* record = connection.record
    connection.record = NULL
    count(&connection.listener.refused[reason], 1)
    if record == NULL:
        record = begin_record(worker, connection)
    elif worker.hello_known and not record.server_name_length:
        note_hello(record, &worker.hello)
    if record != NULL:
        finish_record(worker, connection, record, reason)
    if connection.down.sniffed_length:
        # Nobody will read what the client sent: an orderly end would say that somebody had.
        leg_reset(&connection.down)
    close_connection(worker, connection)


cdef void finish(Worker* worker, Connection* connection, int reason) noexcept nogil:
    cdef ConnectionRecord* record = connection.record
    connection.record = NULL
    if reason != Reason.NONE:
        count(&connection.listener.refused[reason], 1)
    if record != NULL:
        finish_record(worker, connection, record, reason)
    close_connection(worker, connection)


cdef void abort_connection(Worker* worker, Connection* connection) noexcept nogil:
    # A reset must not look like an orderly end to the other side.
    leg_reset(&connection.down)
    leg_reset(&connection.up)
    finish(worker, connection, Reason.NONE)


# ---- relay

cdef void enqueue(Worker* worker, Connection* connection) noexcept nogil:
    cdef uint64_t one = 1
    if connection.queued:
        return
    connection.queued = 1
    connection.next_queued = worker.queued
    worker.queued = connection
    # A thread looks at the queue before it sleeps; whoever hosts must find the epoll descriptor readable.
    if not worker.shared.threaded and not worker.ready_raised:
        worker.ready_raised = write(worker.ready_fd, &one, sizeof(one)) == sizeof(one)


cdef void relay(Worker* worker, Connection* connection) noexcept nogil:
    cdef uint64_t up_before = connection.upward.bytes
    cdef uint64_t down_before = connection.downward.bytes
    cdef uint64_t up_moved, down_moved
    # One bulk flow must not starve the others, nor all of them together the timers and the accepts.
    cdef size_t budget = FLOW_BUDGET if worker.turn_left else COPY_LIMIT
    cdef FlowStatus upward = relay_flow(&connection.upward, &connection.down, &connection.up, &worker.means, budget)
    cdef FlowStatus downward
    if upward == FLOW_BROKEN:
        # Writing took the error with it, and reading would now find an orderly end: what the endpoint said before its
        # reset goes on, but no FIN behind it.
        connection.down.shut = 1
    downward = relay_flow(&connection.downward, &connection.up, &connection.down, &worker.means, budget)
    up_moved = connection.upward.bytes - up_before
    down_moved = connection.downward.bytes - down_before
    if up_moved | down_moved:
        worker.turn_left -= min(worker.turn_left, up_moved + down_moved)
        connection.last_activity = worker.now
        count(&connection.listener.rx_bytes, up_moved)
        count(&connection.listener.tx_bytes, down_moved)
        atomic_add64(&connection.cluster.tx_bytes, up_moved)
        atomic_add64(&connection.cluster.rx_bytes, down_moved)
    if upward == FLOW_BROKEN or downward == FLOW_BROKEN:
        abort_connection(worker, connection)
    elif upward == FLOW_ENDED and downward == FLOW_ENDED:
        finish(worker, connection, Reason.NONE)
    else:
        if upward == FLOW_BUSY or downward == FLOW_BUSY:
            enqueue(worker, connection)
        if (upward == FLOW_ENDED or downward == FLOW_ENDED) and connection.idle_timeout == 0:
            connection.idle_timeout = OWN_HALF_CLOSED_TIMEOUT
            schedule_in(worker, &connection.timer, connection.idle_timeout)


cdef void guard_upstream(Worker* worker, Connection* connection) noexcept nogil:
    """Have the kernel find out when the upstream is gone; see GUARD_AFTER."""
    cdef SlotVersion* version = slot_version(&worker.slots[connection.slot])
    cdef Keepalive keepalive
    connection.guarded = 1
    if connection.upstream.family == 1:
        return
    memset(&keepalive, 0, sizeof(keepalive))
    # The slot may have been given to another cluster since: then the operating system's values stay.
    if version != NULL and version.state == connection.cluster:
        keepalive.time_s = version.keepalive_time_s
        keepalive.interval_s = version.keepalive_interval_s
        keepalive.probes = version.keepalive_probes
    leg_guard(&connection.up, &keepalive)


cdef void check_relay_timer(Worker* worker, Connection* connection) noexcept nogil:
    # The idle timer is not moved by traffic: when it rings, the time of the last byte says whether it counts.
    cdef uint64_t due = UINT64_MAX
    if not connection.guarded:
        due = connection.connected + GUARD_AFTER
        if due <= worker.now:
            guard_upstream(worker, connection)
            due = UINT64_MAX
    if connection.idle_timeout:
        if connection.last_activity + connection.idle_timeout <= worker.now:
            finish(worker, connection, Reason.IDLE_TIMEOUT)
            return
        due = min(due, connection.last_activity + connection.idle_timeout)
    if connection.expiry:
        if connection.expiry <= worker.now:
            finish(worker, connection, Reason.DURATION_TIMEOUT)
            return
        due = min(due, connection.expiry)
    if due != UINT64_MAX:
        schedule_in(worker, &connection.timer, due - worker.now)


cdef void start_relay(Worker* worker, Connection* connection) noexcept nogil:
    connection.phase = PHASE_RELAY
    connection.connected = worker.now
    connection.last_activity = worker.now
    atomic_add(&connection.cluster.pending_active, <uint32_t>-1)
    atomic_add(&connection.endpoint.active, 1)
    endpoint_connected(connection.endpoint)
    if connection.queue != NULL and connection.queue.first != NULL:
        # As Envoy looks (and counts what it finds) when one has been let in, and when it is connected.
        enqueue(worker, connection.queue.first)
    wheel_cancel(&worker.wheel, &connection.timer)
    check_relay_timer(worker, connection)
    leg_want(&connection.down, 1)
    connection.down.writable = 1
    connection.up.writable = 1
    connection.upward.held = leg_take_sniffed(&connection.down, &connection.upward.held_length)
    connection.upward.bytes = connection.upward.held_length
    count(&connection.listener.rx_bytes, connection.upward.bytes)
    atomic_add64(&connection.cluster.tx_bytes, connection.upward.bytes)
    relay(worker, connection)


# ---- connect

cdef inline bint is_local_failure(int error) noexcept nogil:
    return (
        error == EMFILE or error == ENFILE or error == ENOBUFS or error == ENOMEM or error == EADDRNOTAVAIL
        or error == EAGAIN
    )


cdef int open_upstream(Worker* worker, Connection* connection, SlotVersion* version, int32_t endpoint) noexcept nogil:
    """0 when the connect is under way, otherwise the Reason why it is not."""
    cdef ClusterState* cluster = connection.cluster
    cdef EndpointAddress address
    cdef sockaddr_storage raw
    cdef socklen_t length
    cdef int error
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
    atomic_add(&connection.endpoint.cx_total, 1)
    length = write_sockaddr(&address, &raw)
    if length == 0:
        return <int>Reason.CONNECT_FAILED
    # The client's socket first: what it has to report already is then known before the connect is done, in one turn.
    if not leg_watch(&connection.down, worker.epoll):
        return <int>Reason.LIMIT
    error = leg_connect(&connection.up, &raw, length, connection.down.sniffed_length != 0)
    if error:
        return <int>Reason.LIMIT if is_local_failure(error) else <int>Reason.CONNECT_FAILED
    if not leg_watch(&connection.up, worker.epoll):
        return <int>Reason.LIMIT
    schedule_in(worker, &connection.timer,
                <uint64_t>(version.connect_timeout_ms or OWN_CONNECT_TIMEOUT_MS) * MILLISECOND)
    return 0


cdef void count_failure(Worker* worker, Connection* connection, int reason) noexcept nogil:
    cdef uint64_t one = 1
    if not connection.waiting:
        atomic_add64(&connection.cluster.cx_connect_fail, 1)
    if not connection.waiting and reason == Reason.CONNECT_TIMEOUT:
        atomic_add64(&connection.cluster.cx_connect_timeout, 1)
    if reason != Reason.LIMIT and endpoint_failed(connection.cluster, connection.endpoint):
        # Whoever hosts a worker looks after each turn; with a thread, the control side sleeps until it is told.
        if worker.events.notify_fd >= 0:
            write(worker.events.notify_fd, &one, sizeof(one))


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
        if connection.tried[place] == state:
            return True
    return False


cdef int32_t pick_for(
    Connection* connection, const Table* table, PickCursor* cursor, ClusterState* cluster, uint32_t own, int attempt
) noexcept nogil:
    """Pick; `own`: how many of the cluster's active connections are this one. Others than attempt 0 lead elsewhere."""
    cdef PickHash hash
    cdef uint8_t family = connection.downstream.family
    cdef uint32_t active, waiting
    if not table_hashes(table):
        return table_pick(table, cursor)
    hash.value = 0
    hash.attempt = <uint32_t>attempt
    hash.present = connection.hash_source_ip and (family == 4 or family == 6)
    if hash.present:
        hash.value = source_hash(family, connection.downstream.bytes)
    # Established ones, as in Envoy; counted one after the other while other workers go on.
    active = atomic_load(&cluster.cx_active) + atomic_load(&cluster.waiting)
    waiting = atomic_load(&cluster.pending_active) + own
    cursor.cluster_active = active - waiting if active > waiting else 0
    return table_pick_hash(table, cursor, &hash)


cdef int32_t pick_untried(
    Worker* worker, Connection* connection, const Table* table, PickCursor* cursor
) noexcept nogil:
    # With none left the last pick stands: one that refused a moment ago may accept now.
    cdef int32_t endpoint = pick_for(connection, table, cursor, connection.cluster, 0, 0)
    cdef int attempt
    if table_size(table) > 1:
        for attempt in range(1, REPICKS + 1):
            if endpoint < 0 or not was_tried(connection, table_state(table, endpoint)):
                break
            endpoint = pick_for(connection, table, cursor, connection.cluster, 0, attempt)
    return endpoint


cdef void leave_upstream(Worker* worker, Connection* connection) noexcept nogil:
    connection.tried[(connection.attempts - 1) % TRIED_CAPACITY] = connection.endpoint
    leave_endpoint(worker, connection)
    wheel_cancel(&worker.wheel, &connection.timer)
    leg_close(&connection.up)


cdef int connect_to(Worker* worker, Connection* connection, SlotVersion* version, int32_t endpoint) noexcept nogil:
    """0 when the connect is under way or waits for the endpoint's limit, otherwise the Reason why it is not."""
    connection.row = endpoint
    if enter_endpoint(worker, connection, version):
        return open_upstream(worker, connection, version, endpoint)
    return <int>Reason.NONE if wait_for_endpoint(worker, connection) else <int>Reason.LIMIT


cdef bint try_another(Worker* worker, Connection* connection, SlotVersion* version, int* reason) noexcept nogil:
    """Connect to an endpoint that was not tried yet; False when nobody may be tried. reason[0]: see connect_to."""
    cdef int32_t endpoint
    if connection.waiting and atomic_load(&connection.cluster.cx_active) >= version.max_connections:
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
    if connection.queue != NULL and not connection.waiting and reason != Reason.LIMIT:
        fail_waiting(worker, connection.queue, reason)
    while True:
        count_failure(worker, connection, reason)
        version = slot_version(&worker.slots[connection.slot])
        # The slot may have been given to another cluster since: its endpoints are none of this connection's.
        if (
            reason == Reason.LIMIT or connection.attempts >= connection.max_attempts
            or version == NULL or version.state != connection.cluster
        ):
            break
        leave_upstream(worker, connection)
        if not try_another(worker, connection, version, &reason):
            break
        if reason == Reason.NONE:
            return
    refuse(worker, connection, reason)


cdef bint has_destination(Connection* connection, SlotVersion* version) noexcept nogil:
    """Whether the client wanted to go somewhere else than here: to where it came, the proxy would connect to itself."""
    cdef Address own
    memset(&own, 0, sizeof(own))
    if not connection.destination.family or not leg_local(&connection.down, &own):
        return False
    return (
        own.family != connection.destination.family
        or own.port != (version.port_override or connection.destination.port)
        or memcmp(own.bytes, connection.destination.bytes, sizeof(own.bytes)) != 0
    )


cdef int32_t claim_endpoint(
    Worker* worker, Connection* connection, uint32_t slot, SlotVersion* version
) noexcept nogil:
    """Endpoint to connect to, counted as active and pending; or minus a Reason, nothing counted but that."""
    # Envoy's order: max_connections before an endpoint is chosen, max_pending_requests after. Counted first and taken
    # back, so that workers together never pass a limit.
    cdef ClusterState* cluster = version.state
    cdef int32_t endpoint
    if atomic_add(&cluster.cx_active, 1) >= version.max_connections:
        atomic_add(&cluster.cx_active, <uint32_t>-1)
        atomic_add64(&cluster.cx_overflow, 1)
        return -<int>Reason.OVERFLOW
    if version.original_dst and not has_destination(connection, version):
        endpoint = PICK_NO_ENDPOINTS
    else:
        endpoint = pick_for(connection, version.table, cursor_of(worker, slot, version), cluster, 1, 0)
    if endpoint < 0:
        atomic_add(&cluster.cx_active, <uint32_t>-1)
        atomic_add64(&cluster.cx_none_healthy, 1)
        return endpoint
    if atomic_add(&cluster.pending_active, 1) >= version.max_pending:
        atomic_add(&cluster.pending_active, <uint32_t>-1)
        atomic_add(&cluster.cx_active, <uint32_t>-1)
        atomic_add64(&cluster.pending_overflow, 1)
        return -<int>Reason.OVERFLOW
    return endpoint


cdef void choose_upstream(Worker* worker, Connection* connection, const RouteChain* chain) noexcept nogil:
    cdef uint32_t target = target_slot(chain, next_random(&worker.random) if chain.target_count > 1 else 0)
    cdef SlotVersion* version
    cdef int32_t endpoint
    cdef int reason
    version = slot_version(&worker.slots[target]) if target < worker.cursor_count else NULL
    if version == NULL:
        refuse(worker, connection, Reason.UNKNOWN_CLUSTER)
        return
    connection.hash_source_ip = <uint8_t>chain.hash_source_ip
    endpoint = claim_endpoint(worker, connection, target, version)
    if endpoint < 0:
        refuse(worker, connection, -endpoint)
        return
    count(&connection.listener.cx_pre_active, <uint64_t>-1)
    connection.phase = PHASE_CONNECT
    connection.connect_started = worker.now
    connection.idle_timeout = chain.idle_timeout_ms * MILLISECOND
    connection.expiry = connection.started + chain.max_duration_ms * MILLISECOND if chain.max_duration_ms else 0
    connection.cluster = version.state
    cluster_acquire(connection.cluster)
    connection.slot = target
    connection.endpoint = table_state(version.table, endpoint)
    state_acquire(connection.endpoint)
    connection.max_attempts = <uint16_t>chain.max_connect_attempts
    connection.attempts = 1
    reason = connect_to(worker, connection, version, endpoint)
    if reason != Reason.NONE:
        connect_failed(worker, connection, reason)


# ---- sniff

cdef void gather(
    Worker* worker, Connection* connection, const Routes* routes, bint is_tls, Facts* facts
) noexcept nogil:
    cdef sockaddr_storage local
    cdef socklen_t length = sizeof(local)
    facts.destination = connection.destination
    if facts.destination.family == 0 and route_asks_destination(routes):
        # Nobody redirected it: it wanted to come to this socket.
        if getsockname(connection.down.fd, <sockaddr*>&local, &length) == 0:
            read_sockaddr(&local, &facts.destination)
    facts.destination.port = connection.destination_port
    facts.source = connection.downstream
    facts.direct_source = connection.direct_source
    facts.tls = is_tls
    # The parser leaves both empty where the first bytes are no hello.
    facts.server_name = worker.hello.sni
    facts.server_name_length = worker.hello.sni_length
    facts.protocols = &worker.hello.protocols
    facts.authority = NULL
    facts.authority_length = 0


cdef void route(Worker* worker, Connection* connection, bint is_tls) noexcept nogil:
    cdef Routes* routes = <Routes*>atomic_load_pointer(<void**>&connection.listener.routes)
    cdef const RouteChain* matched
    cdef Facts facts
    cdef int chain
    gather(worker, connection, routes, is_tls, &facts)
    chain = route_match(routes, &facts)
    if chain < 0:
        refuse(worker, connection, -chain)
        return
    matched = route_chain(routes, chain)
    if matched.refusal:
        refuse(worker, connection, matched.refusal)
        return
    if connection.record != NULL and is_tls:
        note_hello(connection.record, &worker.hello)
    choose_upstream(worker, connection, matched)


cdef void wait_for_more(Worker* worker, Connection* connection, uint32_t needed) noexcept nogil:
    # Unless the kernel is told how much is missing, every byte is a wake-up.
    if connection.down.hung_up:
        refuse(worker, connection, Reason.TRUNCATED_HELLO if connection.began else Reason.IDLE_PROBE)
        return
    if needed > 1:
        leg_want(&connection.down, needed)
    if not leg_watch(&connection.down, worker.epoll):
        refuse(worker, connection, Reason.LIMIT)


cdef bint take_proxy_header(Worker* worker, Connection* connection, size_t available) noexcept nogil:
    """Whether the header was complete and is consumed; otherwise the connection waits or is refused."""
    cdef ProxyHeader header
    cdef ProxyHeaderStatus status = parse_proxy_header(worker.means.buffer, available, &header)
    if status == PROXY_NEED_MORE:
        wait_for_more(worker, connection, header.needed)
        return False
    if status == PROXY_MALFORMED:
        refuse(worker, connection, Reason.MALFORMED_PROXY_HEADER)
        return False
    leg_discard(&connection.down, header.header_length, True)
    if header.family:
        connection.downstream.family = header.family
        connection.downstream.port = header.source_port
        memcpy(connection.downstream.bytes, header.source, 16)
        connection.destination_port = header.destination_port
        connection.destination.family = header.family
        connection.destination.port = header.destination_port
        memcpy(connection.destination.bytes, header.destination, 16)
    leg_want(&connection.down, 1)
    connection.phase = PHASE_SNIFF
    return True


cdef ssize_t looked(Worker* worker, Connection* connection, ssize_t got) noexcept nogil:
    """Bytes that came; 0 when the connection waits for them or is refused."""
    if got > 0:
        connection.began = 1
        return got
    if got == 0 and not connection.down.ended:
        wait_for_more(worker, connection, 1)
    elif got == LEG_NO_MEMORY:
        refuse(worker, connection, Reason.LIMIT)
    else:
        refuse(worker, connection, Reason.TRUNCATED_HELLO if connection.began else Reason.IDLE_PROBE)
    return 0


cdef void sniff(Worker* worker, Connection* connection) noexcept nogil:
    cdef Leg* down = &connection.down
    cdef ssize_t got
    cdef HelloStatus status
    if connection.phase == PHASE_PROXY_HEADER:
        got = looked(worker, connection, leg_peek(down, worker.means.buffer, PROXY_HEADER_LIMIT))
        if got == 0 or not take_proxy_header(worker, connection, <size_t>got):
            return
    got = leg_sniff(down, worker.means.buffer, HELLO_LIMIT - down.sniffed_length)
    if looked(worker, connection, got) == 0:
        return
    status = parse_hello(worker, connection)
    if status == HELLO_NEED_MORE:
        wait_for_more(worker, connection, worker.hello.needed - down.sniffed_length)
        return
    worker.hello_known = status == HELLO_COMPLETE or status == HELLO_BAD_SNI
    if status == HELLO_COMPLETE or status == HELLO_NOT_TLS:
        route(worker, connection, status == HELLO_COMPLETE)
    elif status == HELLO_BAD_SNI:
        refuse(worker, connection, Reason.MALFORMED_SNI)
    elif status == HELLO_OVERSIZE:
        refuse(worker, connection, Reason.HELLO_TOO_LARGE)
    else:
        refuse(worker, connection, Reason.MALFORMED_HELLO)
    worker.hello_known = 0


# ---- accept

cdef Connection* new_connection(Worker* worker) noexcept nogil:
    cdef Connection* connection = worker.spare
    if connection != NULL:
        worker.spare = connection.next
        worker.spare_count -= 1
        memset(connection, 0, sizeof(Connection))
        return connection
    return <Connection*>calloc(1, sizeof(Connection))


cdef void ask_netfilter(Connection* connection) noexcept nogil:
    # Without an answer the connection was not redirected, or nothing tracks connections here: then it came to us.
    if leg_original(&connection.down, &connection.destination):
        connection.destination_port = connection.destination.port


cdef void welcome(Worker* worker, Listener* listener, int fd, sockaddr_storage* peer) noexcept nogil:
    cdef Connection* connection = NULL
    cdef Leg unwanted
    count(&listener.cx_total, 1)
    if atomic_add64(&worker.shared.connections, 1) < worker.shared.max_connections:
        connection = new_connection(worker)
    if connection == NULL:
        atomic_add64(&worker.shared.connections, <uint64_t>-1)
        count(&listener.refused[<int>Reason.LIMIT], 1)
        memset(&unwanted, 0, sizeof(unwanted))
        leg_init(&unwanted, SOURCE_DOWNSTREAM, fd, NULL)
        leg_reset(&unwanted)
        leg_close(&unwanted)
        return
    timer_init(&connection.timer)
    leg_init(&connection.down, SOURCE_DOWNSTREAM, fd, connection)
    leg_init(&connection.up, SOURCE_UPSTREAM, -1, connection)
    connection.listener = listener
    connection.started = worker.now
    connection.destination_port = listener.port
    connection.phase = PHASE_PROXY_HEADER if listener.proxy_protocol else PHASE_SNIFF
    read_sockaddr(peer, &connection.downstream)
    connection.direct_source = connection.downstream
    if listener.original_dst:
        ask_netfilter(connection)
    connection.next = worker.open
    if worker.open != NULL:
        worker.open.previous = connection
    worker.open = connection
    count(&listener.cx_active, 1)
    count(&listener.cx_pre_active, 1)
    if atomic_load8(&worker.shared.record_all):
        connection.record = begin_record(worker, connection)
    schedule_in(worker, &connection.timer, <uint64_t>(listener.hello_timeout_ms or OWN_HELLO_TIMEOUT_MS) * MILLISECOND)
    sniff(worker, connection)


cdef void pause_accepting(Worker* worker, Listener* listener) noexcept nogil:
    # Level-triggered accept without a descriptor to accept into would spin.
    epoll_ctl(worker.epoll, EPOLL_CTL_DEL, listener.fd, NULL)
    listener.paused = 1
    count(&listener.refused[<int>Reason.LIMIT], 1)
    if not worker.accept_retry.scheduled:
        schedule_in(worker, &worker.accept_retry, <uint64_t>ACCEPT_RETRY_MS * MILLISECOND)


cdef bint resume_accepting(Worker* worker, Listener* listener) noexcept nogil:
    cdef epoll_event event
    event.events = EPOLLIN
    event.data.ptr = listener
    listener.paused = 0
    return epoll_ctl(worker.epoll, EPOLL_CTL_ADD, listener.fd, &event) == 0


cdef bint accept_connections(Worker* worker, Listener* listener) noexcept nogil:
    """Whether more may be waiting."""
    cdef sockaddr_storage peer
    cdef socklen_t length
    cdef int fd, _
    for _ in range(ACCEPTS_PER_EVENT):
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


# ---- events and timers

cdef void connection_event(Worker* worker, Leg* leg, uint32_t events) noexcept nogil:
    cdef Connection* connection = <Connection*>leg.connection
    cdef int error
    if connection.phase == PHASE_CLOSED:
        return
    leg_note(leg, events)
    if connection.phase == PHASE_RELAY:
        relay(worker, connection)
        # A client that reset wants nothing delivered; an endpoint that does not read would keep the rest for long.
        if events & EPOLLERR and leg.source == SOURCE_DOWNSTREAM and connection.phase == PHASE_RELAY:
            abort_connection(worker, connection)
    elif connection.phase == PHASE_CONNECT:
        if leg.source == SOURCE_DOWNSTREAM:
            # A client that only shut down its side still waits for an answer.
            if events & (EPOLLHUP | EPOLLERR):
                refuse(worker, connection, Reason.CLIENT_GONE)
        elif events & (EPOLLERR | EPOLLHUP):
            error = leg_error(leg)
            connect_failed(worker, connection, Reason.CONNECT_TIMEOUT if error == ETIMEDOUT else Reason.CONNECT_FAILED)
        elif events & EPOLLOUT:
            start_relay(worker, connection)
    elif events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
        sniff(worker, connection)


cdef void timer_event(Worker* worker, Timer* timer) noexcept nogil:
    cdef Connection* connection
    cdef Listener* listener = worker.listeners
    if timer == &worker.accept_retry:
        while listener != NULL:
            if listener.accepting and listener.paused and not resume_accepting(worker, listener):
                pause_accepting(worker, listener)
            listener = listener.next
        return
    connection = <Connection*>timer
    if connection.phase == PHASE_RELAY:
        check_relay_timer(worker, connection)
    elif connection.waiting:
        refuse(worker, connection, Reason.DURATION_TIMEOUT if connection.expiry else Reason.OVERFLOW)
    elif connection.phase == PHASE_CONNECT:
        connect_failed(worker, connection, Reason.CONNECT_TIMEOUT)
    else:
        refuse(worker, connection, Reason.HELLO_TIMEOUT)


cdef void run_timers(Worker* worker) noexcept nogil:
    cdef Timer due
    cdef Timer* timer
    cdef itimerspec when
    cdef uint64_t next_tick
    timer_init(&due)
    wheel_advance(&worker.wheel, worker.now >> TICK_SHIFT, &due)
    timer = timer_pop(&due)
    while timer != NULL:
        timer_event(worker, timer)
        timer = timer_pop(&due)
    next_tick = wheel_next(&worker.wheel)
    # A wake-up that is too early costs one turn; moving the timerfd for each connection costs a call each.
    if next_tick == UINT64_MAX or worker.armed <= next_tick:
        return
    memset(&when, 0, sizeof(when))
    when.it_value.tv_sec = <long>((next_tick << TICK_SHIFT) // 1000000000)
    when.it_value.tv_nsec = <long>((next_tick << TICK_SHIFT) % 1000000000)
    if timerfd_settime(worker.timer_fd, TFD_TIMER_ABSTIME, &when, NULL) == 0:
        worker.armed = next_tick


cdef void run_queued(Worker* worker) noexcept nogil:
    cdef Connection* connection = worker.queued
    cdef Connection* following
    worker.queued = NULL
    while connection != NULL:
        following = connection.next_queued
        connection.queued = 0
        if connection.phase == PHASE_RELAY:
            relay(worker, connection)
        elif connection.phase == PHASE_CONNECT and connection.waiting:
            wake(worker, connection)
        connection = following


cdef void free_closed(Worker* worker) noexcept nogil:
    cdef Connection* connection = worker.closed
    cdef Connection* following
    cdef Connection* kept = NULL
    while connection != NULL:
        following = connection.next
        if connection.queued:
            # Still linked into the queue: run_queued of the next turn lets go of it.
            connection.next = kept
            kept = connection
        elif worker.spare_count < SPARE_LIMIT:
            connection.next = worker.spare
            worker.spare = connection
            worker.spare_count += 1
        else:
            free(connection)
        connection = following
    worker.closed = kept


# ---- orders

cdef int64_t add_listener(Worker* worker, Listener* listener) noexcept nogil:
    listener.source = SOURCE_LISTENER
    listener.next = worker.listeners
    worker.listeners = listener
    if not resume_accepting(worker, listener):
        return -errno
    listener.accepting = 1
    return 0


cdef void close_listener(Listener* listener) noexcept nogil:
    listener.accepting = 0
    if listener.fd >= 0:
        close(listener.fd)
    listener.fd = -1


cdef void stop_accepting(Worker* worker, Listener* listener) noexcept nogil:
    # Whoever finished the handshake was promised a connection: closing the socket would reset those in its queue.
    cdef int _
    for _ in range(CLOSING_ACCEPTS):
        if not listener.accepting or listener.paused or not accept_connections(worker, listener):
            break
    close_listener(listener)


cdef int64_t close_connections(Worker* worker) noexcept nogil:
    cdef int64_t closed = 0
    while worker.open != NULL:
        if worker.open.phase == PHASE_RELAY:
            finish(worker, worker.open, Reason.DRAINED)
        else:
            refuse(worker, worker.open, Reason.DRAINED)
        closed += 1
    return closed


cdef void carry_out(Worker* worker, Order* order) noexcept nogil:
    worker.now = clock_ns(CLOCK_MONOTONIC)
    order.result = 0
    if order.kind == ORDER_ADD_LISTENER:
        order.result = add_listener(worker, order.listener)
    elif order.kind == ORDER_STOP_ACCEPTING:
        stop_accepting(worker, order.listener)
    elif order.kind == ORDER_CLOSE_CONNECTIONS:
        order.result = close_connections(worker)
    else:
        worker.ending = 1


cdef void take_order(Worker* worker) noexcept nogil:
    cdef Order* order = <Order*>atomic_load_pointer(<void**>&worker.order)
    if order != NULL:
        carry_out(worker, order)
        worker.order = NULL
        # The order is gone from here on: it lay on the stack of whoever waits.
        sem_post(&order.done)


cdef void worker_tell(Worker* worker, Order* order) noexcept nogil:
    cdef uint64_t one = 1
    if not worker.started:
        carry_out(worker, order)
        return
    sem_init(&order.done, 0, 0)
    atomic_store_pointer(<void**>&worker.order, order)
    write(worker.ready_fd, &one, sizeof(one))


cdef int64_t worker_await(Worker* worker, Order* order) noexcept nogil:
    if worker.started:
        while sem_wait(&order.done) != 0:
            pass
        sem_destroy(&order.done)
    return order.result


# ---- turns

cdef inline int wait_for_events(Worker* worker, epoll_event* events, int timeout) noexcept nogil:
    cdef int found = 0
    if not worker.shared.threaded:
        return epoll_wait(worker.epoll, events, EVENTS_PER_WAIT, 0)
    # Asleep or not, this is the quiet point: no pointer that was published is held across it.
    reader_offline(&worker.reader)
    if timeout < 0 and worker.polling.window:
        found = busy_poll(&worker.polling, worker.epoll, events, EVENTS_PER_WAIT)
    if found == 0:
        found = epoll_wait(worker.epoll, events, EVENTS_PER_WAIT, timeout)
    reader_online(&worker.reader)
    return found


cdef int worker_turn(Worker* worker, bint may_sleep) noexcept nogil:
    cdef epoll_event events[EVENTS_PER_WAIT]
    cdef uint64_t counter
    cdef int handled = 0
    cdef int found, index, _
    cdef int timeout = -1 if may_sleep and worker.queued == NULL and worker.closed == NULL else 0
    cdef uint8_t* source
    worker.now = clock_ns(CLOCK_MONOTONIC)
    worker.turn_left = TURN_BUDGET
    worker.means.splicing = atomic_load8(&worker.shared.splicing)
    for _ in range(WAITS_PER_TURN):
        found = wait_for_events(worker, events, timeout)
        if found <= 0:
            break
        timeout = 0
        worker.now = clock_ns(CLOCK_MONOTONIC)
        worker.means.now = worker.now
        handled += found
        for index in range(found):
            source = <uint8_t*>events[index].data.ptr
            if source[0] == SOURCE_LISTENER:
                if (<Listener*>source).accepting:
                    accept_connections(worker, <Listener*>source)
            elif source[0] == SOURCE_TIMER:
                read(worker.timer_fd, &counter, sizeof(counter))
                worker.armed = UINT64_MAX
            elif source[0] == SOURCE_READY:
                read(worker.ready_fd, &counter, sizeof(counter))
                worker.ready_raised = 0
            else:
                connection_event(worker, <Leg*>source, events[index].events)
        if found < EVENTS_PER_WAIT:
            break
    count(&worker.handled, <uint64_t>handled)
    take_order(worker)
    run_queued(worker)
    run_timers(worker)
    free_closed(worker)
    return handled


cdef void* worker_main(void* argument) noexcept nogil:
    cdef Worker* worker = <Worker*>argument
    reader_online(&worker.reader)
    while not worker.ending:
        worker_turn(worker, True)
    reader_offline(&worker.reader)
    return NULL


# ---- set-up

cdef int watch_own(int epoll, int fd, uint8_t* source) noexcept nogil:
    cdef epoll_event event
    event.events = EPOLLIN
    event.data.ptr = source
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)


cdef Worker* worker_new(
    Shared* shared, ClusterSlot* slots, uint32_t slot_count, uint64_t seed, uint32_t event_capacity, int notify_fd
) noexcept nogil:
    cdef Worker* worker = <Worker*>calloc(1, sizeof(Worker))
    if worker == NULL:
        return NULL
    worker.shared = shared
    worker.polling.window = shared.busy_poll_ns
    worker.timer_source = SOURCE_TIMER
    worker.ready_source = SOURCE_READY
    worker.slots = slots
    worker.cursor_count = slot_count
    worker.random = mix_seed(seed)
    worker.armed = UINT64_MAX
    worker.now = clock_ns(CLOCK_MONOTONIC)
    timer_init(&worker.accept_retry)
    wheel_init(&worker.wheel, worker.now >> TICK_SHIFT)
    worker.epoll = epoll_create1(EPOLL_CLOEXEC)
    worker.timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
    worker.ready_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
    worker.cursors = <PickCursor*>calloc(slot_count, sizeof(PickCursor))
    worker.cursor_generations = <uint64_t*>calloc(slot_count, sizeof(uint64_t))
    worker.means.buffer = <uint8_t*>malloc(RELAY_BUFFER)
    if (
        ring_init(&worker.events, event_capacity, notify_fd) != 0
        or worker.cursors == NULL or worker.cursor_generations == NULL or worker.means.buffer == NULL
        or worker.epoll < 0 or worker.timer_fd < 0 or worker.ready_fd < 0
        or watch_own(worker.epoll, worker.timer_fd, &worker.timer_source) != 0
        or watch_own(worker.epoll, worker.ready_fd, &worker.ready_source) != 0
    ):
        worker_free(worker)
        return NULL
    return worker


cdef int worker_start(Worker* worker, uint32_t number) noexcept nogil:
    cdef sigset_t every, before
    cdef char name[16]
    cdef int error
    # Signals are for the control thread.
    sigfillset(&every)
    pthread_sigmask(SIG_SETMASK, &every, &before)
    error = pthread_create(&worker.thread, NULL, worker_main, worker)
    pthread_sigmask(SIG_SETMASK, &before, NULL)
    if error == 0:
        worker.started = 1
        snprintf(name, sizeof(name), b"eastgate-%u", number)
        pthread_setname_np(worker.thread, name)
    return error


cdef void worker_join(Worker* worker) noexcept nogil:
    if worker.started:
        pthread_join(worker.thread, NULL)
        worker.started = 0


cdef void worker_free(Worker* worker) noexcept nogil:
    cdef Connection* connection
    cdef Listener* listener
    cdef uint32_t index
    worker.now = clock_ns(CLOCK_MONOTONIC)
    close_connections(worker)
    run_queued(worker)
    free_closed(worker)
    while worker.spare != NULL:
        connection = worker.spare
        worker.spare = connection.next
        free(connection)
    while worker.listeners != NULL:
        listener = worker.listeners
        worker.listeners = listener.next
        close_listener(listener)
        free(listener)
    if worker.cursors != NULL:
        for index in range(worker.cursor_count):
            if worker.cursor_generations != NULL and worker.cursor_generations[index]:
                cursor_free(&worker.cursors[index])
    queues_free(&worker.waiting)
    free(worker.cursors)
    free(worker.cursor_generations)
    free(worker.means.buffer)
    pool_free(&worker.means.pipes)
    ring_free(&worker.events)
    if worker.ready_fd >= 0:
        close(worker.ready_fd)
    if worker.timer_fd >= 0:
        close(worker.timer_fd)
    if worker.epoll >= 0:
        close(worker.epoll)
    free(worker)
