"""Turn shares into an order of picks that a cursor walks: an exact cycle, or an alias table. Knows no endpoints.

Cycle. When all shares are whole multiples of 1/N for a small N, the cycle has N places and entry i stands in
c = share * N of them, as evenly as whole places allow: at (k + phase) * N / c for k = 0..c-1, sorted. The phase of an
entry is where its middle lies on the cumulative weight of its list, so that equal entries rotate in list order and
lists interleave. Example: shares 0.7 and 0.3, phases 0.35 and 0.85. N = 10; the first stands at 0.5 1.9 3.4 4.8 6.2 7.6
9.1, the other at 2.8 6.2 9.5: a a b a a b a a a b, 7 to 3 in every ten. Two equal entries alternate.

Alias table (Walker, Vose). Cell i of n belongs to i below its threshold and to one other entry above it, so that the
parts of an entry sum to its share. Example: shares 0.5, 0.3, 0.2, times 3 = 1.5, 0.9, 0.6: cell 2 is 0.6 own and 0.4
of entry 0; cell 1 is 0.9 own and 0.1 of entry 0; cell 0 is all own: entry 0 has (1 + 0.4 + 0.1) / 3 = 0.5.
A pick multiplies a 64-bit position by n: the high half is the cell, the next 32 bits are compared with the threshold.
The position is no random number but a Weyl sequence, position += 2^64 / golden ratio: it meets every interval of
length s at least once in 2.62 / s + 1 picks and never strays far from s per pick. So shares are exact to 2^-32, nobody
starves, and runs are shorter than with random numbers.

Where it differs from Envoy: Envoy keeps one deadline heap per list and draws the priority at random, so its order
varies by chance and costs a heap operation. Shares are the same; the order is ours.
"""
from libc.math cimport fabs, floor
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc


cdef uint32_t cycle_length(const double* shares, uint32_t count, uint32_t limit) noexcept nogil:
    """Return the cycle's length, or 0. Costs a few operations per candidate: most fail at their first share."""
    cdef double least = 2.0
    cdef double exact, whole
    cdef uint64_t length, total
    cdef uint32_t entry
    for entry in range(count):
        if 0.0 < shares[entry] < least:
            least = shares[entry]
    if least * limit < 1.0 - 1e-9:
        return 0
    length = <uint64_t>(1.0 / least + 0.5)
    if length == 0:
        length = 1
    while length <= limit:
        total = 0
        for entry in range(count):
            exact = shares[entry] * length
            whole = floor(exact + 0.5)
            # Shares are products and quotients of a few doubles: they are off by some 1e-15, never by 1e-10.
            if fabs(exact - whole) > 1e-10 * length:
                break
            total += <uint64_t>whole
        else:
            if total == length:
                return <uint32_t>length
        length += 1
    return 0


cdef struct Stop:               # of one entry on the cycle
    double at
    uint32_t entry


cdef int cycle_build(
    uint32_t* cycle, uint32_t length, const double* shares, const double* phases, uint32_t count
) noexcept nogil:
    cdef Stop* stops = <Stop*>malloc((length + 1) * sizeof(Stop))
    cdef uint32_t* starts = <uint32_t*>calloc(length + 1, sizeof(uint32_t))
    cdef uint32_t entry, turn, turns, bucket, place, used
    cdef double at
    cdef Stop moving
    if stops == NULL or starts == NULL:
        free(stops)
        free(starts)
        return -1
    # Two passes of a counting sort by whole places, then insertion inside each: stops are spread, so runs are short.
    for entry in range(count):
        turns = <uint32_t>(shares[entry] * length + 0.5)
        for turn in range(turns):
            starts[stop_bucket((turn + phases[entry]) * length / turns, length) + 1] += 1
    for bucket in range(length):
        starts[bucket + 1] += starts[bucket]
    for entry in range(count):
        turns = <uint32_t>(shares[entry] * length + 0.5)
        for turn in range(turns):
            at = (turn + phases[entry]) * length / turns
            place = starts[stop_bucket(at, length)]
            starts[stop_bucket(at, length)] += 1
            stops[place].at = at
            stops[place].entry = entry
    for used in range(1, length):
        moving = stops[used]
        place = used
        while place > 0 and stops[place - 1].at > moving.at:
            stops[place] = stops[place - 1]
            place -= 1
        stops[place] = moving
    for place in range(length):
        cycle[place] = stops[place].entry
    free(stops)
    free(starts)
    return 0


cdef inline uint32_t stop_bucket(double at, uint32_t length) noexcept nogil:
    cdef uint32_t bucket = <uint32_t>at
    return bucket if bucket < length else length - 1


cdef int alias_build(AliasCell* cells, const double* shares, uint32_t count) noexcept nogil:
    # One array holds both work lists: the small from its start, the large from its end.
    cdef double* left = <double*>malloc((count + 1) * sizeof(double))
    cdef uint32_t* work = <uint32_t*>malloc((count + 1) * sizeof(uint32_t))
    cdef uint32_t small = 0
    cdef uint32_t large = count
    cdef uint32_t entry, giver
    cdef uint32_t greatest = 0
    if left == NULL or work == NULL:
        free(left)
        free(work)
        return -1
    for entry in range(count):
        left[entry] = shares[entry] * count
        if shares[entry] > shares[greatest]:
            greatest = entry
        if left[entry] < 1.0:
            work[small] = entry
            small += 1
        else:
            large -= 1
            work[large] = entry
    while small > 0 and large < count:
        small -= 1
        entry = work[small]
        giver = work[large]
        cells[entry].other = giver
        cells[entry].threshold = threshold_of(left[entry], shares[entry])
        left[giver] -= 1.0 - left[entry]
        if left[giver] < 1.0:
            large += 1
            work[small] = giver
            small += 1
    # What rounding leaves over fills its whole cell, or nothing of it when it must never be given.
    while large < count:
        cells[work[large]].other = work[large]
        cells[work[large]].threshold = 0
        large += 1
    while small > 0:
        small -= 1
        entry = work[small]
        cells[entry].other = entry if shares[entry] > 0.0 else greatest
        cells[entry].threshold = 0
    free(left)
    free(work)
    return 0


cdef inline uint32_t threshold_of(double part, double share) noexcept nogil:
    cdef double scaled = floor(part * 4294967296.0 + 0.5)
    if share <= 0.0 or part <= 0.0:
        return 0
    if scaled < 1.0:
        return 1
    return <uint32_t>scaled if scaled < 4294967295.0 else 4294967295u


cdef double* doubles(object values) except NULL:
    cdef double* found = <double*>malloc((len(values) + 1) * sizeof(double))
    cdef uint32_t index
    if found == NULL:
        raise MemoryError
    try:
        for index in range(<uint32_t>len(values)):
            found[index] = values[index]
    except BaseException:
        free(found)
        raise
    return found


def spread(shares, phases, *, limit=256):
    """Return the shortest exact cycle as indices into `shares`, or [] when it takes more than `limit` turns."""
    cdef double* exact = NULL
    cdef double* starts = NULL
    cdef uint32_t* cycle = NULL
    cdef uint32_t length, turn
    if len(shares) != len(phases):
        raise ValueError(f"{len(shares)} shares, {len(phases)} phases")
    try:
        exact = doubles(shares)
        starts = doubles(phases)
        length = cycle_length(exact, len(shares), limit)
        cycle = <uint32_t*>malloc((length + 1) * sizeof(uint32_t))
        if cycle == NULL or cycle_build(cycle, length, exact, starts, len(shares)) < 0:
            raise MemoryError
        return [cycle[turn] for turn in range(length)]
    finally:
        free(exact)
        free(starts)
        free(cycle)


def alias_cells(shares):
    """Return the alias table of `shares`, which sum to 1: (part of 2^32 that is the cell's own, other entry) each."""
    cdef double* exact = NULL
    cdef AliasCell* cells = NULL
    cdef uint32_t index
    try:
        exact = doubles(shares)
        cells = <AliasCell*>calloc(len(shares) + 1, sizeof(AliasCell))
        if cells == NULL or alias_build(cells, exact, len(shares)) < 0:
            raise MemoryError
        return [(cells[index].threshold, cells[index].other) for index in range(<uint32_t>len(shares))]
    finally:
        free(exact)
        free(cells)
