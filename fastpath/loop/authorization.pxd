# Whether the policies of a chain let a connection in: asked when its client is known, before anything is connected.
from eastgate.fastpath.loop.connection cimport Connection
from eastgate.fastpath.loop.worker_state cimport Worker

# False: it was refused. Asked once; afterwards the connection has no policies any more.
cdef bint authorized(Worker* worker, Connection* connection) noexcept nogil
