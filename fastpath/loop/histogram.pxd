# Durations by bucket, with Envoy's bounds. Fixed in size: adding one allocates nothing and looks nothing up.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from eastgate.fastpath.posix cimport atomic_add64, count

cdef extern from *:
    """
    /* Milliseconds. Envoy's first bound is 0.5: of whole milliseconds only 0 is below it. */
    static const uint32_t eg_bounds_ms[] __attribute__((unused)) = {
        0, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000
    };
    /* By binary digits less 1: the bucket of the smallest number that has so many. */
    static const uint8_t eg_first_bucket[] __attribute__((unused)) = {
        1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 11, 12, 13, 14, 15, 15, 15, 16, 17, 18, 19
    };
    #define eg_log2(v) (63 - __builtin_clzll(v))
    """
    const uint32_t* BOUNDS_MS "eg_bounds_ms"
    const uint8_t* FIRST_BUCKET "eg_first_bucket"
    int log2_of "eg_log2"(uint64_t value) nogil

cdef enum:
    BOUND_COUNT = 19
    BUCKET_COUNT = 20           # the last one: longer than any bound
    MILLISECOND_NS = 1000000

cdef struct Histogram:
    uint64_t sum_ms
    uint64_t counts[20]

# Of a millisecond or more.
cdef inline int bucket_of(uint64_t ms) noexcept nogil:
    cdef int bucket = FIRST_BUCKET[min(log2_of(ms), 22)]
    while bucket < BOUND_COUNT and ms > BOUNDS_MS[bucket]:
        bucket += 1
    return bucket

# Of one thread, read by others. Most that is looked at often is shorter than a millisecond.
cdef inline void histogram_count(Histogram* histogram, uint64_t ns) noexcept nogil:
    cdef uint64_t ms
    if ns < MILLISECOND_NS:
        count(&histogram.counts[0], 1)
        return
    ms = ns // MILLISECOND_NS
    count(&histogram.counts[bucket_of(ms)], 1)
    count(&histogram.sum_ms, ms)

# Of several threads.
cdef inline void histogram_add(Histogram* histogram, uint64_t ns) noexcept nogil:
    cdef uint64_t ms
    if ns < MILLISECOND_NS:
        atomic_add64(&histogram.counts[0], 1)
        return
    ms = ns // MILLISECOND_NS
    atomic_add64(&histogram.counts[bucket_of(ms)], 1)
    atomic_add64(&histogram.sum_ms, ms)

# A Durations of what it holds now.
cdef object durations_of(Histogram* histogram)
