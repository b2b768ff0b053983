# From filter chains to the words of a route table; see route_nodes.pxd.
from cpython.array cimport array
from libc.stdint cimport uint32_t, uint64_t

cdef class RouteBuilder:
    cdef readonly list chains           # those that were added, in their order
    cdef readonly array words
    cdef readonly list name_nodes       # offsets of SERVER_NAME nodes
    cdef readonly bint asks_destination
    cdef uint64_t seed
    cdef list criteria                  # of each chain: by level, the values that it takes
    cdef dict nodes                     # (kind, words) -> reference
    cdef dict patterns                  # ((ALPN value, number), ...) -> offset
    cdef dict protocols                 # ALPN value -> offset
    cdef uint32_t groups_made

    cdef uint32_t append(self, object values) except 0
    cdef uint32_t append_bytes(self, bytes data) except 0
    cdef uint32_t node(self, uint32_t kind, tuple content) except 0
    cdef uint32_t protocol(self, str name) except 0
    cdef uint32_t write_ports(self, uint32_t kind, dict references) except 0
    cdef uint32_t write_prefixes(self, uint32_t kind, dict references) except 0
    cdef uint32_t write_protocols(self, dict references) except 0
    cdef uint32_t write_transports(self, dict references)
    cdef uint32_t write_source_types(self, dict references)
    cdef uint32_t write_name(self, str name, uint32_t reference) except 0
    cdef tuple write_table(self, list names)
    cdef uint32_t write_names(self, dict names) except 0
    cdef uint32_t write(self, uint32_t kind, dict references) except? 0xFFFFFFFF
    cdef uint32_t owner(self, list indexes) except? 0xFFFFFFFF
    cdef uint32_t alone(self, uint32_t kind, uint32_t index) except? 0xFFFFFFFF
    cdef uint32_t decide(self, uint32_t kind, list indexes) except? 0xFFFFFFFF
