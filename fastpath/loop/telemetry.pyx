"""What Istio's metrics count of connections, and what the control side reads of it.

Nothing is looked up by a name: an endpoint has its counters beside its state, a peer is known by the one pointer that
its identity has. Both are made when the first connection comes.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free

from eastgate.fastpath.loop.cluster_slots cimport (
    ClusterSlots, ClusterState, ClusterTraffic, PeerTraffic, cluster_traffic,
)
from eastgate.fastpath.loop.connection cimport Connection
from eastgate.fastpath.match.chain_counts cimport TELEMETRY_SOURCE
from eastgate.fastpath.posix cimport (
    atomic_add, atomic_add64, atomic_load, atomic_load64, atomic_load_pointer, atomic_store_pointer,
    atomic_swap_if_pointer,
)
from eastgate.fastpath.reason cimport Reason
from eastgate.fastpath.tables.cluster_table cimport ClusterTable
from eastgate.fastpath.tables.endpoint_state cimport EndpointState, block_of, state_of, traffic_of
from eastgate.fastpath.tables.traffic cimport Traffic
from eastgate.fastpath.tls.openssl cimport SSL, SSL_session_reused
from eastgate.fastpath.tls.principals cimport Principal, principal_named, principal_of, principal_text

from typing import NamedTuple

cdef enum:
    PEERS_LIMIT = 10000         # of all clusters

cdef uint32_t peers_known = 0


class TrafficCounters(NamedTuple):
    """Of an endpoint or a peer; bytes are those of downstream. `principal`: empty where nobody said who it is."""

    opened: int
    closed: int
    sent: int
    received: int
    failed: int
    principal: str


cdef PeerTraffic* peer_found(PeerTraffic* first, const Principal* principal) noexcept nogil:
    while first != NULL and first.traffic.principal != principal:
        first = first.next
    return first


cdef PeerTraffic* peer_added(ClusterTraffic* cluster, Principal* principal) noexcept nogil:
    cdef void** bucket = <void**>&cluster.peers[(<size_t>principal >> 6) % 16]
    cdef void* first = atomic_load_pointer(bucket)
    cdef PeerTraffic* found = peer_found(<PeerTraffic*>first, principal)
    cdef PeerTraffic* made
    if found != NULL:
        return found
    made = <PeerTraffic*>calloc(1, sizeof(PeerTraffic))
    if made == NULL:
        return NULL
    made.traffic.principal = principal
    while True:
        made.next = <PeerTraffic*>first
        if atomic_swap_if_pointer(bucket, &first, made):
            return made
        found = peer_found(<PeerTraffic*>first, principal)
        if found != NULL:
            free(made)
            return found


cdef Traffic* traffic_of_peer(ClusterState* state, Principal* principal) noexcept nogil:
    cdef ClusterTraffic* cluster = cluster_traffic(state)
    cdef PeerTraffic* peer
    if cluster == NULL:
        return NULL
    peer = peer_found(
        <PeerTraffic*>atomic_load_pointer(<void**>&cluster.peers[(<size_t>principal >> 6) % 16]), principal
    )
    if peer == NULL:
        if atomic_add(&peers_known, 1) >= PEERS_LIMIT:
            principal = principal_named(b"many", 4)
        peer = peer_added(cluster, principal)
    return &peer.traffic if peer != NULL else NULL


cdef void note_principal(Traffic* traffic, SSL* ssl) noexcept nogil:
    # A pod with another identity may have come to this address: a full handshake says who is there.
    if atomic_load_pointer(<void**>&traffic.principal) == NULL or not SSL_session_reused(ssl):
        atomic_store_pointer(<void**>&traffic.principal, principal_of(ssl))


cdef void telemetry_opened(Connection* connection) noexcept nogil:
    cdef Traffic* traffic
    if connection.telemetry == TELEMETRY_SOURCE:
        traffic = traffic_of(connection.endpoint)
        if traffic != NULL and connection.up.tls != NULL:
            note_principal(traffic, connection.up.tls.ssl)
    else:
        traffic = traffic_of_peer(
            connection.cluster, principal_of(connection.down.tls.ssl) if connection.down.tls != NULL else NULL
        )
    connection.stage.relayed.traffic = traffic
    if traffic != NULL:
        connection.counted = 1
        atomic_add64(&traffic.opened, 1)


cdef bint is_connect_failure(int reason) noexcept nogil:
    return (
        reason == Reason.CONNECT_FAILED or reason == Reason.CONNECT_TIMEOUT
        or Reason.UPSTREAM_TLS_UNKNOWN_CA <= reason <= Reason.UPSTREAM_TLS_FAILED
    )


cdef void telemetry_unserved(Connection* connection, int reason) noexcept nogil:
    cdef Traffic* traffic
    cdef ClusterTraffic* cluster
    if connection.cluster == NULL:
        return
    if connection.endpoint != NULL and connection.telemetry == TELEMETRY_SOURCE and is_connect_failure(reason):
        traffic = traffic_of(connection.endpoint)
        if traffic != NULL:
            atomic_add64(&traffic.failed, 1)
        return
    cluster = cluster_traffic(connection.cluster)
    if cluster != NULL:
        atomic_add(&cluster.unserved[reason], 1)


cdef object counters_of(Traffic* traffic):
    return TrafficCounters(
        opened=atomic_load64(&traffic.opened),
        closed=atomic_load64(&traffic.closed),
        sent=atomic_load64(&traffic.sent),
        received=atomic_load64(&traffic.received),
        failed=atomic_load64(&traffic.failed),
        principal=principal_text(<Principal*>atomic_load_pointer(<void**>&traffic.principal)),
    )


cdef Traffic* counted(EndpointState* state) noexcept:
    """Its counters, if it has any that are not 0."""
    cdef Traffic* first = <Traffic*>atomic_load_pointer(<void**>&block_of(state).traffic)
    if first == NULL:
        return NULL
    first += state.place
    return first if atomic_load64(&first.opened) or atomic_load64(&first.failed) else NULL


def of_endpoints(table):
    """(row, TrafficCounters) of the endpoints that had connections. A row that repeats an address is left out."""
    cdef ClusterTable known = <ClusterTable?>table
    cdef EndpointState* state
    cdef Traffic* traffic
    cdef uint32_t row
    found = []
    seen = set()
    for row in range(known.table.states.count):
        state = state_of(known.table.states, row)
        traffic = counted(state)
        if traffic != NULL and <size_t>state not in seen:
            seen.add(<size_t>state)
            found.append((row, counters_of(traffic)))
    return found


def departed(before, after):
    """Rows of `before` whose endpoints had connections, and are not in `after`; None: there is no table any more."""
    cdef ClusterTable old = <ClusterTable?>before
    cdef ClusterTable new = <ClusterTable?>after if after is not None else None
    cdef uint32_t row
    rows = [row for row, _ in of_endpoints(old)]
    if not rows or (new is not None and new.table.states == old.table.states):
        return []
    kept = set()
    if new is not None:
        for row in range(new.table.states.count):
            kept.add(<size_t>state_of(new.table.states, row))
    return [row for row in rows if <size_t>state_of(old.table.states, <uint32_t>row) not in kept]


def of_row(table, row):
    """TrafficCounters of one row of `of_endpoints`."""
    cdef ClusterTable known = <ClusterTable?>table
    cdef Traffic* traffic = counted(known.checked_state(row))
    if traffic == NULL:
        return TrafficCounters(0, 0, 0, 0, 0, "")
    return counters_of(traffic)


def of_cluster(slots, slot):
    """(connections that were not served, by Reason; TrafficCounters of each peer) of the cluster that holds `slot`."""
    cdef ClusterSlots known = <ClusterSlots?>slots
    cdef ClusterTraffic* cluster = <ClusterTraffic*>atomic_load_pointer(<void**>&known.slot_of(slot).owner.traffic)
    cdef PeerTraffic* peer
    cdef int at
    unserved = {}
    peers = []
    if cluster != NULL:
        for at in range(<int>Reason.REASON_COUNT):
            if atomic_load(&cluster.unserved[at]):
                unserved[at] = atomic_load(&cluster.unserved[at])
        for at in range(16):
            peer = <PeerTraffic*>atomic_load_pointer(<void**>&cluster.peers[at])
            while peer != NULL:
                peers.append(counters_of(&peer.traffic))
                peer = peer.next
    return unserved, peers
