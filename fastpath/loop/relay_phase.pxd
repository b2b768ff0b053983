# The relay as a phase: bytes both ways under the budgets of a turn, timers, and how it ends.
from eastgate.fastpath.loop.connection cimport Connection
from eastgate.fastpath.loop.worker_state cimport Worker

# Its upstream is connected: PHASE_RELAY, with nothing moved yet, unless its time is over already.
cdef void begin_relay(Worker* worker, Connection* connection) noexcept nogil
# Something happened to one of its legs, or a budget had stopped it.
cdef void relay(Worker* worker, Connection* connection) noexcept nogil
# Its timer rang.
cdef void relay_timeout(Worker* worker, Connection* connection) noexcept nogil
# Go on with those that a budget stopped in the turn before.
cdef void relay_busy(Worker* worker) noexcept nogil
