# Filter chains of one listener, compiled; see route_nodes.pxd for what the loop asks.
from eastgate.fastpath.match.route_nodes cimport Routes

cdef class RouteTable:
    cdef Routes* routes
    cdef tuple contexts         # these two keep alive what the chains point to
    cdef tuple policies
    cdef object name_nodes      # offsets of tables of exact names
