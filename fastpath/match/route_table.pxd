# Filter chains of one listener, compiled; see route_nodes.pxd for what the loop asks.
from eastgate.fastpath.match.route_nodes cimport Routes

cdef class RouteTable:
    cdef Routes* routes
    cdef tuple contexts         # these three keep alive what the chains point to
    cdef tuple policies
    cdef tuple http_routes
    cdef object name_nodes      # offsets of tables of exact names
