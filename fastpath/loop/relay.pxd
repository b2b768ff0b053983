# Moving bytes between the two sockets of a connection.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t
from eastgate.fastpath.loop.connection cimport Flow
from eastgate.fastpath.loop.leg cimport Leg
from eastgate.fastpath.loop.pipe_pool cimport PipePool

cdef enum:
    # The first bytes of a flow are read and then written: one call each, best for handshakes and small answers. What
    # the other side does not take at once is held, so this also bounds the memory of a blocked flow.
    COPY_LIMIT = 16384
    RELAY_BUFFER = 262144       # the worker's one buffer
    # Of a flow that TLS seals or opens: some records with one call each way.
    SEALED_LIMIT = 65536

# What relaying needs of its worker.
cdef struct RelayMeans:
    uint8_t* buffer             # RELAY_BUFFER bytes
    PipePool pipes
    uint64_t now                # nanoseconds, monotonic
    uint8_t splicing            # 0: bulk flows copy

cdef enum FlowStatus:
    FLOW_WAITING                # until a socket is readable or writable again
    FLOW_ENDED                  # FIN read, everything delivered, FIN sent
    FLOW_BUSY                   # the budget is used up
    FLOW_BROKEN                 # one side reset

# Move what can be moved, until about `budget` bytes were.
cdef FlowStatus relay_flow(Flow* flow, Leg* origin, Leg* target, RelayMeans* means, size_t budget) noexcept nogil
# Let go of what the flow holds; what lies in its pipe is lost.
cdef void flow_free(Flow* flow, RelayMeans* means) noexcept nogil
