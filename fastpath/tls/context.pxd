# A context as a Python object, for whoever builds and publishes it.
from eastgate.fastpath.tls.handshake cimport TlsContext

cdef class Context:
    cdef TlsContext* context    # a counted reference
