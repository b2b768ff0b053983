# ClientHello parser: a pure function over a client's first bytes, called again with more when it asks for them.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from eastgate.fastpath.match.facts cimport Protocols

cdef enum:
    HELLO_LIMIT = 16384         # bytes of records that one hello may take at most; that of Envoy's
    SNI_CAPACITY = 256          # a DNS name has at most 253 octets; longer is malformed

cdef enum HelloStatus:
    HELLO_COMPLETE = 0
    HELLO_NEED_MORE = 1         # `needed` says how many bytes from the start are needed before calling again
    HELLO_NOT_TLS = 2
    HELLO_MALFORMED = 3
    HELLO_OVERSIZE = 4
    HELLO_BAD_SNI = 5           # complete, but the server name is not one

cdef struct ClientHello:
    uint32_t needed                             # with HELLO_NEED_MORE
    uint16_t version                            # legacy_version of the hello
    uint16_t sni_length                         # 0: no server name
    char sni[SNI_CAPACITY]                      # lower case ASCII, NUL terminated
    Protocols protocols                         # ALPN values; those past the capacity are left out, and it says so

# Reads [data, data + length) and nothing else. Never allocates, never throws. `limit`: bytes of records that the hello
# may take, HELLO_LIMIT at most.
cdef HelloStatus parse_client_hello(
    const uint8_t* data, size_t length, uint32_t limit, ClientHello* hello
) noexcept nogil
