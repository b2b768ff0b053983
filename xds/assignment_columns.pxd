# What both native readers of an assignment write into: rows of typed columns. Inline only: there is no module of this
# name.
#
# `Reader` borrows all it points to for one call of assignment.decode_assignment: the message, the columns (inside
# bytes objects that nobody else sees yet) and the table of localities. Functions answer 0, or a negative Fault after
# leaving the place in `fault_at`; none allocates but find_duplicates, which frees what it took.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from eastgate.xds.protobuf cimport Cursor, Span, VARINT, read_tag, read_varint, skip_value

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
    FURTHER_PATH = -19

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
    # Further addresses of endpoints. They are counted; where there are some, the message is read once more, into these.
    uint32_t further_count
    uint32_t* further_first     # by row: where its own begin; NULL: they are counted only
    uint8_t* further_family
    uint8_t* further_address
    uint16_t* further_port


cdef inline int fail(Reader* reader, Cursor where, int fault) noexcept nogil:
    reader.fault_at = where
    return fault


cdef inline int read_wrapped(Reader* reader, Cursor at, Cursor end, uint64_t* value) noexcept nogil:
    """Read a UInt32Value; the caller has set `value` to 0 or to what an earlier occurrence held."""
    cdef uint32_t field = 0, wire_type = 0
    cdef uint64_t number = 0
    cdef Cursor before
    while at < end:
        before = at
        at = read_tag(at, end, &field, &wire_type)
        if at == NULL:
            return fail(reader, before, MALFORMED)
        if field == 1 and wire_type == VARINT:
            at = read_varint(at, end, &number)
            value[0] = <uint32_t> number
        else:
            at = skip_value(at, end, wire_type)
        if at == NULL:
            return fail(reader, before, MALFORMED)
    return 0
