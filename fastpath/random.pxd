# The generator of the data side: wyrand, 64 bits of state, one multiplication a draw. Not for secrets.
#
# Rule: state += 0xa0761d6478bd642f; product = state * (state ^ 0xe7037ed1a0b428db) in 128 bits; draw = high ^ low.
# Every seed is a good one, neighbours included, once it went through mix_seed.
from libc.stdint cimport uint32_t, uint64_t

cdef extern from *:
    """
    static inline uint64_t eg_multiply_high(uint64_t a, uint64_t b)
    {
        return (uint64_t)(((unsigned __int128)a * b) >> 64);
    }
    static inline uint64_t eg_fold(uint64_t a, uint64_t b)
    {
        unsigned __int128 product = (unsigned __int128)a * b;
        return (uint64_t)(product >> 64) ^ (uint64_t)product;
    }
    """
    uint64_t multiply_high "eg_multiply_high"(uint64_t a, uint64_t b) nogil
    # High and low half of the 128-bit product, XORed: also the mixing step of hashes.
    uint64_t fold "eg_fold"(uint64_t a, uint64_t b) nogil


cdef inline uint64_t next_random(uint64_t* state) noexcept nogil:
    state[0] += <uint64_t>0xa0761d6478bd642f
    return fold(state[0], state[0] ^ <uint64_t>0xe7037ed1a0b428db)


cdef inline uint64_t mix_seed(uint64_t seed) noexcept nogil:
    # The finaliser of splitmix64: seeds 0, 1, 2 give unrelated states.
    seed += <uint64_t>0x9e3779b97f4a7c15
    seed = (seed ^ (seed >> 30)) * <uint64_t>0xbf58476d1ce4e5b9
    seed = (seed ^ (seed >> 27)) * <uint64_t>0x94d049bb133111eb
    return seed ^ (seed >> 31)


cdef inline double unit_random(uint64_t* state) noexcept nogil:
    # In [0, 1), 53 bits.
    return <double>(next_random(state) >> 11) * (1.0 / 9007199254740992.0)


cdef inline uint32_t scale_random(uint32_t draw, uint32_t count) noexcept nogil:
    # A 32-bit draw to 0..count-1; the unevenness is below count / 2^32.
    return <uint32_t>((<uint64_t>draw * count) >> 32)
