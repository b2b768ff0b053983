# PROXY protocol header (v1 text, v2 binary) in front of a connection. Specification: haproxy doc/proxy-protocol.txt.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef enum:
    PROXY_HEADER_LIMIT = 65551  # bytes of header: 16, and as many as version 2 can say

cdef enum ProxyHeaderStatus:
    PROXY_COMPLETE = 0
    PROXY_NEED_MORE = 1
    PROXY_MALFORMED = 2
    PROXY_ABSENT = 3            # the client sends none, and need not

# What a listener takes, as bits. Without a version nothing is a header.
cdef enum ProxyHeaderKind:
    PROXY_VERSION_1 = 1
    PROXY_VERSION_2 = 2
    PROXY_OPTIONAL = 4

# What a connection began with, as Envoy counts it.
cdef enum ProxyOutcome:
    PROXY_NOT_FOUND_ALLOWED
    PROXY_NOT_FOUND_DISALLOWED
    PROXY_V1_FOUND
    PROXY_V1_DISALLOWED         # a header of a version that is not taken
    PROXY_V1_ERROR
    PROXY_V2_FOUND
    PROXY_V2_DISALLOWED
    PROXY_V2_ERROR
    PROXY_OUTCOMES

cdef struct ProxyHeader:
    uint32_t needed             # with PROXY_NEED_MORE: bytes from the start
    uint32_t header_length      # with PROXY_COMPLETE: bytes to consume
    uint8_t family              # 4, 6, or 0 when the header conveys no address (LOCAL, UNKNOWN)
    uint8_t source[16]          # network order; the first 4 bytes for family 4
    uint8_t destination[16]
    uint16_t source_port        # host order
    uint16_t destination_port

# `kinds`: bits of ProxyHeaderKind.
cdef ProxyHeaderStatus parse_proxy_header(
    const uint8_t* data, size_t length, int kinds, ProxyHeader* header
) noexcept nogil

# Of the same bytes, with what that answered but for PROXY_NEED_MORE.
cdef ProxyOutcome proxy_outcome(
    ProxyHeaderStatus status, const uint8_t* data, size_t length, int kinds
) noexcept nogil

# Those bits for versions 1 and 2; ValueError for others, and for none.
cdef int proxy_header_kinds(object versions, bint optional) except -1
