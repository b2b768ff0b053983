"""Finished and refused connections on their way to the access log; when nobody takes them, new ones are dropped."""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from eastgate.fastpath.loop.addresses cimport address_text
from eastgate.fastpath.loop.cluster_slots cimport cluster_release
from eastgate.fastpath.loop.connection cimport ConnectionRecord
from eastgate.fastpath.tls.principals cimport principal_text
from eastgate.fastpath.posix cimport (
    atomic_fence, atomic_load8, atomic_load_acquire, atomic_store8, atomic_store_release, count, write,
)

from typing import NamedTuple


class ConnectionEvent(NamedTuple):
    """One finished or refused connection. Times are seconds; `start` is the wall clock since the epoch.

    Addresses are host:port, [host]:port for IPv6, "unix" for a Unix socket, empty when there is none; `downstream` is
    what the PROXY header conveyed when there was one. `reason` is a Reason, NONE for an ordinary end.
    `attempts` counts the endpoints that were tried; `upstream` is the last of them, by its first address. `policy`:
    name of the one that denied it, "none" where none allowed it; `policy_unknown`: for lack of knowledge. `log` is that
    of its chain; what stands behind it is known only where it is not 0: peers are URI names of certificates.
    """

    listener: int
    cluster: str
    server_name: str
    reason: int
    downstream: str
    downstream_local: str
    upstream: str
    alpn: tuple
    rx_bytes: int
    tx_bytes: int
    start: float
    duration: float
    connect_duration: float
    attempts: int = 0
    policy: str = ""
    policy_unknown: bool = False
    log: int = 0
    direct_source: str = ""
    destination: str = ""
    upstream_local: str = ""
    downstream_peer: str = ""
    upstream_peer: str = ""
    upstream_remote: str = ""


cdef int ring_init(EventRing* ring, uint32_t capacity, int notify_fd) noexcept nogil:
    cdef uint32_t size = 1
    while size < capacity:
        size <<= 1
    ring.records = <ConnectionRecord**>calloc(size, sizeof(ConnectionRecord*))
    ring.capacity = size
    ring.head = 0
    ring.tail = 0
    ring.dropped = 0
    ring.notify_fd = notify_fd
    ring.armed = 1
    return 0 if ring.records != NULL else -1


cdef void ring_free(EventRing* ring) noexcept nogil:
    if ring.records == NULL:
        return
    while ring.head != ring.tail:
        record_free(ring.records[ring.head & (ring.capacity - 1)])
        ring.head += 1
    free(ring.records)
    ring.records = NULL


cdef ConnectionRecord* record_new() noexcept nogil:
    return <ConnectionRecord*>calloc(1, sizeof(ConnectionRecord))


cdef void record_free(ConnectionRecord* record) noexcept nogil:
    if record == NULL:
        return
    if record.cluster != NULL:
        cluster_release(record.cluster)
    free(record)


cdef void ring_push(EventRing* ring, ConnectionRecord* record) noexcept nogil:
    cdef uint64_t one = 1
    if record == NULL:
        return
    if ring.tail - atomic_load_acquire(&ring.head) == ring.capacity:
        count(&ring.dropped, 1)
        record_free(record)
        return
    ring.records[ring.tail & (ring.capacity - 1)] = record
    atomic_store_release(&ring.tail, ring.tail + 1)
    if ring.notify_fd < 0:
        return
    # Either this sees that the reader has armed, or the reader, who looks after arming, sees the record.
    atomic_fence()
    if atomic_load8(&ring.armed):
        atomic_store8(&ring.armed, 0)
        write(ring.notify_fd, &one, sizeof(one))


cdef void ring_arm(EventRing* ring) noexcept nogil:
    atomic_store8(&ring.armed, 1)
    atomic_fence()


cdef tuple alpn_names(ConnectionRecord* record):
    cdef bytes packed = record.alpn[:record.alpn_length]
    names = []
    at = 0
    while at < len(packed):
        length = packed[at]
        names.append(packed[at + 1:at + 1 + length].decode("ascii", "backslashreplace"))
        at += 1 + length
    return tuple(names)


cdef object as_event(ConnectionRecord* record):
    return ConnectionEvent(
        listener=record.listener,
        cluster=record.cluster.name[:record.cluster.name_length].decode() if record.cluster != NULL else "",
        server_name=record.server_name[:record.server_name_length].decode("ascii", "backslashreplace"),
        reason=record.reason,
        downstream=address_text(&record.downstream),
        downstream_local=address_text(&record.downstream_local),
        upstream=address_text(&record.upstream),
        alpn=alpn_names(record),
        rx_bytes=record.rx_bytes,
        tx_bytes=record.tx_bytes,
        start=record.start_realtime_ns / 1e9,
        duration=record.duration_ns / 1e9,
        connect_duration=record.connect_ns / 1e9,
        attempts=record.attempts,
        policy=record.policy[:record.policy_length].decode("utf-8", "backslashreplace"),
        policy_unknown=bool(record.policy_unknown),
        log=record.log,
        direct_source=address_text(&record.direct_source),
        destination=address_text(&record.destination),
        upstream_local=address_text(&record.upstream_local),
        upstream_remote=address_text(&record.upstream_remote),
        downstream_peer=principal_text(record.downstream_peer),
        upstream_peer=principal_text(record.upstream_peer),
    )


cdef list ring_take(EventRing* ring, Py_ssize_t limit):
    cdef ConnectionRecord* record
    events = []
    while ring.head != atomic_load_acquire(&ring.tail) and len(events) < limit:
        record = ring.records[ring.head & (ring.capacity - 1)]
        atomic_store_release(&ring.head, ring.head + 1)
        try:
            events.append(as_event(record))
        finally:
            record_free(record)
    return events
