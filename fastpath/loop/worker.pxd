# One native loop and all that it owns. No Python object, no GIL, no exception. A worker either has a thread of its own,
# and is spoken to by worker_tell, or is hosted: then its turns and orders are calls of the control thread.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from eastgate.fastpath.loop.busy_poll cimport BusyPoll
from eastgate.fastpath.match.client_hello cimport ClientHello
from eastgate.fastpath.loop.cluster_slots cimport ClusterSlot
from eastgate.fastpath.tables.picker cimport PickCursor
from eastgate.fastpath.loop.connection cimport Connection, Listener
from eastgate.fastpath.loop.endpoint_queue cimport EndpointQueues
from eastgate.fastpath.loop.event_ring cimport EventRing
from eastgate.fastpath.posix cimport pthread_t, sem_t
from eastgate.fastpath.loop.publication cimport Reader
from eastgate.fastpath.loop.relay cimport RelayMeans
from eastgate.fastpath.loop.timer_wheel cimport Timer, TimerWheel

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

# Of all workers of an engine.
cdef struct Shared:
    uint64_t connections        # atomic
    uint64_t max_connections
    uint8_t record_all          # atomic; finished connections are recorded too, not only refusals
    uint8_t splicing            # atomic; 0: bulk flows copy
    uint8_t threaded
    uint64_t busy_poll_ns       # how long a worker with a thread asks for events before it sleeps; 0: not at all

cdef struct Worker:
    Reader reader
    Shared* shared
    Order* order                # atomic; what the control side waits for
    pthread_t thread
    uint8_t started             # `thread` is one
    uint8_t ending
    uint64_t handled            # descriptors, in all turns
    int epoll
    int timer_fd
    int ready_fd                # eventfd: readable while `queued` is not empty
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
    Connection* closed
    Connection* queued
    EndpointQueues waiting
    Connection* spare           # free list
    uint32_t spare_count
    Listener* listeners         # owned
    EventRing events
    ClientHello hello           # of the connection that is being sniffed right now
    uint8_t hello_known
    RelayMeans means
    BusyPoll polling
    uint64_t turn_left          # bytes that this turn may still relay before bulk flows have to wait for the next

# `notify_fd`: eventfd to raise when there are events to take; -1 for none.
cdef Worker* worker_new(
    Shared* shared, ClusterSlot* slots, uint32_t slot_count, uint64_t seed, uint32_t event_capacity, int notify_fd
) noexcept nogil
# Begin its thread. Returns 0 or an error number.
cdef int worker_start(Worker* worker, uint32_t number) noexcept nogil
# Cut what is open and free everything; its thread must have ended (worker_join).
cdef void worker_free(Worker* worker) noexcept nogil
cdef void worker_join(Worker* worker) noexcept nogil
# One turn of a hosted worker; returns how many descriptors were handled.
cdef int worker_turn(Worker* worker, bint may_sleep) noexcept nogil
# Hand over an order; worker_await returns its result when it has been carried out. At once for a hosted worker.
cdef void worker_tell(Worker* worker, Order* order) noexcept nogil
cdef int64_t worker_await(Worker* worker, Order* order) noexcept nogil
