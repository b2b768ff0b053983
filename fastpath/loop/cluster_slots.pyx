"""Places of the clusters' current tables. Engines read the slots, the control side writes them.

One atomic pointer a slot leads to an immutable version: table, state and limits together. A replaced version is
dropped, and a released slot given to another cluster, only when no worker can be using either any more (publication).
"""
cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from eastgate.fastpath.match.facts cimport Address
from eastgate.fastpath.tables.cluster_table cimport ClusterTable
from eastgate.fastpath.tables.picker cimport table_size
from eastgate.fastpath.tls.context cimport Context
from eastgate.fastpath.posix cimport (
    atomic_add, atomic_exchange8, atomic_exchange_pointer, atomic_load, atomic_load64, atomic_load_pointer,
    atomic_store, atomic_store_pointer, atomic_sub_release, atomic_swap_if_pointer,
)
from eastgate.fastpath.loop.histogram cimport durations_of
from eastgate.fastpath.loop.leg cimport SocketSetting, SocketSettings
from eastgate.fastpath.loop.publication cimport Publication

import struct
from functools import partial
from typing import NamedTuple


class TlsCounters(NamedTuple):
    """TLS handshakes with endpoints: how many succeeded, how many of these resumed a session, and why others failed."""

    handshakes: int
    resumed: int
    fail_verify_error: int
    fail_verify_san: int
    connection_error: int


class Ended(NamedTuple):
    """Connections to endpoints that are over, by who had the last word; `relays`: those that had been established."""

    attempts_by_us: int
    attempts_by_endpoint: int
    relays_by_us: int
    relays_by_endpoint: int


class ClusterCounters(NamedTuple):
    """Plain integers, summed over workers; totals since the cluster was first known. None: no connections."""

    name: str
    cx_total: int
    cx_active: int
    cx_connect_fail: int
    cx_connect_timeout: int
    cx_attempts_exceeded: int
    cx_none_healthy: int
    cx_overflow: int
    pending_active: int
    pending_overflow: int
    rx_bytes: int
    tx_bytes: int
    ended: Ended = Ended(0, 0, 0, 0)
    connect_ms: object = None
    length_ms: object = None
    tls: object = None


cdef void cluster_acquire(ClusterState* state) noexcept nogil:
    atomic_add(&state.refs, 1)


cdef void cluster_release(ClusterState* state) noexcept nogil:
    if atomic_sub_release(&state.refs, 1) == 1:
        free(state.name)
        free_traffic(state.traffic)
        free(state)


cdef void free_traffic(ClusterTraffic* traffic) noexcept nogil:
    cdef PeerTraffic* peer
    cdef PeerTraffic* following
    cdef int bucket
    if traffic == NULL:
        return
    for bucket in range(16):
        peer = traffic.peers[bucket]
        while peer != NULL:
            following = peer.next
            free(peer)
            peer = following
    free(traffic)


cdef ClusterTraffic* make_traffic(ClusterState* state) noexcept nogil:
    cdef void* found = NULL
    cdef void* made = calloc(1, sizeof(ClusterTraffic))
    # Of workers that come at once one puts its own there, and the others take that.
    if made == NULL or atomic_swap_if_pointer(<void**>&state.traffic, &found, made):
        return <ClusterTraffic*>made
    free(made)
    return <ClusterTraffic*>found


cdef bint cluster_mark_dirty(ClusterState* state) noexcept nogil:
    cdef void** head = <void**>&state.dirty_clusters.head
    cdef void* first
    # Whoever takes the clusters sets this back before it looks at the endpoints: either it sees what was crossed, or
    # the cluster is put there once more.
    if atomic_exchange8(&state.dirty, 1):
        return False
    cluster_acquire(state)
    first = atomic_load_pointer(head)
    while True:
        state.next_dirty = <ClusterState*>first
        if atomic_swap_if_pointer(head, &first, state):
            return True


cdef object tls_counters(ClusterTraffic* traffic):
    return TlsCounters(
        handshakes=atomic_load64(&traffic.tls_handshakes),
        resumed=atomic_load64(&traffic.tls_resumed),
        fail_verify_error=atomic_load64(&traffic.tls_failed[<int>TLS_FAULT_VERIFY]),
        fail_verify_san=atomic_load64(&traffic.tls_failed[<int>TLS_FAULT_SAN]),
        connection_error=atomic_load64(&traffic.tls_failed[<int>TLS_FAULT_OTHER]),
    )


cdef ClusterState* new_state(bytes name, DirtyClusters* dirty_clusters) except NULL:
    cdef ClusterState* state = <ClusterState*>calloc(1, sizeof(ClusterState))
    cdef uint32_t length = <uint32_t>PyBytes_GET_SIZE(name)
    if state == NULL:
        raise MemoryError
    state.name = <char*>malloc(length + 1)
    if state.name == NULL:
        free(state)
        raise MemoryError
    memcpy(state.name, PyBytes_AS_STRING(name), length + 1)
    state.name_length = length
    state.refs = 1
    state.dirty_clusters = dirty_clusters
    return state


cdef uint32_t as_uint32(object value, str field) except? 0xFFFFFFFF:
    if not 0 <= value <= 0xFFFFFFFF:
        raise ValueError(f"{field} {value} is outside 0..4294967295")
    return value


cdef uint16_t as_port(object value, str field) except? 0xFFFF:
    if not 0 <= value <= 65535:
        raise ValueError(f"{field} {value} is outside 0..65535")
    return value


cdef int add_source(SlotVersion* version, bytes address, object port) except -1:
    cdef Address* place = &version.source4 if len(address) == 4 else &version.source6
    if len(address) not in (4, 16):
        raise ValueError(f"{len(address)} bytes are no IP address to connect from")
    if place.family == 0:
        place.port = as_port(port, "source port")
        place.family = 4 if len(address) == 4 else 6
        memcpy(place.bytes, PyBytes_AS_STRING(address), len(address))
    return 0


cdef bytes packed_options(object options, int family, SocketSettings* place):
    """Those of one family, as `place` then points to them: whoever keeps the bytes keeps it valid."""
    cdef bytes packed = b"".join([struct.pack("=iii", *option) for of, *option in options if of == family])
    place.first = <const SocketSetting*><const char*>packed
    place.count = <size_t>len(packed) // sizeof(SocketSetting)
    return packed


@cython.final
@cython.internal
@cython.no_gc_clear
@cython.auto_pickle(False)
cdef class Version:
    """Owner of one SlotVersion, and of what that points to."""

    cdef SlotVersion version
    cdef ClusterTable table
    cdef Context mesh_tls
    cdef Context other_tls
    cdef bytes mesh
    cdef bytes options4
    cdef bytes options6

    def __cinit__(self):
        memset(&self.version, 0, sizeof(SlotVersion))

    def __dealloc__(self):
        if self.version.state != NULL:
            cluster_release(self.version.state)


cdef int keep_alive(SlotVersion* version, time_s, interval_s, probes) except -1:
    version.keepalive_time_s = as_uint32(time_s, "keepalive_time_s")
    version.keepalive_interval_s = as_uint32(interval_s, "keepalive_interval_s")
    version.keepalive_probes = as_uint32(probes, "keepalive_probes")
    return 0


cdef int order_addresses(SlotVersion* version, family, count) except -1:
    if family not in (0, 4, 6):
        raise ValueError(f"first_family: {family!r} is none of 0, 4, 6")
    version.first_family = family
    version.first_family_count = as_uint32(count, "first_family_count") or 1
    return 0


cdef int prepare_sockets(Version made, sources, options) except -1:
    for address, port in sources:
        add_source(&made.version, address, port)
    made.options4 = packed_options(options, 4, &made.version.options4)
    made.options6 = packed_options(options, 6, &made.version.options6)
    return 0


cdef int speak(Version made, mesh_tls, other_tls, mesh) except -1:
    made.mesh_tls = <Context?>mesh_tls if mesh_tls is not None else None
    made.other_tls = <Context?>other_tls if other_tls is not None else None
    if made.mesh_tls is not None:
        made.version.mesh_tls = made.mesh_tls.context
    if made.other_tls is not None:
        made.version.other_tls = made.other_tls.context
    if mesh is not None:
        if len(mesh) != table_size(made.version.table):
            raise ValueError(f"mesh has {len(mesh)} rows, the table {table_size(made.version.table)}")
        made.mesh = bytes(mesh)
        made.version.mesh = <const uint8_t*><const char*>made.mesh
    return 0


@cython.final
@cython.no_gc_clear
cdef class ClusterSlots:
    """Places of the clusters' current tables, shared by all engines of a process. Control side only.

    A slot is a small integer that a RouteTable refers to. State of a cluster (counters, active connections) belongs to
    its name and outlives tables; a connection keeps its own reference, so a reused slot never mixes two clusters.
    """

    def __cinit__(self):
        self.slots = NULL

    def __init__(self, capacity=65536):
        if self.slots != NULL:
            raise RuntimeError("ClusterSlots is initialised once")
        if not 1 <= capacity <= 1 << 24:
            raise ValueError(f"capacity {capacity} is outside 1..16777216")
        self.slots = <ClusterSlot*>calloc(capacity, sizeof(ClusterSlot))
        if self.slots == NULL:
            raise MemoryError
        self.capacity = capacity
        self.slot_by_name = {}
        self.name_by_slot = {}
        self.holders = {}
        self.versions = {}
        self.publication = Publication()
        self.free_slots = []

    def __dealloc__(self):
        cdef uint32_t slot
        cdef ClusterState* dirty = self.pop_dirty()
        cdef ClusterState* following
        while dirty != NULL:
            following = dirty.next_dirty
            cluster_release(dirty)
            dirty = following
        if self.slots != NULL:
            for slot in range(self.used):
                if self.slots[slot].owner != NULL:
                    cluster_release(self.slots[slot].owner)
            free(self.slots)

    def __reduce__(self):
        raise TypeError("ClusterSlots cannot be pickled")

    cdef ClusterState* pop_dirty(self) noexcept:
        return <ClusterState*>atomic_exchange_pointer(<void**>&self.dirty_clusters.head, NULL)

    def take_dirty(self):
        """Names of clusters of which an endpoint crossed a threshold since the last call."""
        cdef ClusterState* state
        cdef ClusterState* following
        if atomic_load_pointer(<void**>&self.dirty_clusters.head) == NULL:
            return []
        state = self.pop_dirty()
        names = []
        while state != NULL:
            following = state.next_dirty
            atomic_exchange8(&state.dirty, 0)
            names.append(state.name[:state.name_length].decode())
            cluster_release(state)
            state = following
        return names

    cdef ClusterSlot* slot_of(self, object slot) except NULL:
        if not 0 <= slot < self.used or self.slots[<uint32_t>slot].owner == NULL:
            raise ValueError(f"cluster slot {slot} is not in use")
        return &self.slots[<uint32_t>slot]

    cdef int replace(self, slot, version, then) except -1:
        cdef ClusterSlot* place = &self.slots[<uint32_t>slot]
        cdef Version made = <Version?>version if version is not None else None
        replaced = self.versions.pop(slot, None)
        if made is not None:
            self.versions[slot] = made
        atomic_store_pointer(<void**>&place.current, &made.version if made is not None else NULL)
        if replaced is not None or then is not None:
            self.publication.retire(replaced, then)
        return 0

    def reclaim(self):
        """Free what no worker can be using any more; return how many replaced objects still wait for a worker."""
        return self.publication.reclaim()

    def acquire(self, name, *, view_of=None):
        """Return the slot of `name`, taking a free one at first; each call must be paired with a release.

        `view_of`: the slot of the cluster whose state (counters, limits, connections) a new one shares; its table is
        its own. It outlives that slot.
        """
        cdef uint32_t slot
        cdef ClusterSlot* shared
        known = self.slot_by_name.get(name)
        if known is not None:
            self.holders[known] += 1
            return known
        self.publication.reclaim()
        if not self.free_slots and self.used == self.capacity:
            raise ValueError(f"no free cluster slot for {name}: all {self.capacity} are in use")
        state = name.encode()
        shared = self.slot_of(view_of) if view_of is not None else NULL
        if not self.free_slots:
            self.free_slots.append(self.used)
            self.used += 1
        slot = self.free_slots.pop()
        if shared != NULL:
            cluster_acquire(shared.owner)
            self.slots[slot].owner = shared.owner
        else:
            try:
                self.slots[slot].owner = new_state(state, &self.dirty_clusters)
            except MemoryError:
                self.free_slots.append(slot)
                raise
        self.slot_by_name[name] = slot
        self.name_by_slot[slot] = name
        self.holders[slot] = 1
        return slot

    def release(self, slot):
        """Give back one acquire; the last one frees the slot. Connections of the cluster go on."""
        cdef ClusterSlot* place = self.slot_of(slot)
        self.holders[slot] -= 1
        if self.holders[slot]:
            return
        del self.holders[slot]
        del self.slot_by_name[self.name_by_slot.pop(slot)]
        cluster_release(place.owner)
        place.owner = NULL
        # A worker may hold routes from before that lead here: the slot is nobody's until it cannot.
        self.replace(slot, None, partial(self.free_slots.append, slot))

    def publish(
        self,
        slot,
        table,
        *,
        connect_timeout_ms=5000,
        max_connections=1024,
        max_pending=1024,
        max_per_endpoint=0xFFFFFFFF,
        keepalive_time_s=0, keepalive_interval_s=0, keepalive_probes=0,
        original_dst=False,
        port_override=0,
        mesh_tls=None,
        other_tls=None,
        mesh=None,
        failure_threshold=0,
        gateway_threshold=0,
        sources=(),
        socket_options=(),
        first_family=0, first_family_count=1,
    ):
        """Make `table` current; None: known but not routable (warming). The next pick of any engine uses it.

        `max_per_endpoint`: connections to one endpoint, later ones wait for one of them to end; 4294967295: any number.
        keepalive values: 0 leaves the operating system's default, keepalive itself is always on. `original_dst`:
        connections go to where their clients wanted to go (to `port_override` there, unless it is 0), and the one
        endpoint of `table` only counts them. `mesh_tls` is spoken to endpoints whose byte in `mesh` (one a row of the
        table) is not 0, `other_tls` to all others; None is plain text. Thresholds: so many failed connects in a row
        make an endpoint worth a look (take_dirty); 0: never. `sources`: (address of 4 or 16 bytes, port or 0 for any)
        that connections come from; the first of an endpoint's family holds. `socket_options`: (4 or 6 for the family
        of the endpoint, level, name, number) of what is set on sockets before they are bound, in this order; where the
        kernel does not, no connection is made. `first_family`, `first_family_count`: of an endpoint with several
        addresses so many of family 4 or 6 are tried before one of the other; 0: of the family of its first one.
        """
        cdef ClusterSlot* place = self.slot_of(slot)
        cdef Version made = None
        cdef SlotVersion* version
        atomic_store(&place.owner.failure_threshold, as_uint32(failure_threshold, "failure_threshold"))
        atomic_store(&place.owner.gateway_threshold, as_uint32(gateway_threshold, "gateway_threshold"))
        if table is not None:
            made = Version.__new__(Version)
            made.table = <ClusterTable?>table
            version = &made.version
            version.table = made.table.table
            version.connect_timeout_ms = as_uint32(connect_timeout_ms, "connect_timeout_ms")
            version.max_connections = as_uint32(max_connections, "max_connections")
            version.max_pending = as_uint32(max_pending, "max_pending")
            version.max_per_endpoint = as_uint32(max_per_endpoint, "max_per_endpoint")
            keep_alive(version, keepalive_time_s, keepalive_interval_s, keepalive_probes)
            version.original_dst = bool(original_dst)
            order_addresses(version, first_family, first_family_count)
            version.port_override = as_port(port_override, "port_override")
            speak(made, mesh_tls, other_tls, mesh)
            prepare_sockets(made, sources, socket_options)
            cluster_acquire(place.owner)
            version.state = place.owner
            self.generation += 1
            version.generation = self.generation
        self.replace(slot, made, None)

    def counters(self, slot):
        """ClusterCounters of the cluster that holds `slot`."""
        cdef ClusterState* state = self.slot_of(slot).owner
        cdef ClusterTraffic* traffic = <ClusterTraffic*>atomic_load_pointer(<void**>&state.traffic)
        return ClusterCounters(
            name=state.name[:state.name_length].decode(),
            cx_total=atomic_load64(&state.cx_total),
            cx_active=atomic_load(&state.cx_active),
            cx_connect_fail=atomic_load64(&state.cx_connect_fail),
            cx_connect_timeout=atomic_load64(&state.cx_connect_timeout),
            cx_attempts_exceeded=atomic_load64(&state.cx_attempts_exceeded),
            cx_none_healthy=atomic_load64(&state.cx_none_healthy),
            cx_overflow=atomic_load64(&state.cx_overflow),
            pending_active=atomic_load(&state.pending_active),
            pending_overflow=atomic_load64(&state.pending_overflow),
            rx_bytes=atomic_load64(&state.rx_bytes),
            tx_bytes=atomic_load64(&state.tx_bytes),
            ended=Ended(*[atomic_load64(&state.ended[kind]) for kind in range(4)]),
            connect_ms=durations_of(&traffic.connect) if traffic != NULL else None,
            length_ms=durations_of(&traffic.length) if traffic != NULL else None,
            tls=tls_counters(traffic) if traffic != NULL else None,
        )

    def __len__(self):
        return len(self.slot_by_name)

    def __contains__(self, name):
        return name in self.slot_by_name
