"""One native loop: waits for events, hands them to the phases of their connections, runs timers, carries out orders.

Descriptors are in the epoll set once, edge-triggered; a leg remembers that it is readable or writable until a call says
EAGAIN. What a connection does in its life stands in journey.pyx.

System calls of a short connection, 18 without the waits, which connections share: accept4, recv of the hello, socket,
TCP_NODELAY, TCP_QUICKACK, connect, epoll_ctl of both sockets, send; recv and send of the answer; recv of the end of
each side, one shutdown; epoll_ctl and close of both.
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, UINT64_MAX
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from eastgate.fastpath.loop.acceptor cimport (
    accept_connections, add_listener, free_listeners, retry_accepting, stop_accepting,
)
from eastgate.fastpath.loop.busy_poll cimport busy_poll
from eastgate.fastpath.loop.closing cimport finish, free_closed, free_spare, refuse
from eastgate.fastpath.loop.connection cimport (
    Connection, EndpointQueue, Listener, PHASE_RELAY, SOURCE_ATTEMPT, SOURCE_LISTENER, SOURCE_READY, SOURCE_TIMER,
    connection_of,
)
from eastgate.fastpath.loop.endpoint_queue cimport queues_free
from eastgate.fastpath.loop.event_ring cimport ring_free, ring_init
from eastgate.fastpath.loop.handshake_queue cimport has_handshakes
from eastgate.fastpath.loop.journey cimport advance, phase_timeout, serve_handshakes
from eastgate.fastpath.loop.leg cimport Leg, is_stale, leg_note, watched
from eastgate.fastpath.loop.pipe_pool cimport pool_free
from eastgate.fastpath.loop.publication cimport reader_offline, reader_online
from eastgate.fastpath.loop.race cimport race_event
from eastgate.fastpath.loop.relay cimport RELAY_BUFFER
from eastgate.fastpath.loop.relay_phase cimport relay_busy
from eastgate.fastpath.loop.remembered cimport memory_free
from eastgate.fastpath.loop.review cimport has_reviews, review_some
from eastgate.fastpath.loop.timer_wheel cimport (
    Timer, timer_init, timer_pop, wheel_advance, wheel_init, wheel_next,
)
from eastgate.fastpath.loop.upstream cimport serve_queue
from eastgate.fastpath.loop.worker_state cimport (
    ORDER_ADD_LISTENER, ORDER_CLOSE_CONNECTIONS, ORDER_END, ORDER_STOP_ACCEPTING, TICK_SHIFT, raise_ready,
)
from eastgate.fastpath.posix cimport *
from eastgate.fastpath.random cimport mix_seed
from eastgate.fastpath.reason cimport Reason
from eastgate.fastpath.tables.picker cimport PickCursor, cursor_free

cdef enum:
    EVENTS_PER_WAIT = 256
    WAITS_PER_TURN = 4          # bounds a turn, so that the hosting loop gets its share
    TURN_BUDGET = 4194304       # bytes of all flows per turn; past that a flow gets COPY_LIMIT


# ---- events and timers

cdef inline void connection_event(Worker* worker, Leg* leg, const epoll_event* event) noexcept nogil:
    if not is_stale(leg, event.data.u64):
        leg_note(leg, event.events)
        advance(worker, connection_of(leg))


cdef void attempt_event(Worker* worker, Leg* leg, const epoll_event* event) noexcept nogil:
    cdef Connection* connection = race_event(worker, leg, event)
    if connection != NULL:
        advance(worker, connection)


cdef void handle(Worker* worker, const epoll_event* event) noexcept nogil:
    cdef uint8_t* source = <uint8_t*>watched(event.data.u64)
    cdef uint64_t counter
    if source[0] == SOURCE_LISTENER:
        if (<Listener*>source).accepting:
            accept_connections(worker, <Listener*>source)
    elif source[0] == SOURCE_TIMER:
        read(worker.timer_fd, &counter, sizeof(counter))
        worker.armed = UINT64_MAX
    elif source[0] == SOURCE_READY:
        read(worker.ready_fd, &counter, sizeof(counter))
        worker.ready_raised = 0
    elif source[0] == SOURCE_ATTEMPT:
        attempt_event(worker, <Leg*>source, event)
    else:
        connection_event(worker, <Leg*>source, event)


cdef void run_timers(Worker* worker) noexcept nogil:
    cdef Timer due
    cdef Timer* timer
    cdef itimerspec when
    cdef uint64_t next_tick
    timer_init(&due)
    wheel_advance(&worker.wheel, worker.now >> TICK_SHIFT, &due)
    timer = timer_pop(&due)
    while timer != NULL:
        if timer == &worker.accept_retry:
            retry_accepting(worker)
        else:
            phase_timeout(worker, <Connection*>timer)
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


cdef void run_due(Worker* worker) noexcept nogil:
    cdef EndpointQueue* queue
    while worker.due != NULL:
        queue = worker.due
        worker.due = queue.next_due
        queue.due = 0
        serve_queue(worker, queue)


# ---- orders

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
        return epoll_wait(worker.watch.epoll, events, EVENTS_PER_WAIT, 0)
    # Asleep or not, this is the quiet point: no pointer that was published is held across it.
    reader_offline(&worker.reader)
    if timeout < 0 and worker.polling.window:
        found = busy_poll(&worker.polling, worker.watch.epoll, events, EVENTS_PER_WAIT)
    if found == 0:
        if timeout < 0:
            atomic_store64(&worker.awake_since, 0)
        found = epoll_wait(worker.watch.epoll, events, EVENTS_PER_WAIT, timeout)
    reader_online(&worker.reader)
    return found


cdef int worker_turn(Worker* worker, bint may_sleep) noexcept nogil:
    cdef epoll_event events[EVENTS_PER_WAIT]
    cdef int handled = 0
    cdef int found, index, _
    cdef bint idle = (
        worker.busy == NULL and worker.due == NULL and worker.closed == NULL and not has_reviews(worker)
        and not has_handshakes(&worker.handshakes)
    )
    cdef int timeout = -1 if may_sleep and idle else 0
    cdef uint64_t began
    worker.now = clock_ns(CLOCK_MONOTONIC)
    began = worker.now
    atomic_store64(&worker.awake_since, worker.now)
    worker.turn_left = TURN_BUDGET
    worker.means.splicing = atomic_load8(&worker.shared.splicing)
    for _ in range(WAITS_PER_TURN):
        found = wait_for_events(worker, events, timeout)
        if found <= 0:
            break
        timeout = 0
        worker.now = clock_ns(CLOCK_MONOTONIC)
        if handled == 0:
            # It may have slept until here.
            began = worker.now
        atomic_store64(&worker.awake_since, worker.now)
        worker.means.now = worker.now
        handled += found
        for index in range(found):
            handle(worker, &events[index])
        if found < EVENTS_PER_WAIT:
            break
    count(&worker.handled, <uint64_t>handled)
    take_order(worker)
    relay_busy(worker)
    run_due(worker)
    if has_reviews(worker):
        review_some(worker)
    if has_handshakes(&worker.handshakes):
        serve_handshakes(worker, began)
    run_timers(worker)
    if has_handshakes(&worker.handshakes):
        raise_ready(worker)
    free_closed(worker)
    return handled


cdef void* worker_main(void* argument) noexcept nogil:
    cdef Worker* worker = <Worker*>argument
    atomic_store(<uint32_t*>&worker.thread_id, <uint32_t>gettid())
    reader_online(&worker.reader)
    while not worker.ending:
        worker_turn(worker, True)
    reader_offline(&worker.reader)
    return NULL


# ---- set-up

cdef int watch_own(int epoll, int fd, uint8_t* source) noexcept nogil:
    cdef epoll_event event
    event.events = EPOLLIN
    event.data.u64 = <uint64_t>source
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)


cdef void close_own(int fd) noexcept nogil:
    if fd >= 0:
        close(fd)


cdef Worker* worker_new(
    Shared* shared, ClusterSlot* slots, uint32_t slot_count, uint64_t seed, uint32_t event_capacity, int notify_fd
) noexcept nogil:
    cdef Worker* worker = <Worker*>calloc(1, sizeof(Worker))
    if worker == NULL:
        return NULL
    worker.shared = shared
    worker.polling.window = shared.busy_poll_ns
    worker.means.pipes.limit = shared.pipe_limit
    worker.timer_source = SOURCE_TIMER
    worker.ready_source = SOURCE_READY
    worker.slots = slots
    worker.cursor_count = slot_count
    worker.random = mix_seed(seed)
    worker.memory.seed = mix_seed(seed + 1)
    worker.armed = UINT64_MAX
    worker.now = clock_ns(CLOCK_MONOTONIC)
    timer_init(&worker.accept_retry)
    wheel_init(&worker.wheel, worker.now >> TICK_SHIFT)
    worker.watch.epoll = epoll_create1(EPOLL_CLOEXEC)
    worker.timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
    worker.ready_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
    worker.cursors = <PickCursor*>calloc(slot_count, sizeof(PickCursor))
    worker.cursor_generations = <uint64_t*>calloc(slot_count, sizeof(uint64_t))
    worker.means.buffer = <uint8_t*>malloc(RELAY_BUFFER)
    if (
        ring_init(&worker.events, event_capacity, notify_fd) != 0
        or worker.cursors == NULL or worker.cursor_generations == NULL or worker.means.buffer == NULL
        or worker.watch.epoll < 0 or worker.timer_fd < 0 or worker.ready_fd < 0
        or watch_own(worker.watch.epoll, worker.timer_fd, &worker.timer_source) != 0
        or watch_own(worker.watch.epoll, worker.ready_fd, &worker.ready_source) != 0
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


cdef void worker_end(Worker* worker) noexcept nogil:
    cdef Order order
    if not worker.started:
        return
    order.kind = ORDER_END
    order.listener = NULL
    worker_tell(worker, &order)
    worker_await(worker, &order)
    pthread_join(worker.thread, NULL)
    worker.started = 0


cdef void worker_free(Worker* worker) noexcept nogil:
    cdef uint32_t index
    worker.now = clock_ns(CLOCK_MONOTONIC)
    close_connections(worker)
    relay_busy(worker)
    run_due(worker)
    free_closed(worker)
    free_spare(worker)
    free_listeners(worker)
    if worker.cursors != NULL:
        for index in range(worker.cursor_count):
            if worker.cursor_generations != NULL and worker.cursor_generations[index]:
                cursor_free(&worker.cursors[index])
    queues_free(&worker.waiting)
    memory_free(&worker.memory)
    free(worker.cursors)
    free(worker.cursor_generations)
    free(worker.means.buffer)
    pool_free(&worker.means.pipes)
    ring_free(&worker.events)
    close_own(worker.ready_fd)
    close_own(worker.timer_fd)
    close_own(worker.watch.epoll)
    free(worker)
