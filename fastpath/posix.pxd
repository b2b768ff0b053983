# System calls of the data side that Cython's own libc declarations do not have. Linux.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stddef cimport size_t
from posix.types cimport off_t

ctypedef long ssize_t

cdef extern from "errno.h" nogil:
    int errno
    enum: EAGAIN, EINTR, EINPROGRESS, EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EADDRNOTAVAIL, ETIMEDOUT

cdef extern from "unistd.h" nogil:
    int close(int fd)
    int gettid()
    ssize_t read(int fd, void* buffer, size_t count)
    ssize_t write(int fd, const void* buffer, size_t count)

cdef extern from "sys/socket.h" nogil:
    ctypedef unsigned int socklen_t
    cdef struct sockaddr:
        unsigned short sa_family
    cdef struct sockaddr_storage:
        unsigned short ss_family
    cdef struct linger:
        int l_onoff
        int l_linger
    enum: AF_INET, AF_INET6, AF_UNIX, SOCK_STREAM, SOCK_NONBLOCK, SOCK_CLOEXEC
    enum: SOL_SOCKET, SO_ERROR, SO_KEEPALIVE, SO_LINGER, SO_OOBINLINE, SO_RCVLOWAT, SO_REUSEADDR, SO_REUSEPORT
    enum: SHUT_WR
    enum: MSG_PEEK, MSG_TRUNC, MSG_NOSIGNAL, MSG_DONTWAIT
    int socket(int domain, int type, int protocol)
    int accept4(int fd, sockaddr* address, socklen_t* length, int flags)
    int bind(int fd, const sockaddr* address, socklen_t length)
    int listen(int fd, int backlog)
    int connect(int fd, const sockaddr* address, socklen_t length)
    int shutdown(int fd, int how)
    int getsockopt(int fd, int level, int option, void* value, socklen_t* length)
    int setsockopt(int fd, int level, int option, const void* value, socklen_t length)
    int getsockname(int fd, sockaddr* address, socklen_t* length)
    ssize_t recv(int fd, void* buffer, size_t length, int flags)
    ssize_t send(int fd, const void* buffer, size_t length, int flags)

cdef extern from "poll.h" nogil:
    cdef struct pollfd:
        int fd
        short events
        short revents
    enum: POLLRDHUP
    int poll(pollfd* asked, unsigned long count, int timeout_ms)

cdef extern from "fcntl.h" nogil:
    enum: O_CLOEXEC, O_NONBLOCK, F_SETPIPE_SZ, F_GETPIPE_SZ
    unsigned int SPLICE_F_MOVE, SPLICE_F_NONBLOCK
    int fcntl(int fd, int command, ...)
    int pipe2(int* ends, int flags)
    ssize_t splice(int source, void* source_offset, int target, void* target_offset, size_t length, unsigned int flags)

cdef extern from "sys/un.h" nogil:
    cdef struct sockaddr_un:
        unsigned short sun_family
        char sun_path[108]

cdef extern from "netinet/in.h" nogil:
    cdef struct in_addr:
        uint32_t s_addr
    cdef struct sockaddr_in:
        unsigned short sin_family
        uint16_t sin_port
        in_addr sin_addr
    cdef struct in6_addr:
        uint8_t s6_addr[16]
    cdef struct sockaddr_in6:
        unsigned short sin6_family
        uint16_t sin6_port
        in6_addr sin6_addr
        uint32_t sin6_scope_id
    enum: IPPROTO_IP, IPPROTO_TCP, IPPROTO_IPV6, IPV6_V6ONLY, IP_BIND_ADDRESS_NO_PORT
    enum: SO_ORIGINAL_DST "80"  # of netfilter: its headers and those of the C library exclude each other
    uint16_t htons(uint16_t value)
    uint16_t ntohs(uint16_t value)

cdef extern from "netinet/tcp.h" nogil:
    enum: TCP_NODELAY, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_DEFER_ACCEPT, TCP_FASTOPEN
    enum: TCP_USER_TIMEOUT, TCP_QUICKACK

cdef extern from "arpa/inet.h" nogil:
    int inet_pton(int family, const char* text, void* address)
    const char* inet_ntop(int family, const void* address, char* text, socklen_t size)

cdef extern from "sys/epoll.h" nogil:
    cdef union epoll_data_t:
        void* ptr
        uint64_t u64
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    enum: EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLERR, EPOLLHUP, EPOLLRDHUP
    enum: EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD
    uint32_t EPOLLET
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int operation, int fd, epoll_event* event)
    int epoll_wait(int epoll, epoll_event* events, int count, int timeout)

cdef extern from "pthread.h" nogil:
    ctypedef unsigned long pthread_t
    int pthread_create(pthread_t* thread, const void* attributes, void* (*main)(void*) noexcept nogil, void* argument)
    int pthread_join(pthread_t thread, void** result)
    int pthread_setname_np(pthread_t thread, const char* name)

cdef extern from "signal.h" nogil:
    ctypedef struct sigset_t:
        pass
    enum: SIG_BLOCK, SIG_SETMASK
    int sigfillset(sigset_t* set)
    int pthread_sigmask(int how, const sigset_t* set, sigset_t* previous)

cdef extern from "semaphore.h" nogil:
    ctypedef struct sem_t:
        pass
    int sem_init(sem_t* semaphore, int shared, unsigned int value)
    int sem_post(sem_t* semaphore)
    int sem_wait(sem_t* semaphore)
    int sem_destroy(sem_t* semaphore)

cdef extern from "sys/eventfd.h" nogil:
    enum: EFD_NONBLOCK, EFD_CLOEXEC
    int eventfd(unsigned int value, int flags)

cdef extern from "time.h" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    cdef struct itimerspec:
        timespec it_interval
        timespec it_value
    enum: CLOCK_MONOTONIC, CLOCK_REALTIME
    int clock_gettime(int clock, timespec* now)

cdef extern from "sys/timerfd.h" nogil:
    enum: TFD_NONBLOCK, TFD_CLOEXEC, TFD_TIMER_ABSTIME
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int fd, int flags, const itimerspec* value, itimerspec* previous)

cdef extern from *:
    """
    #define eg_load(p) __atomic_load_n((p), __ATOMIC_RELAXED)
    #define eg_store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
    #define eg_add(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
    #define eg_sub_release(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_ACQ_REL)
    #define eg_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define eg_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    #define eg_exchange(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
    #define eg_or_release(p, v) ((void)__atomic_fetch_or((p), (v), __ATOMIC_RELEASE))
    #define eg_swap_if(p, was, v) __atomic_compare_exchange_n((p), (was), (v), 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)
    #define eg_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    #define eg_count(p, v) __atomic_store_n((p), __atomic_load_n((p), __ATOMIC_RELAXED) + (v), __ATOMIC_RELAXED)
    """
    uint8_t atomic_load8 "eg_load"(uint8_t* place) nogil
    uint16_t atomic_load16 "eg_load"(uint16_t* place) nogil
    void atomic_store16 "eg_store"(uint16_t* place, uint16_t value) nogil
    uint16_t atomic_add16 "eg_add"(uint16_t* place, uint16_t value) nogil
    void atomic_store8 "eg_store"(uint8_t* place, uint8_t value) nogil
    void atomic_store "eg_store"(uint32_t* place, uint32_t value) nogil
    void atomic_store64 "eg_store"(uint64_t* place, uint64_t value) nogil
    uint32_t atomic_load_acquire "eg_load_acquire"(const uint32_t* place) nogil
    void atomic_store_release "eg_store_release"(uint32_t* place, uint32_t value) nogil
    uint64_t atomic_load_acquire64 "eg_load_acquire"(const uint64_t* place) nogil
    void atomic_store_release64 "eg_store_release"(uint64_t* place, uint64_t value) nogil
    void* atomic_load_pointer "eg_load_acquire"(void** place) nogil
    void atomic_store_pointer "eg_store_release"(void** place, void* value) nogil
    void* atomic_exchange_pointer "eg_exchange"(void** place, void* value) nogil
    uint8_t atomic_exchange8 "eg_exchange"(uint8_t* place, uint8_t value) nogil
    void atomic_or_release8 "eg_or_release"(uint8_t* place, uint8_t bits) nogil
    # Store `value` when the place holds what `expected` points to; otherwise put there what it holds, with all that was
    # written before it.
    bint atomic_swap_if_pointer "eg_swap_if"(void** place, void** expected, void* value) nogil
    void atomic_fence "eg_fence"() nogil
    # Add to a counter that this thread alone writes and any may read: no locked instruction.
    void count "eg_count"(uint64_t* place, uint64_t value) nogil
    uint32_t atomic_load "eg_load"(uint32_t* place) nogil
    uint64_t atomic_load64 "eg_load"(uint64_t* place) nogil
    uint32_t atomic_add "eg_add"(uint32_t* place, uint32_t value) nogil
    uint64_t atomic_add64 "eg_add"(uint64_t* place, uint64_t value) nogil
    # Fetch and subtract, ordered: for reference counts whose last holder frees.
    uint32_t atomic_sub_release "eg_sub_release"(uint32_t* place, uint32_t value) nogil

cdef inline uint64_t clock_ns(int clock) noexcept nogil:
    """Nanoseconds of CLOCK_MONOTONIC or CLOCK_REALTIME."""
    cdef timespec now
    clock_gettime(clock, &now)
    return <uint64_t>now.tv_sec * 1000000000 + <uint64_t>now.tv_nsec
