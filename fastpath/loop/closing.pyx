"""The end of a connection: its record, its charges, its legs, its memory.

A refused client sees nothing but a closed connection: RST when it had sent something, as Envoy's clients see it; FIN
when it never sent a byte. A first request of HTTP/1 that was read gets Envoy's answer before the end.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from eastgate.fastpath.loop.charges cimport CHARGE_ALL, CHARGE_ENGINE, CHARGE_LISTENER, give_back
from eastgate.fastpath.loop.cluster_slots cimport cluster_release
from eastgate.fastpath.loop.connection cimport (
    Connection, ConnectionRecord, PHASE_ANSWER, PHASE_CLOSED, PHASE_RELAY, Relayed,
)
from eastgate.fastpath.loop.connection_record cimport begin_record, finish_record, note_sniffed
from eastgate.fastpath.loop.event_ring cimport record_free
from eastgate.fastpath.loop.handshake_queue cimport leave_handshakes
from eastgate.fastpath.loop.http_answer cimport ANSWER_CAPACITY, write_answer
from eastgate.fastpath.loop.leg cimport leg_close, leg_end, leg_receive, leg_reset, leg_send, leg_watch
from eastgate.fastpath.loop.race cimport free_races, race_end
from eastgate.fastpath.loop.relay cimport flow_free
from eastgate.fastpath.loop.remembered cimport forget
from eastgate.fastpath.loop.telemetry cimport telemetry_unserved
from eastgate.fastpath.loop.timer_wheel cimport wheel_cancel
from eastgate.fastpath.loop.times cimport end_attempt, note_end
from eastgate.fastpath.loop.worker_state cimport MILLISECOND, Worker, schedule_in
from eastgate.fastpath.match.chain_counts cimport chain_release
from eastgate.fastpath.match.policy cimport policies_release
from eastgate.fastpath.posix cimport atomic_add64, atomic_load8, count, ssize_t
from eastgate.fastpath.reason cimport Reason
from eastgate.fastpath.tables.endpoint_state cimport state_release

cdef enum:
    SPARE_LIMIT = 1024          # connection structs kept for reuse
    ANSWER_MS = 1000            # how long a client that was answered may take to end; Envoy's delayed close
    DISCARD_MOST = 16384


cdef inline void end_relay(Worker* worker, Relayed* relayed) noexcept nogil:
    flow_free(&relayed.upward, &worker.means)
    flow_free(&relayed.downward, &worker.means)
    if relayed.traffic != NULL:
        atomic_add64(&relayed.traffic.closed, 1)


cdef void close_connection(Worker* worker, Connection* connection) noexcept nogil:
    note_end(worker, connection)
    give_back(worker, connection, CHARGE_ALL)
    if connection.phase == PHASE_RELAY:
        end_relay(worker, &connection.stage.relayed)
    else:
        policies_release(connection.stage.approach.policies)
    if connection.cluster != NULL:
        cluster_release(connection.cluster)
        connection.cluster = NULL
    if connection.chain != NULL:
        chain_release(connection.chain)
        connection.chain = NULL
    if connection.endpoint != NULL:
        state_release(connection.endpoint)
        connection.endpoint = NULL
    forget(&worker.memory, connection.said)
    connection.said = NULL
    if worker.review == connection:
        worker.review = connection.next
    connection.phase = PHASE_CLOSED
    wheel_cancel(&worker.wheel, &connection.timer)
    record_free(connection.record)
    connection.record = NULL
    leg_close(&connection.up, &worker.watch)
    leg_close(&connection.down, &worker.watch)
    if connection.previous != NULL:
        connection.previous.next = connection.next
    else:
        worker.open = connection.next
    if connection.next != NULL:
        connection.next.previous = connection.previous
    connection.next = worker.closed
    worker.closed = connection


cdef bint answer(Worker* worker, Connection* connection, int reason) noexcept nogil:
    """Envoy's answer to the request that was read: whether the connection stays until its client has seen it."""
    cdef char text[ANSWER_CAPACITY]
    cdef size_t length = write_answer(reason, text)
    if length == 0 or leg_send(&connection.down, <const uint8_t*>text, length) != <ssize_t>length:
        return False
    leg_close(&connection.up, &worker.watch)
    end_attempt(worker, connection, False)
    give_back(worker, connection, CHARGE_ALL & ~(CHARGE_ENGINE | CHARGE_LISTENER))
    leg_end(&connection.down)
    connection.phase = PHASE_ANSWER
    # What it still sends is read, or closing would reset it and take the answer with that.
    schedule_in(worker, &connection.timer, <uint64_t>ANSWER_MS * MILLISECOND)
    return leg_watch(&connection.down, &worker.watch)


cdef void answered(Worker* worker, Connection* connection) noexcept nogil:
    cdef ssize_t got = 1
    while got > 0:
        got = leg_receive(&connection.down, worker.means.buffer, DISCARD_MOST)
    if got < 0 or connection.down.ended:
        close_connection(worker, connection)


cdef void answer_timeout(Worker* worker, Connection* connection) noexcept nogil:
    close_connection(worker, connection)


cdef void refuse(Worker* worker, Connection* connection, int reason) noexcept nogil:
    cdef ConnectionRecord* record = connection.record
    if connection.phase == PHASE_ANSWER:
        close_connection(worker, connection)
        return
    leave_handshakes(&worker.handshakes, connection)
    race_end(worker, connection)
    connection.record = NULL
    count(&connection.listener.refused[reason], 1)
    if connection.telemetry:
        telemetry_unserved(connection, reason)
    if reason == Reason.IDLE_PROBE and not atomic_load8(&worker.shared.record_probes):
        # Making an event costs more than all else of a health check, and nobody would look at it.
        record_free(record)
    else:
        if record == NULL:
            record = begin_record(worker, connection)
        if record != NULL:
            note_sniffed(record, connection)
        finish_record(worker, connection, record, reason)
    if connection.stage.approach.asked and answer(worker, connection, reason):
        return
    if connection.down.sniffed_length:
        # Nobody will read what the client sent: an orderly end would say that somebody had.
        leg_reset(&connection.down)
    close_connection(worker, connection)


cdef void count_timeout(Connection* connection, int reason) noexcept nogil:
    if connection.chain == NULL:
        return
    if reason == Reason.IDLE_TIMEOUT:
        atomic_add64(&connection.chain.idle_timeout, 1)
    elif reason == Reason.DURATION_TIMEOUT:
        atomic_add64(&connection.chain.max_duration, 1)


cdef void finish(Worker* worker, Connection* connection, int reason) noexcept nogil:
    cdef ConnectionRecord* record = connection.record
    connection.record = NULL
    if reason != Reason.NONE:
        count(&connection.listener.refused[reason], 1)
        count_timeout(connection, reason)
    finish_record(worker, connection, record, reason)
    close_connection(worker, connection)


cdef void abort_connection(Worker* worker, Connection* connection, int reason) noexcept nogil:
    # A reset must not look like an orderly end to the other side.
    leg_reset(&connection.down)
    leg_reset(&connection.up)
    finish(worker, connection, reason)


cdef Connection* new_connection(Worker* worker) noexcept nogil:
    cdef Connection* connection = worker.spare
    if connection != NULL:
        worker.spare = connection.next
        worker.spare_count -= 1
        memset(connection, 0, sizeof(Connection))
        return connection
    return <Connection*>calloc(1, sizeof(Connection))


cdef void free_closed(Worker* worker) noexcept nogil:
    cdef Connection* connection = worker.closed
    cdef Connection* following
    cdef Connection* kept = NULL
    while connection != NULL:
        following = connection.next
        if connection.busy:
            # Still linked into that list: the next turn lets go of it.
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
    free_races(worker)


cdef void free_spare(Worker* worker) noexcept nogil:
    cdef Connection* connection
    while worker.spare != NULL:
        connection = worker.spare
        worker.spare = connection.next
        free(connection)
