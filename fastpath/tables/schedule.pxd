# Orders of picks: a cycle with exact counts, or an alias table for any shares.
from libc.stdint cimport uint32_t, uint64_t

cdef struct AliasCell:
    uint32_t threshold          # below it (of 2^32): the cell's own number; else `other`
    uint32_t other

# Fewest turns in which every share comes out as a whole number of picks; 0 when that takes more than `limit`.
cdef uint32_t cycle_length(const double* shares, uint32_t count, uint32_t limit) noexcept nogil
# Fill cycle[length] with indices into `shares`, evenly spread. phases[i] in [0, 1): where in its own interval an entry
# comes first. Returns -1 when memory is short.
cdef int cycle_build(
    uint32_t* cycle, uint32_t length, const double* shares, const double* phases, uint32_t count) noexcept nogil
# One cell a share; shares sum to 1, those that are 0 are never given. Returns -1 when memory is short.
cdef int alias_build(AliasCell* cells, const double* shares, uint32_t count) noexcept nogil

cdef extern from *:
    """
    #include <stdint.h>
    /* The golden ratio's fraction of 2^64, odd: successive positions spread as evenly as any sequence can. */
    #define EG_GOLDEN 0x9e3779b97f4a7c15u
    #if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    #define EG_CELL_THRESHOLD(cell) ((uint32_t)(cell))
    #define EG_CELL_OTHER(cell) ((uint32_t)((cell) >> 32))
    #else
    #define EG_CELL_THRESHOLD(cell) ((uint32_t)((cell) >> 32))
    #define EG_CELL_OTHER(cell) ((uint32_t)(cell))
    #endif
    static inline uint32_t eg_alias_at(const void* cells, uint32_t count, uint64_t position)
    {
        unsigned __int128 scaled = (unsigned __int128)position * count;
        uint64_t own = (uint64_t)(scaled >> 64);
        uint64_t fraction = (uint64_t)scaled >> 32;
        /* One load for both halves of an AliasCell. */
        uint64_t cell;
        __builtin_memcpy(&cell, (const char*)cells + 8 * own, 8);
        uint32_t threshold = EG_CELL_THRESHOLD(cell), other = EG_CELL_OTHER(cell);
        /* A mask, not a branch: which side it is cannot be predicted. */
        uint32_t below = (uint32_t)((int64_t)(fraction - threshold) >> 63);
        return other ^ (((uint32_t)own ^ other) & below);
    }
    """
    uint64_t GOLDEN "EG_GOLDEN"
    uint32_t alias_at "eg_alias_at"(const void* cells, uint32_t count, uint64_t position) nogil
