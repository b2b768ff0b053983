# The ring of RING_HASH: entries by hash.
from libc.stdint cimport uint32_t, uint64_t

# How many entries the ring of these normalised weights has, and in size[0] Envoy's gauge of the same name.
cdef uint64_t ring_entries(
    const double* weights, uint32_t count, uint64_t minimum, uint64_t maximum, uint64_t* size) noexcept nogil
# Highest bits of a hash that choose where to search in a ring of so many entries.
cdef uint32_t ring_bits(uint64_t entries) noexcept nogil
# Fill hashes[entries] ascending, members[entries] (indices into weights) and starts[2^bits + 1]: the first entry whose
# highest bits are at least that. Keys are text[key_first[i] : key_first[i + 1]]. -1 without memory.
cdef int ring_build(
    uint64_t* hashes, uint32_t* members, uint32_t* starts, uint64_t entries, const double* weights, uint32_t count,
    uint64_t minimum, uint64_t maximum, const char* text, const uint32_t* key_first, bint murmur) noexcept nogil
# Index of the first entry at or behind `hash`, around the end.
cdef uint32_t ring_find(
    const uint64_t* hashes, const uint32_t* starts, uint32_t entries, uint32_t shift, uint64_t hash) noexcept nogil
