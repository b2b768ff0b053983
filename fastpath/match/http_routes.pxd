# Virtual hosts and routes, compiled: owner of what a first HTTP request is matched with.
from eastgate.fastpath.match.http_choice cimport CompiledHttpRoutes

cdef class HttpRoutes:
    cdef CompiledHttpRoutes* compiled
