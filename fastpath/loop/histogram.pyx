"""Durations by bucket, as Envoy counts them: whole milliseconds, rounded down, the bound included.

Worked example: 0.9 ms is 0 and counts in the first bucket (0.5), 5.4 ms is 5 and counts in that of 5, 6 ms in that of
10, and two hours in the last one, which has no bound.
"""
from libc.stdint cimport uint64_t

from eastgate.fastpath.posix cimport atomic_load64

from typing import NamedTuple

BOUNDS = (0.5, *[BOUNDS_MS[bound] for bound in range(1, BOUND_COUNT)])


class Durations(NamedTuple):
    """Milliseconds: their sum, and how many there are in each bucket; see BOUNDS. The last bucket has no bound."""

    sum_ms: int
    counts: tuple


cdef object durations_of(Histogram* histogram):
    cdef int bucket
    return Durations(
        sum_ms=atomic_load64(&histogram.sum_ms),
        counts=tuple([atomic_load64(&histogram.counts[bucket]) for bucket in range(BUCKET_COUNT)]),
    )


def counted(durations_ns):
    """Durations of these, for tests of the buckets."""
    cdef Histogram histogram
    cdef uint64_t ns
    cdef int bucket
    histogram.sum_ms = 0
    for bucket in range(BUCKET_COUNT):
        histogram.counts[bucket] = 0
    for number, ns in enumerate(durations_ns):
        # Both ways to count say the same.
        if number % 2:
            histogram_add(&histogram, ns)
        else:
            histogram_count(&histogram, ns)
    return durations_of(&histogram)
