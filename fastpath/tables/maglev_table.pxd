# The table of MAGLEV: an endpoint for each of a prime number of places.
from libc.stdint cimport uint32_t, uint64_t

cdef bint is_prime(uint64_t number) noexcept nogil
# Fill places[size] with indices into weights. Keys are text[key_first[i] : key_first[i + 1]]. -1 without memory.
cdef int maglev_build(
    uint32_t* places, uint32_t size, const double* weights, uint32_t count, const char* text,
    const uint32_t* key_first) noexcept nogil
