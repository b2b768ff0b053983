# Listening sockets, and what happens to a connection when it comes.
from libc.stdint cimport int64_t
from eastgate.fastpath.loop.connection cimport Listener
from eastgate.fastpath.loop.listener_states cimport ListenerStates
from eastgate.fastpath.loop.worker_state cimport Worker

# What a listening socket is given when it is opened.
cdef struct SocketOptions:
    int backlog
    bint ipv6_only
    int defer_accept_s          # 0: accept before the client has said something
    int fast_open               # handshakes that were not confirmed yet; 0: none

# Open one a worker; with port 0 all have the port that the first one got. Raises OSError naming the address, ValueError
# for a bad one; then none is open. `inherited`: (level, name, number) of options that accepted sockets take over.
cdef int open_sockets(
    ListenerStates own, str host, object port, const SocketOptions* options, object inherited
) except -1

# Accept from it from now on; it is the worker's. Returns 0 or minus an error number.
cdef int64_t add_listener(Worker* worker, Listener* listener) noexcept nogil
# Take some of the connections that wait; whether more may be waiting.
cdef bint accept_connections(Worker* worker, Listener* listener) noexcept nogil
# Try again with those that were out of descriptors.
cdef void retry_accepting(Worker* worker) noexcept nogil
# Accept what has arrived, then close the socket.
cdef void stop_accepting(Worker* worker, Listener* listener) noexcept nogil
# Close all of them and forget them.
cdef void free_listeners(Worker* worker) noexcept nogil
