"""What clients said first, each kept once by a worker, for as long as one of its connections said it.

A hello of a mesh is some 80 bytes of names, and the same for all connections to one service: kept by each of them it
would cost a sixth of what an idle connection may.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from eastgate.fastpath.match.client_hello cimport ClientHello, SNI_CAPACITY
from eastgate.fastpath.match.facts cimport Facts, PROTOCOL_BYTES, PROTOCOL_CAPACITY, Protocols, add_protocol
from eastgate.fastpath.match.route_nodes cimport hash_name

cdef enum:
    FIRST_BUCKETS = 64
    MOST_BUCKETS = 65536        # moving so many takes some milliseconds, once
    HELLO_BYTES = SNI_CAPACITY + PROTOCOL_BYTES + PROTOCOL_CAPACITY


cdef bint grow(Memory* memory) noexcept nogil:
    """Whether there are buckets."""
    cdef uint32_t wanted = memory.bucket_count * 2 if memory.bucket_count else FIRST_BUCKETS
    cdef Remembered** buckets
    cdef Remembered* one
    cdef uint32_t bucket, place
    if memory.count < memory.bucket_count or memory.bucket_count == MOST_BUCKETS:
        return True
    buckets = <Remembered**>calloc(wanted, sizeof(Remembered*))
    if buckets == NULL:
        return memory.bucket_count != 0
    for bucket in range(memory.bucket_count):
        while memory.buckets[bucket] != NULL:
            one = memory.buckets[bucket]
            memory.buckets[bucket] = one.next
            place = <uint32_t>one.hash & (wanted - 1)
            one.next = buckets[place]
            buckets[place] = one
    free(memory.buckets)
    memory.buckets = buckets
    memory.bucket_count = wanted
    return True


cdef Remembered* keep(Memory* memory, const Remembered* said, const uint8_t* content) noexcept nogil:
    """`said`: everything but its bytes, which are `content`."""
    cdef size_t length = <size_t>said.name_length + said.alpn_length
    cdef uint64_t hashed = hash_name(<const char*>content, length, memory.seed)
    cdef Remembered* one
    cdef Remembered** bucket
    if not grow(memory):
        return NULL
    bucket = &memory.buckets[<uint32_t>hashed & (memory.bucket_count - 1)]
    one = bucket[0]
    while one != NULL:
        if (
            one.hash == hashed and one.name_length == said.name_length and one.alpn_length == said.alpn_length
            and one.is_authority == said.is_authority and one.incomplete == said.incomplete
            and memcmp(one.bytes, content, length) == 0
        ):
            one.references += 1
            return one
        one = one.next
    one = <Remembered*>malloc(sizeof(Remembered) + length)
    if one == NULL:
        return NULL
    one[0] = said[0]
    memcpy(one.bytes, content, length)
    one.hash = hashed
    one.references = 1
    one.next = bucket[0]
    bucket[0] = one
    memory.count += 1
    return one


cdef Remembered* remember_hello(Memory* memory, const ClientHello* hello) noexcept nogil:
    cdef uint8_t content[HELLO_BYTES]
    cdef const Protocols* protocols = &hello.protocols
    cdef Remembered said
    cdef uint16_t protocol
    cdef uint8_t* at = content + hello.sni_length
    memcpy(content, hello.sni, hello.sni_length)
    for protocol in range(protocols.count):
        at[0] = protocols.length[protocol]
        memcpy(at + 1, protocols.bytes + protocols.offset[protocol], at[0])
        at += 1 + at[0]
    said.name_length = hello.sni_length
    said.alpn_length = <uint16_t>(at - content - hello.sni_length)
    said.is_authority = 0
    said.incomplete = protocols.incomplete
    return keep(memory, &said, content)


cdef Remembered* remember_authority(Memory* memory, const char* authority, uint16_t length) noexcept nogil:
    cdef Remembered said
    said.name_length = length
    said.alpn_length = 0
    said.is_authority = 1
    said.incomplete = 0
    return keep(memory, &said, <const uint8_t*>authority)


cdef void forget(Memory* memory, Remembered* remembered) noexcept nogil:
    cdef Remembered** place
    if remembered == NULL:
        return
    remembered.references -= 1
    if remembered.references:
        return
    place = &memory.buckets[<uint32_t>remembered.hash & (memory.bucket_count - 1)]
    while place[0] != remembered:
        place = &place[0].next
    place[0] = remembered.next
    memory.count -= 1
    free(remembered)


cdef void recall_hello(const Remembered* remembered, Protocols* protocols, Facts* facts) noexcept nogil:
    cdef const uint8_t* at = remembered.bytes + remembered.name_length
    cdef const uint8_t* end = at + remembered.alpn_length
    facts.server_name = <const char*>remembered.bytes
    facts.server_name_length = remembered.name_length
    while at < end:
        add_protocol(protocols, at + 1, at[0])
        at += 1 + at[0]
    protocols.incomplete = remembered.incomplete
    facts.protocols = protocols


cdef void memory_free(Memory* memory) noexcept nogil:
    # Of a worker that has no connection any more: nothing is left in them.
    free(memory.buckets)
    memory.buckets = NULL
    memory.bucket_count = 0
