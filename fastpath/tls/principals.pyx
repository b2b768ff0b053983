"""Names of peers (SPIFFE identities), each kept once: counters of a connection are found by comparing pointers.

A mesh has some thousands of them. Workers add what they meet for the first time; nobody takes any away.
"""
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from eastgate.fastpath.posix cimport atomic_add, atomic_load_pointer, atomic_swap_if_pointer
from eastgate.fastpath.tls.handshake cimport peer_uri

cdef enum:
    BUCKETS = 1024
    LIMIT = 10000
    NAME_BYTES = 256

MANY = "many"
"""Stands for all beyond the limit."""

cdef Principal* buckets[1024]
cdef uint32_t known = 0
cdef Principal many
many.next = NULL
many.length = 4
memcpy(many.text, b"many", 4)


cdef inline uint32_t hash_of(const char* text, size_t length) noexcept nogil:
    # FNV-1a.
    cdef uint32_t hash = 2166136261
    cdef size_t at
    for at in range(length):
        hash = (hash ^ <unsigned char>text[at]) * 16777619
    return hash


cdef Principal* found_in(Principal* first, const char* text, size_t length) noexcept nogil:
    while first != NULL and (first.length != length or memcmp(first.text, text, length) != 0):
        first = first.next
    return first


cdef Principal* principal_named(const char* text, size_t length) noexcept nogil:
    cdef void** bucket = <void**>&buckets[hash_of(text, length) % BUCKETS]
    cdef void* first = atomic_load_pointer(bucket)
    cdef Principal* found = found_in(<Principal*>first, text, length)
    cdef Principal* made
    if found != NULL or length == 0:
        return found
    if length > NAME_BYTES or atomic_add(&known, 1) >= LIMIT:
        return &many
    made = <Principal*>malloc(sizeof(Principal))
    if made == NULL:
        return &many
    made.length = <uint32_t>length
    memcpy(made.text, text, length)
    while True:
        made.next = <Principal*>first
        if atomic_swap_if_pointer(bucket, &first, made):
            return made
        # Somebody else was faster, perhaps with the same name.
        found = found_in(<Principal*>first, text, length)
        if found != NULL:
            free(made)
            return found


cdef Principal* principal_of(SSL* ssl) noexcept nogil:
    cdef char text[256]
    return principal_named(text, peer_uri(ssl, text, sizeof(text)))


cdef str principal_text(Principal* principal):
    return "" if principal == NULL else principal.text[:principal.length].decode("ascii", "backslashreplace")


def interned(bytes name not None):
    """The name as it is kept, and where: for tests."""
    cdef Principal* found = principal_named(name, len(name))
    return principal_text(found), <size_t>found
