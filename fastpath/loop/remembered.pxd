# What a client said first, kept for as long as its connection: by it a connection is judged again when what served it
# changes. Of one worker, and one for all connections that said the same: in a mesh few things are said, by many.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from eastgate.fastpath.match.client_hello cimport ClientHello
from eastgate.fastpath.match.facts cimport Facts, Protocols

cdef struct Remembered:
    Remembered* next            # of its bucket
    uint64_t hash
    uint32_t references         # connections of this worker
    uint16_t name_length
    uint16_t alpn_length
    uint8_t is_authority        # of an HTTP request; else the server name and the ALPN offer of a ClientHello
    uint8_t incomplete          # more ALPN values were offered than are kept
    uint8_t bytes[1]            # the name, then the ALPN offer in wire form

# Owned by the worker.
cdef struct Memory:
    Remembered** buckets
    uint32_t bucket_count       # a power of two, or 0
    uint32_t count
    uint64_t seed

# A counted reference, NULL without memory.
cdef Remembered* remember_hello(Memory* memory, const ClientHello* hello) noexcept nogil
cdef Remembered* remember_authority(Memory* memory, const char* authority, uint16_t length) noexcept nogil
# `remembered` may be NULL.
cdef void forget(Memory* memory, Remembered* remembered) noexcept nogil
# The facts of a hello, as they were found at first. `protocols` is written, and belongs to the caller.
cdef void recall_hello(const Remembered* remembered, Protocols* protocols, Facts* facts) noexcept nogil
cdef void memory_free(Memory* memory) noexcept nogil
