# Moving bytes between the two sockets of a connection.
from libc.stdint cimport uint8_t
from eastgate.fastpath.connection cimport Flow, Leg

cdef enum:
    # The first bytes of a flow are read and then written: one call each, best for handshakes and small answers. What
    # the other side does not take at once is held, so this also bounds the memory of a blocked flow.
    COPY_LIMIT = 16384
    RELAY_BUFFER = 262144       # the engine's one buffer
    TURN_BUDGET = 1048576       # bytes of one flow per turn, so that one bulk flow cannot starve the others

cdef enum FlowStatus:
    FLOW_WAITING                # until a socket is readable or writable again
    FLOW_ENDED                  # FIN read, everything delivered, FIN sent
    FLOW_BUSY                   # the budget of this turn is used up
    FLOW_BROKEN                 # one side reset

cdef FlowStatus relay_flow(Flow* flow, Leg* origin, Leg* target, uint8_t* buffer) noexcept nogil
cdef void flow_free(Flow* flow) noexcept nogil
