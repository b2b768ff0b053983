# What the engine keeps per connection and per listener. A Connection is all the memory of an idle one: 456 bytes, 464
# with what malloc adds; 512 are promised.
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from eastgate.fastpath.loop.cluster_slots cimport ClusterState
from eastgate.fastpath.loop.histogram cimport Histogram
from eastgate.fastpath.loop.leg cimport Leg
from eastgate.fastpath.match.chain_counts cimport ChainState
from eastgate.fastpath.tables.endpoint_state cimport EndpointState
from eastgate.fastpath.tables.traffic cimport Traffic
from eastgate.fastpath.tls.handshake cimport TlsContext
from eastgate.fastpath.tls.principals cimport Principal
from eastgate.fastpath.loop.pipe_pool cimport Pipe
from eastgate.fastpath.reason cimport Reason
from eastgate.fastpath.match.facts cimport Address
from eastgate.fastpath.match.policy cimport CompiledPolicies
from eastgate.fastpath.match.proxy_counts cimport ProxyState
from eastgate.fastpath.match.route_nodes cimport Routes
from eastgate.fastpath.loop.remembered cimport Remembered
from eastgate.fastpath.loop.timer_wheel cimport Timer

cdef enum:
    TRIED_CAPACITY = 4
    PEER_CAPACITY = 2048        # of a SPIFFE ID, https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md, 2.3
    # Where the configuration says 0 (none), a phase that nobody can wait for still ends.
    OWN_HELLO_TIMEOUT_MS = 15000

# What an epoll event is about: the first byte of the struct that its data points to.
cdef enum Source:
    SOURCE_TIMER
    SOURCE_READY
    SOURCE_LISTENER
    SOURCE_DOWNSTREAM
    SOURCE_UPSTREAM
    SOURCE_ATTEMPT              # the leg of an Attempt

# How a connection began, as far as somebody looked: Began, or BEGAN_HTTP and the HttpProtocol of its first request.
cdef enum Began:
    BEGAN_UNSEEN                # nobody looked, or it was neither of the others
    BEGAN_TLS
    BEGAN_HTTP

cdef enum Phase:
    PHASE_PROXY_HEADER          # the PROXY header is not complete yet
    PHASE_SNIFF                 # the ClientHello is not complete yet
    PHASE_UNSEAL                # TLS handshake with the client
    PHASE_WAIT                  # for one of the endpoint's connections to end
    PHASE_CONNECT
    PHASE_SEAL                  # TLS handshake with the endpoint
    PHASE_RELAY
    PHASE_HEAR                  # it is denied, and the request that is answered has not come yet
    PHASE_ANSWER                # answered: until the client has read it and ends
    PHASE_CLOSED                # legs closed, memory given back at the end of the turn

# Bytes of one direction.
cdef struct Flow:
    uint64_t bytes
    # Read, but not taken by the other side yet; COPY_LIMIT bytes at most. First what was sniffed.
    uint8_t* held
    uint32_t held_offset
    uint32_t held_length
    Pipe* pipe                  # while bytes are moved by splice, or lie in it; else NULL

# One line of the access log to be. Allocated per connection only while the log is on, and for every refusal.
cdef struct ConnectionRecord:
    ConnectionRecord* next
    ClusterState* cluster       # counted reference or NULL
    uint32_t listener
    uint16_t reason
    uint16_t server_name_length
    uint16_t alpn_length
    uint16_t attempts
    uint16_t policy_length
    uint8_t policy_unknown      # it was decided by something that nobody here knows
    uint16_t log                # as in Connection
    Address downstream
    Address downstream_local
    Address upstream
    # Only where a log wants it.
    Address direct_source
    Address destination
    Address upstream_local
    Address upstream_remote     # that of the socket; `upstream` is what the endpoint is known by
    Principal* downstream_peer  # NULL: none
    Principal* upstream_peer
    uint64_t rx_bytes
    uint64_t tx_bytes
    uint64_t start_realtime_ns
    uint64_t duration_ns
    uint64_t connect_ns
    char server_name[256]
    uint8_t alpn[256]           # names, each behind a byte with its length
    char policy[256]            # that denied it

# Envoy's counters of RBAC filters.
cdef enum RbacCounter:
    RBAC_ALLOWED
    RBAC_DENIED
    RBAC_SHADOW_ALLOWED
    RBAC_SHADOW_DENIED
    RBAC_LOGGED
    RBAC_COUNTERS

# What the connections of a listener have in common, whichever socket they came by, or were handed over from. Of one
# worker; see listener_states.pxd for how long it lives.
cdef struct ListenerState:
    uint8_t proxy_protocol      # bits of ProxyHeaderKind; 0: no header is looked for
    uint8_t inspect_tls         # look for a ClientHello; otherwise nobody has to say anything
    uint8_t continue_on_timeout     # who has not said enough in time goes on with what is known
    uint8_t original_dst        # ask netfilter where its connections were going
    uint8_t hands_over          # to the listener of the address where they were going
    uint8_t captured            # they were redirected: netfilter keeps an entry for each
    uint8_t gone                # atomic; it has left the configuration: its connections are for `heir`, if for anybody
    uint16_t own_port           # of its socket, host order; 0: it has none
    uint32_t number
    uint32_t hello_limit        # bytes of records that a ClientHello may take
    uint32_t hello_timeout_ms   # 0: none is configured
    uint32_t silent_timeout_ms  # then who has said nothing for so long is routed as not TLS, where a chain takes that
    Routes* routes              # atomic; kept alive by the engine
    ProxyState* proxied         # of its stat_prefix; kept alive by the ListenerStates
    ListenerState* heir         # atomic; of another listener, of the same worker; NULL: nobody
    uint32_t generation         # atomic; another one whenever its connections have to be looked at again
    # Written by the worker alone, read by anybody.
    uint64_t cx_total
    uint64_t cx_active
    uint64_t cx_pre_active
    uint64_t rx_bytes
    uint64_t tx_bytes
    uint64_t refused[<int>Reason.REASON_COUNT]
    Histogram length            # how long connections lasted from their filter chain on
    uint64_t rbac[RBAC_COUNTERS]
    uint64_t tls_handshakes     # with clients, that succeeded
    uint64_t tls_resumed
    uint32_t shaking            # clients that wait for the first flight of a handshake; the worker's alone

# One worker's socket of a listener.
cdef struct Listener:
    uint8_t source              # first: see Source
    uint8_t accepting
    uint8_t paused              # out of descriptors: out of the epoll set until the timer says try again
    int fd
    Listener* next              # of the worker
    ListenerState* state        # of connections that come by it

# Connections in the order in which they came; see waiting_list.pxd. One is in one such list at most.
cdef struct WaitingList:
    Connection* first
    Connection* last

# Of one worker; see handshake_queue.pxd.
cdef struct HandshakeQueue:
    WaitingList begun
    WaitingList beginning

# Of one worker and one endpoint with a limit of connections; see endpoint_queue.pxd.
cdef struct EndpointQueue:
    EndpointState* endpoint     # held by the connections that are counted here
    uint32_t own                # connections to it, connecting ones too
    uint8_t kept                # somebody up the stack goes on with it
    uint8_t due                 # in the worker's list of those to look at when the turn ends
    WaitingList waiting
    EndpointQueue* next         # of its bucket
    EndpointQueue* next_due

# One address of an endpoint with several. A pointer to its leg is one to it.
cdef struct Attempt:
    Leg leg
    Race* race
    Address address

# Connects to the addresses of one endpoint; see race.pyx.
cdef struct Race:
    Connection* connection
    Race* next_ended            # of the worker's, whose memory is given back when the turn ends
    TlsContext* context         # counted reference: what the connection will be secured with; NULL: it stays plain
    uint64_t deadline           # of all attempts
    uint32_t count              # addresses, in the order in which they are tried
    uint32_t begun              # those that were
    uint32_t running            # of these, those whose leg is neither closed nor handed over
    uint8_t more                # the timer is that of the next attempt
    uint8_t early               # bytes will be sent as soon as one is connected
    Attempt* attempts           # behind this

# What only a connection needs that is not relayed yet.
cdef struct Approach:
    EndpointState* tried[4]     # the last ones that could not be connected to; compared, never followed
    Connection* previous_waiting    # in a WaitingList: of its endpoint; before it is routed, that of the silent ones
    Connection* previous_shaking    # in a list of the worker's HandshakeQueue
    Connection* next_shaking
    Race* race                  # owned, until it is relayed; NULL: its endpoint has one address
    CompiledPolicies* policies  # counted reference, until it is judged; NULL: of its chain there are none
    int32_t row                 # of the endpoint in the table that it was picked from
    uint32_t handshake_ms       # that the TLS handshake with the client may take
    uint8_t hash_source_ip      # of its chain
    uint8_t began               # at least one byte was seen from downstream
    uint8_t protocol            # offered to endpoints of the mesh: HttpProtocol of the first request and 1; 0: TCP
    uint8_t is_http             # its chain speaks HTTP
    uint8_t asked               # a first request of HTTP/1 was read: a refusal is answered
    uint8_t failure             # Reason why the connection that it waited for could not be made; 0: it still waits
    uint8_t inspected           # what it began with is counted
    uint8_t max_attempts
    uint8_t shaking             # where it is in the queue of handshakes: Shaking

# What only one needs that is.
cdef struct Relayed:
    Flow upward                 # downstream -> upstream
    Flow downward
    Traffic* traffic            # what Istio's metrics count it in; of its endpoint or cluster, or NULL
    uint64_t connected
    uint64_t last_activity
    uint64_t ends               # what served it changed, and it does not fit any more; where `ends_for` says why

# In PHASE_RELAY, until it is closed, the second; else the first.
cdef union Stage:
    Approach approach
    Relayed relayed

cdef struct Connection:
    Timer timer                 # first: a Timer* of the wheel is its Connection*
    Leg down                    # here and there: see connection_of
    Leg up
    uint8_t phase
    uint8_t charged             # bits of Charge
    uint8_t busy                # in the worker's list of relays with work left
    uint8_t guarded             # which keepalives are on; see relay_phase.pyx
    uint8_t telemetry           # of its chain: Telemetry
    uint8_t counted             # bytes are counted by `chain` or `traffic` too
    uint8_t how                 # it began: see Began
    uint8_t ends_for            # Reason why it ends at `ends`; 0: it stays
    uint16_t attempts           # connects begun
    uint16_t log                # of its chain: which access logs want a line of it; 0: none
    uint32_t chain_number       # of its chain: see RouteChain
    uint32_t judged             # generation of its listener that it was routed or judged by
    Address downstream          # of the socket, or conveyed by a PROXY header
    Address direct_source       # of the socket, whatever a PROXY header says
    Address upstream            # what the endpoint is known by: its first address
    # Where the client wanted to go, as netfilter or a PROXY header says; family 0: unknown but for the port, which then
    # is the listener's.
    Address destination
    uint32_t slot               # where `cluster` was found; a hint that may be another cluster's by now
    ListenerState* listener     # lives as long as it counts this connection as active
    ClusterState* cluster       # counted reference or NULL
    EndpointState* endpoint     # counted reference or NULL
    ChainState* chain           # counted reference or NULL
    Remembered* said            # counted reference; NULL: nothing that anybody looked at
    EndpointQueue* queue        # of the endpoint, if it is counted there or waits in it; else NULL
    ConnectionRecord* record    # NULL unless finished connections are recorded
    Connection* previous        # among all open connections of the worker
    Connection* next            # also: the list of closed ones until the turn ends
    Connection* next_listed     # in a WaitingList; once it is relayed, in the worker's list of busy ones
    Stage stage
    # Times are nanoseconds of the monotonic clock; 0 where there is none.
    uint64_t started
    uint64_t routed             # its filter chain was found
    uint64_t connect_started    # the first one
    uint64_t attempt_started    # the connection to an endpoint that is being made, or was
    uint64_t idle_timeout       # 0: never
    uint64_t expiry             # of max_downstream_connection_duration

# Whose leg it is. `down` and `up` follow the timer, and none of the three is followed by a gap.
cdef inline Connection* connection_of(Leg* leg) noexcept nogil:
    return <Connection*>(<char*>(leg - (leg.source == SOURCE_UPSTREAM)) - sizeof(Timer))
