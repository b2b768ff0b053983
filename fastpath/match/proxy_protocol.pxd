# PROXY protocol header (v1 text, v2 binary) in front of a connection. Specification: haproxy doc/proxy-protocol.txt.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef enum:
    PROXY_HEADER_LIMIT = 4096   # bytes of header that we accept (v1 needs 107, v2 with TLVs rarely 300)

cdef enum ProxyHeaderStatus:
    PROXY_COMPLETE = 0
    PROXY_NEED_MORE = 1
    PROXY_MALFORMED = 2

cdef struct ProxyHeader:
    uint32_t needed             # with PROXY_NEED_MORE: bytes from the start
    uint32_t header_length      # with PROXY_COMPLETE: bytes to consume
    uint8_t family              # 4, 6, or 0 when the header conveys no address (LOCAL, UNKNOWN)
    uint8_t source[16]          # network order; the first 4 bytes for family 4
    uint8_t destination[16]
    uint16_t source_port        # host order
    uint16_t destination_port

cdef ProxyHeaderStatus parse_proxy_header(const uint8_t* data, size_t length, ProxyHeader* header) noexcept nogil
