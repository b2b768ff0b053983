# The native half of the assignment reader: bytes of a ClusterLoadAssignment to rows of typed columns.
#
# `Reader` borrows all it points to for one call of assignment.decode_assignment: the message, the columns (inside
# bytes objects that nobody else sees yet) and the table of localities. Functions answer 0, or a negative Fault after
# leaving the place in `fault_at`; none allocates but find_duplicates, which frees what it took.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from eastgate.xds.protobuf cimport Cursor, Span

cdef enum Fault:
    MALFORMED = -1
    NOT_AN_ADDRESS = -2
    EMPTY_ADDRESS = -3
    NAMED_PORT = -4
    NO_PORT = -5
    BAD_PORT = -6
    NOT_TCP = -7
    INTERNAL_ADDRESS = -8
    NO_ADDRESS = -9
    BAD_HEALTH = -10
    ZERO_WEIGHT = -11
    BAD_PRIORITY = -12
    ZERO_LOCALITY_WEIGHT = -13
    LEDS = -14
    BAD_DURATION = -15
    ZERO_FACTOR = -16
    EMPTY_PATH = -17
    BAD_PATH = -18

cdef enum:
    FAMILY_UNIX = 1
    FAMILY_IPV4 = 4
    FAMILY_IPV6 = 6
    HEALTH_LAST = 5  # HealthStatus.DEGRADED
    PRIORITY_LAST = 127
    FLAG_TLS_MODE_ISTIO = 1
    FLAG_OWN_HEALTH_CHECK = 2
    LOCALITY_LIMIT = 65536
    PATH_LIMIT = 107  # what sockaddr_un holds beside its terminator

cdef struct LocalityEndpoints:
    uint8_t has_locality
    uint8_t has_weight
    uint8_t has_leds
    uint64_t weight
    uint64_t priority
    Span region
    Span zone
    Span sub_zone
    # First row and one past the last row of its endpoints.
    Py_ssize_t first
    Py_ssize_t last

cdef struct Reader:
    Cursor start
    Cursor fault_at
    Span fault_text
    Py_ssize_t row
    Py_ssize_t locality_row
    LocalityEndpoints* localities
    uint8_t* family
    uint8_t* address
    uint16_t* port
    uint32_t* weight
    uint8_t* health
    uint8_t* priority
    uint16_t* locality
    uint8_t* flags
    Span cluster_name
    uint8_t has_factor
    uint64_t factor
    uint64_t weighted_priority_health
    uint8_t has_stale_after
    int64_t stale_after_s
    int64_t stale_after_ns

# First pass: how many LocalityLbEndpoints and LbEndpoints there are.
cdef int count_rows(
    Reader* reader, Cursor at, Cursor end, Py_ssize_t* endpoints, Py_ssize_t* localities
) noexcept nogil
# Second pass: fills the columns, except for the locality index, and the table of localities.
cdef int read_assignment(Reader* reader, Cursor at, Cursor end) noexcept nogil
# Marks rows whose (family, address, port) an earlier row has; answers how many, or -1 without memory.
cdef Py_ssize_t find_duplicates(Reader* reader, Py_ssize_t count, uint8_t* duplicate) noexcept nogil
# Closes the gaps that marked rows leave.
cdef void drop_rows(Reader* reader, Py_ssize_t count, const uint8_t* duplicate) noexcept nogil
