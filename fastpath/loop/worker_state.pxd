# What a worker owns; the phases of its connections work on it. No Python object, no GIL, no exception. A worker either
# has a thread of its own, and is spoken to by worker_tell, or is hosted: then its turns and orders are calls of the
# control thread. Nothing here belongs to a single connection.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from eastgate.fastpath.loop.busy_poll cimport BusyPoll
from eastgate.fastpath.loop.cluster_slots cimport ClusterSlot
from eastgate.fastpath.loop.connection cimport (
    Connection, EndpointQueue, HandshakeQueue, Listener, Race, WaitingList,
)
from eastgate.fastpath.loop.endpoint_queue cimport EndpointQueues
from eastgate.fastpath.loop.event_ring cimport EventRing
from eastgate.fastpath.loop.leg cimport Watch
from eastgate.fastpath.loop.listener_states cimport Directory
from eastgate.fastpath.loop.publication cimport Reader
from eastgate.fastpath.loop.remembered cimport Memory
from eastgate.fastpath.loop.relay cimport RelayMeans
from eastgate.fastpath.loop.tls_session cimport TlsScratch
from eastgate.fastpath.loop.timer_wheel cimport Timer, TimerWheel, wheel_schedule
from eastgate.fastpath.match.facts cimport Address
from eastgate.fastpath.posix cimport pthread_t, sem_t, write
from eastgate.fastpath.tables.picker cimport PickCursor

cdef enum:
    TICK_SHIFT = 24             # a tick is 2^24 ns, 16.8 ms
    MILLISECOND = 1000000

# What the configuration calls no timeout, where somebody waits for the other: an hour. Of a connection with one
# direction ended, and of one that came to an endpoint at its limit.
cdef enum: OWN_WAIT_MS = 3600000
# The same where nobody can wait: of a connect.
cdef enum: OWN_CONNECT_TIMEOUT_MS = 10000

cdef enum OrderKind:
    ORDER_ADD_LISTENER          # accept from `listener`, which is the worker's from here on
    ORDER_STOP_ACCEPTING        # accept what has arrived at `listener`, then close its socket
    ORDER_CLOSE_CONNECTIONS     # cut all; result: how many
    ORDER_END

cdef struct Order:
    OrderKind kind
    Listener* listener
    int64_t result              # negative: errno
    sem_t done

# A cluster that is no longer reached at an address, and is at another one: connections that were going there stay.
cdef struct Move:
    uint32_t slot
    Address place               # with its port

# Published as one, sorted by slot, immutable.
cdef struct MoveList:
    Move* moves
    uint32_t count

# Of all workers of an engine.
cdef struct Shared:
    uint64_t connections        # atomic
    uint64_t max_connections
    uint64_t silent             # atomic; connections that are not routed yet
    uint64_t max_silent
    uint32_t pipe_limit         # pipes of one worker
    uint8_t overloaded          # atomic; new connections are shed
    uint8_t record_all          # atomic; finished connections are recorded too, not only refusals
    uint8_t record_probes       # atomic; refused ones that never sent a byte are recorded, too
    uint8_t splicing            # atomic; 0: bulk flows copy
    uint8_t threaded
    Directory* directory        # atomic; the listeners of redirected connections; NULL: none
    MoveList* moves             # atomic; NULL: none
    uint32_t reviews            # atomic; how many times open connections were to be looked at again
    uint8_t cuts_changed        # atomic; connections of a changed chain end, whether they need to or not
    uint64_t drain_ns           # atomic; how long a connection that does not fit any more goes on
    uint64_t busy_poll_ns       # how long a worker with a thread asks for events before it sleeps; 0: not at all

# What looking for a ClientHello found: a hello, as the sum of what stands in it, or none.
cdef enum Inspected:
    INSPECTED_SNI = 1
    INSPECTED_ALPN = 2
    INSPECTED_NOT_TLS = 4
    INSPECTED_TOO_LARGE = 5
    INSPECTED_COUNT

cdef struct Worker:
    Reader reader
    Shared* shared
    uint32_t number             # among the engine's
    Order* order                # atomic; what the control side waits for
    pthread_t thread
    uint8_t started             # `thread` is one
    uint8_t ending
    int thread_id               # atomic; as /proc names it
    uint64_t awake_since        # atomic; when this turn began, nanoseconds, monotonic; 0 while it sleeps
    uint64_t handled            # descriptors, in all turns
    Watch watch                 # its epoll set
    int timer_fd
    int ready_fd                # eventfd: readable while work is left for the next turn
    uint8_t timer_source
    uint8_t ready_source
    uint8_t ready_raised
    ClusterSlot* slots          # shared, owned by ClusterSlots
    PickCursor* cursors         # per slot
    uint64_t* cursor_generations
    uint32_t cursor_count
    TimerWheel wheel
    Timer accept_retry
    uint64_t armed              # tick that the timerfd is set to; the largest uint64 when it is not
    uint64_t now                # nanoseconds, monotonic
    uint64_t random
    Connection* open
    Connection* closed          # to be freed when the turn ends
    Race* ended_races           # to be freed when the turn ends
    Connection* busy            # relays that stopped at their budget
    EndpointQueue* due          # queues that somebody may leave
    EndpointQueues waiting
    HandshakeQueue handshakes
    WaitingList silent          # not routed yet
    Memory memory               # what clients said
    Connection* review          # the next one to be looked at again; NULL: all were
    uint32_t reviewed           # of `reviews`, when that began
    uint64_t last_marked        # when the last one of those that are to end was, or would be if they came one by one
    Connection* spare           # free list
    uint32_t spare_count
    Listener* listeners         # owned
    EventRing events
    RelayMeans means
    TlsScratch scratch
    BusyPoll polling
    uint64_t inspected[6]       # by Inspected; written by the worker alone, read by anybody
    uint64_t turn_left          # bytes that this turn may still relay before bulk flows have to wait for the next

cdef inline void schedule_in(Worker* worker, Timer* timer, uint64_t ns) noexcept nogil:
    wheel_schedule(&worker.wheel, timer, ((worker.now + ns) >> TICK_SHIFT) + 1)

# A thread looks for work before it sleeps; whoever hosts must find the epoll descriptor readable.
cdef inline void raise_ready(Worker* worker) noexcept nogil:
    cdef uint64_t one = 1
    if not worker.shared.threaded and not worker.ready_raised:
        worker.ready_raised = write(worker.ready_fd, &one, sizeof(one)) == sizeof(one)

# Whoever waits in it may go on, or has failed: look at the end of the turn. A due queue is not freed.
cdef inline void wake_queue(Worker* worker, EndpointQueue* queue) noexcept nogil:
    if queue.due or queue.waiting.first == NULL:
        return
    queue.due = 1
    queue.next_due = worker.due
    worker.due = queue
    raise_ready(worker)
