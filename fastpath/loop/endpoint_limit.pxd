# The limit of connections to one endpoint.
#
# Rule, as in Envoy's connection pools: who finds an endpoint at its limit of connections waits for one of this worker's
# to end, first come, first served, and is not active but pending meanwhile. A worker without any makes one over the
# limit, since nothing of its own would wake those that wait. A connect that fails takes those that wait with it: they
# have failed as well, and try another endpoint if they may.
#
# What wakes is the queue, never one that stands in it: whoever was woken may have gone before its turn comes.
from eastgate.fastpath.loop.cluster_slots cimport SlotVersion
from eastgate.fastpath.loop.connection cimport Connection, EndpointQueue
from eastgate.fastpath.loop.worker_state cimport Worker

# Whether it may connect; then it is counted as active, and among those of its endpoint if that has a limit.
cdef bint enter_endpoint(Worker* worker, Connection* connection, SlotVersion* version) noexcept nogil
# Have it wait behind the others; False when nobody would hear that its client has gone.
cdef bint wait_for_endpoint(Worker* worker, Connection* connection) noexcept nogil
# Those that wait have failed too.
cdef void fail_waiting(Worker* worker, EndpointQueue* queue, int reason) noexcept nogil
