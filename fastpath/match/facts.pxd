# What is known of a connection before it is routed. Filter chains and policies look at this and at nothing else,
# whoever found it out: the socket, netfilter, a PROXY header, a ClientHello or the head of an HTTP request.
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy

cdef enum:
    PROTOCOL_CAPACITY = 64      # application protocols kept (clients offer two to six)
    PROTOCOL_BYTES = 1024

cdef struct Address:
    uint8_t family              # 4, 6, 1 (Unix socket: no bytes kept) or 0 (unknown)
    uint16_t port               # host order
    uint8_t bytes[16]           # network order

# ALPN values in the client's order, or the one value that stands for what an HTTP head shows.
cdef struct Protocols:
    uint16_t count
    uint8_t incomplete          # more were offered than are kept: nothing may be decided by them
    uint8_t length[PROTOCOL_CAPACITY]
    uint16_t offset[PROTOCOL_CAPACITY]
    uint8_t bytes[PROTOCOL_BYTES]

# Texts and protocols belong to whoever found them, and need to live only as long as the question.
cdef struct Facts:
    Address destination         # where the client wanted to go; the port is known even where the address is not
    Address source              # of the client: conveyed by a PROXY header, else of its socket
    Address direct_source       # of the socket, whoever stands in between
    uint8_t tls                 # the client began with a ClientHello
    uint16_t server_name_length     # 0: none, as always without TLS
    uint16_t authority_length       # 0: none
    const char* server_name     # lower case
    const char* authority       # of the first HTTP request
    const Protocols* protocols  # never NULL

# Whether the value at `offered` is this one.
cdef inline bint is_protocol(
    const Protocols* protocols, uint32_t offered, const uint8_t* name, uint32_t length
) noexcept nogil:
    return (
        protocols.length[offered] == length
        and memcmp(protocols.bytes + protocols.offset[offered], name, length) == 0
    )

# Append a value, or note that there was no room for it.
cdef inline void add_protocol(Protocols* protocols, const uint8_t* name, uint32_t length) noexcept nogil:
    cdef uint32_t used = 0
    if protocols.count:
        used = <uint32_t>protocols.offset[protocols.count - 1] + protocols.length[protocols.count - 1]
    if protocols.count == PROTOCOL_CAPACITY or used + length > PROTOCOL_BYTES:
        protocols.incomplete = 1
        return
    memcpy(protocols.bytes + used, name, length)
    protocols.offset[protocols.count] = <uint16_t>used
    protocols.length[protocols.count] = <uint8_t>length
    protocols.count += 1

# Facts as a Python object, for tests and whoever asks what a table would do.
cdef class Observed:
    cdef Facts facts
    cdef Protocols protocols
    cdef bytes server_name
    cdef bytes authority
