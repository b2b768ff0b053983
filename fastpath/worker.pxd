# One native loop and all that it owns. No Python object, no GIL, no exception.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from eastgate.fastpath.client_hello cimport ClientHello
from eastgate.fastpath.cluster_slots cimport ClusterSlot
from eastgate.fastpath.picker cimport PickCursor
from eastgate.fastpath.connection cimport Connection, Listener
from eastgate.fastpath.event_ring cimport EventRing
from eastgate.fastpath.timer_wheel cimport Timer, TimerWheel

cdef struct Worker:
    int epoll
    int timer_fd
    int ready_fd                # eventfd: readable while `queued` is not empty
    uint8_t timer_source
    uint8_t ready_source
    uint8_t ready_raised
    uint8_t record_all          # finished connections are recorded too, not only refusals
    ClusterSlot* slots          # shared, owned by ClusterSlots
    PickCursor* cursors         # per slot
    uint64_t* cursor_generations
    uint32_t cursor_count
    TimerWheel wheel
    Timer accept_retry
    uint64_t armed              # tick that the timerfd is set to; the largest uint64 when it is not
    uint64_t now                # nanoseconds, monotonic
    uint64_t random
    uint64_t seed
    uint64_t connections
    uint64_t max_connections
    Connection* open
    Connection* closed
    Connection* queued
    Connection* spare           # free list
    uint32_t spare_count
    Listener** listeners        # owned; a number is never reused
    uint32_t listener_count
    EventRing events
    ClientHello hello           # of the connection that is being sniffed right now
    uint8_t hello_known
    uint8_t* buffer             # RELAY_BUFFER bytes

cdef Worker* worker_new(ClusterSlot* slots, uint32_t slot_count, uint64_t seed, uint64_t max_connections,
                        uint32_t event_capacity) noexcept nogil
cdef void worker_free(Worker* worker) noexcept nogil
cdef int worker_turn(Worker* worker) noexcept nogil
# The worker owns the descriptor and the struct from here on. Returns the number, or -1 with errno set.
cdef int worker_add_listener(Worker* worker, Listener* listener) noexcept nogil
cdef void worker_stop_accepting(Worker* worker, Listener* listener) noexcept nogil
cdef uint64_t worker_close_connections(Worker* worker) noexcept nogil
