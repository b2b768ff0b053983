# Routes of a first HTTP request, compiled: which cluster a connection of an HTTP chain goes to.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from eastgate.fastpath.match.http_head cimport HttpHead

cdef enum HttpChoice:
    HTTP_FOUND                  # `slot` is where it goes
    HTTP_MORE                   # a route asks for a header: the head has to be complete
    HTTP_NOBODY                 # no virtual host takes it, or no route of that
    HTTP_UNKNOWN                # a route asks for what nobody here knows
    HTTP_CLOSED                 # its route or virtual host refuses

cdef struct CompiledHttpRoutes      # opaque; owned by an HttpRoutes

# Where a request goes. `data`: its first bytes, which `head` was read from; of HTTP/2 the authority stands in `head`,
# and of it nothing else is known. `draw` decides between weighted clusters.
cdef HttpChoice choose_http_route(
    const CompiledHttpRoutes* routes, const uint8_t* data, size_t length, const HttpHead* head, uint64_t draw,
    uint32_t* slot
) noexcept nogil

cdef class HttpRoutes:
    cdef CompiledHttpRoutes* compiled
