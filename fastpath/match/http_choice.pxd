# Where a first HTTP request goes: compiled routes, and what is asked of them.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from eastgate.fastpath.match.http_head cimport HttpHead

cdef enum HttpChoice:
    HTTP_FOUND                  # `slot` is where it goes
    HTTP_MORE                   # a route asks for a header: the head has to be complete
    HTTP_NOBODY                 # no virtual host takes it, or no route of that
    HTTP_UNKNOWN                # a route asks for what nobody here knows
    HTTP_CLOSED                 # its route or virtual host refuses

cdef enum PathKind:
    PATH_ANY
    PATH_PREFIX
    PATH_EXACT
    PATH_SEPARATED
    PATH_NEVER
    PATH_UNKNOWN

cdef enum HeaderKind:
    HEADER_EXACT
    HEADER_PREFIX
    HEADER_SUFFIX
    HEADER_CONTAINS
    HEADER_PRESENT
    HEADER_UNKNOWN

cdef enum:
    NO_HOST = 0xFFFFFFFF
    KIND_COUNT = 3              # of domains: exact, suffix, prefix

cdef struct Text:
    uint32_t at                 # in `texts`
    uint32_t length

cdef struct Header:
    Text name
    Text text
    uint8_t kind
    uint8_t ignore_case
    uint8_t inverted
    uint8_t missing_is_empty

cdef struct Target:
    uint32_t slot
    uint32_t upper              # running sum of weights

cdef struct Rule:
    Text path
    uint8_t kind
    uint8_t ignore_case
    uint8_t is_known
    uint32_t first_header
    uint32_t header_count
    uint32_t first_target
    uint32_t target_count

cdef struct Host:
    uint32_t first_rule
    uint32_t rule_count
    uint8_t is_closed

cdef struct Domain:
    Text text                   # without its star
    uint32_t host

cdef struct Domains:            # sorted by length, then by bytes
    Domain* items
    uint32_t count

cdef struct CompiledHttpRoutes:      # immutable; owned by an HttpRoutes, which writes it
    uint8_t* texts
    Domains domains[KIND_COUNT]
    Host* hosts
    Rule* rules
    Header* headers
    Target* targets             # in the order of the rules
    uint32_t target_count
    uint32_t any_host           # of "*"
    uint8_t ignores_port
    uint8_t normalizes_path

# All clusters that requests for an authority (lower case) may go to, whatever else they say; all of the table where
# `authority` is NULL.
cdef const Target* http_targets(
    const CompiledHttpRoutes* routes, const uint8_t* authority, uint32_t length, uint32_t* count
) noexcept nogil

# Where a request goes. `data`: its first bytes, which `head` was read from; of HTTP/2 the authority stands in `head`,
# and of it nothing else is known. `draw` decides between weighted clusters.
cdef HttpChoice choose_http_route(
    const CompiledHttpRoutes* routes, const uint8_t* data, size_t length, const HttpHead* head, uint64_t draw,
    uint32_t* slot
) noexcept nogil
