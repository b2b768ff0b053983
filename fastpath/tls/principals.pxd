# Names of peers, each kept once for the whole process: who has the pointer has the name. Never freed, and bounded.
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t
from eastgate.fastpath.tls.openssl cimport SSL

cdef struct Principal:
    Principal* next             # of its bucket
    uint32_t length
    char text[256]

# The URI name of the peer's certificate; NULL: none. Past the limit, and for longer ones, one that stands for many.
cdef Principal* principal_of(SSL* ssl) noexcept nogil
cdef Principal* principal_named(const char* text, size_t length) noexcept nogil
# NULL: empty.
cdef str principal_text(Principal* principal)
