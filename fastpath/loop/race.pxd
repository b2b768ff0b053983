# Sockets to the addresses of one endpoint. An endpoint with one address has no race: that is all that most ever need.
# Of one with several the first address that is connected wins; see race.pyx.
from libc.stdint cimport int32_t
from eastgate.fastpath.loop.cluster_slots cimport SlotVersion
from eastgate.fastpath.loop.connection cimport Connection, Race
from eastgate.fastpath.loop.leg cimport Leg
from eastgate.fastpath.loop.worker_state cimport Worker
from eastgate.fastpath.posix cimport epoll_event
from eastgate.fastpath.tables.picker cimport EndpointAddress
from eastgate.fastpath.tls.handshake cimport TlsContext

# Begin to connect a leg, and watch it: 0, or the Reason why it is not under way; then the caller closes it. `early`:
# bytes will be sent as soon as it is connected.
cdef int connect_leg(
    Worker* worker, Leg* leg, const SlotVersion* version, const EndpointAddress* address, bint early) noexcept nogil

# Begin to connect to an endpoint with several addresses: 0 when some attempt is under way, the timer included, else the
# Reason why none is. `context`: what the connection will be secured with; NULL: nothing.
cdef int race_begin(
    Worker* worker, Connection* connection, const SlotVersion* version, int32_t endpoint, TlsContext* context
) noexcept nogil
# Something happened to one of the legs. The connection whose `up` is now the leg that won, or failed last: it goes on
# from there. NULL: nothing is decided.
cdef Connection* race_event(Worker* worker, Leg* leg, const epoll_event* event) noexcept nogil
# Its time is over: False when it was that of the whole connect, and not that of the newest attempt alone.
cdef bint race_timeout(Worker* worker, Connection* connection) noexcept nogil
# What was connected failed before a byte was sent. True when another address is tried instead.
cdef bint race_resumes(Worker* worker, Connection* connection) noexcept nogil
# Close what is left of it. Its memory stays until the turn ends: events may still name it.
cdef void race_end(Worker* worker, Connection* connection) noexcept nogil
cdef void free_races(Worker* worker) noexcept nogil
