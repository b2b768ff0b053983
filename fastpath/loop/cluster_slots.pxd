# Places of the clusters' current tables, and the state of each cluster that all workers share.
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from eastgate.fastpath.tables.picker cimport Table
from eastgate.fastpath.match.facts cimport Address
from eastgate.fastpath.posix cimport atomic_load_pointer
from eastgate.fastpath.loop.histogram cimport Histogram
from eastgate.fastpath.loop.leg cimport SocketSettings
from eastgate.fastpath.loop.publication cimport Publication
from eastgate.fastpath.reason cimport Reason
from eastgate.fastpath.tables.traffic cimport Traffic
from eastgate.fastpath.tls.handshake cimport TlsContext

cdef enum:
    UNLIMITED = 0xFFFFFFFF

# Clusters whose endpoints crossed a threshold since the control side last took them: a stack that any worker may push.
cdef struct DirtyClusters:
    ClusterState* head          # atomic

# From where connections came that Istio's metrics count by peer: one a name, see telemetry.pyx.
cdef struct PeerTraffic:
    PeerTraffic* next           # of its bucket
    Traffic traffic

# Why the TLS handshake with an endpoint failed, as Envoy counts it.
cdef enum TlsFault:
    TLS_FAULT_VERIFY            # nobody that we trust signed its certificate, or it is not valid now
    TLS_FAULT_SAN               # none of its names is accepted
    TLS_FAULT_OTHER
    TLS_FAULT_COUNT

# What is counted of clusters that have connections. Relaxed atomics.
cdef struct ClusterTraffic:
    Histogram connect           # how long connects took
    Histogram length            # how long connections lasted, failed connects included
    uint64_t tls_handshakes
    uint64_t tls_resumed
    uint64_t tls_failed[3]      # by TlsFault
    uint32_t unserved[<int>Reason.REASON_COUNT]     # whose chain has istio.stats, and that no endpoint was tried for
    PeerTraffic* peers[16]      # atomic; owned

# Belongs to a cluster's name, not to a slot: connections keep a counted reference, so that a slot that was given to
# another cluster meanwhile is never charged (or routed to) by a connection of the old one. Relaxed atomics.
cdef struct ClusterState:
    uint32_t refs               # the slot + connections + recorded events
    uint32_t cx_active          # connecting or established: what max_connections limits
    uint32_t pending_active     # connecting or waiting: what max_pending limits
    uint32_t waiting            # for an endpoint at its limit: pending, and not active
    uint64_t cx_total
    uint64_t cx_connect_fail
    uint64_t cx_connect_timeout
    uint64_t cx_attempts_exceeded   # connections whose last attempt failed, too
    uint64_t cx_none_healthy
    uint64_t cx_overflow
    uint64_t pending_overflow
    uint64_t rx_bytes           # from the endpoints
    uint64_t tx_bytes           # to the endpoints
    uint64_t ended[4]           # attempts, by who ended them: we, the endpoint; and once they were relays the same
    ClusterTraffic* traffic     # atomic; owned, made with the first connection: most clusters never have one
    # Thresholds of outlier detection, 0: off; see outlier_counters.pxd. Atomic, as they change with the configuration.
    uint32_t failure_threshold
    uint32_t gateway_threshold
    uint8_t dirty               # atomic; in `dirty_clusters`, which holds a reference
    ClusterState* next_dirty
    DirtyClusters* dirty_clusters
    uint32_t name_length
    char* name                  # owned

# What a pick and a connect need, published as one: never the table of one cluster with the state of another. Immutable.
cdef struct SlotVersion:
    const Table* table
    ClusterState* state
    uint64_t generation         # no two versions have the same: tells a worker that its cursor is of an older table
    uint32_t connect_timeout_ms
    uint32_t max_connections
    uint32_t max_pending
    uint32_t max_per_endpoint   # connections to one endpoint; UNLIMITED: any number
    uint32_t keepalive_time_s
    uint32_t keepalive_interval_s
    uint32_t keepalive_probes
    uint8_t original_dst        # connect to where the client wanted to go; the table holds a stand-in for its state
    TlsContext* mesh_tls        # spoken to endpoints of the mesh; NULL: plain text
    TlsContext* other_tls       # spoken to all others
    const uint8_t* mesh         # by row: is the endpoint one of the mesh? NULL: none is
    uint8_t first_family        # 4 or 6: of the first address that is tried of several; 0: that of the endpoint's first
    uint32_t first_family_count     # how many of that family before one of the other
    uint16_t port_override      # of original_dst: instead of the port that the client wanted; 0: none
    Address source4             # what connections to IPv4 endpoints come from, port 0: any; family 0: kernel's choice
    Address source6             # the same to IPv6 endpoints
    SocketSettings options4      # of sockets to IPv4 endpoints, set before they are bound
    SocketSettings options6

cdef struct ClusterSlot:
    SlotVersion* current        # atomic; NULL: not routable (warming, or the slot is free)
    ClusterState* owner         # of the control side alone; NULL: the slot is free

# To be used until the next quiet point of the worker.
cdef inline SlotVersion* slot_version(ClusterSlot* slot) noexcept nogil:
    return <SlotVersion*>atomic_load_pointer(<void**>&slot.current)

# With what TLS the endpoint of a row is spoken to; NULL: plain text.
cdef inline TlsContext* version_tls(const SlotVersion* version, int32_t row) noexcept nogil:
    return version.mesh_tls if version.mesh != NULL and version.mesh[row] else version.other_tls

cdef void cluster_acquire(ClusterState* state) noexcept nogil
cdef void cluster_release(ClusterState* state) noexcept nogil
cdef ClusterTraffic* make_traffic(ClusterState* state) noexcept nogil

# NULL without memory.
cdef inline ClusterTraffic* cluster_traffic(ClusterState* state) noexcept nogil:
    cdef void* found = atomic_load_pointer(<void**>&state.traffic)
    return <ClusterTraffic*>found if found != NULL else make_traffic(state)

# An endpoint of it crossed a threshold: have the control side look. Returns whether it does not know yet.
cdef bint cluster_mark_dirty(ClusterState* state) noexcept nogil

cdef class ClusterSlots:
    cdef ClusterSlot* slots
    cdef readonly uint32_t capacity
    cdef uint64_t generation
    cdef dict slot_by_name
    cdef dict name_by_slot      # the name given to acquire: of a view it is not that of its state
    cdef dict holders           # slot -> number of acquire calls not yet released
    cdef dict versions          # slot -> Version: keeps alive what `current` points to
    cdef Publication publication
    cdef list free_slots
    cdef DirtyClusters dirty_clusters
    cdef uint32_t used
    cdef ClusterState* pop_dirty(self) noexcept
    cdef ClusterSlot* slot_of(self, object slot) except NULL
    cdef int replace(self, object slot, object version, object then) except -1
