"""Distance between server names: insertions, deletions and replacements."""
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp

from eastgate.fastpath.match.client_hello cimport SNI_CAPACITY
from eastgate.fastpath.match.route_nodes cimport PLACE_WORDS, name_length, name_text


cdef uint32_t distance_within(
    const uint8_t* left, uint32_t left_length, const uint8_t* right, uint32_t right_length, uint32_t limit
) noexcept nogil:
    """Insertions, deletions and replacements between two names of at most 255 bytes; limit + 1 when there are more."""
    cdef uint32_t row[SNI_CAPACITY]
    cdef uint32_t at, index, first, last, above, corner, best
    if left_length + limit < right_length or right_length + limit < left_length:
        return limit + 1
    for index in range(right_length + 1):
        row[index] = index
    for at in range(1, left_length + 1):
        # Outside this band more than `limit` insertions are needed.
        first = at - limit if at > limit else 1
        last = at + limit if at + limit < right_length else right_length
        corner = row[first - 1]
        row[first - 1] = at if first == 1 else limit + 1
        best = row[first - 1]
        for index in range(first, last + 1):
            above = row[index] if index < at + limit else limit + 1
            corner += left[at - 1] != right[index - 1]
            if above + 1 < corner:
                corner = above + 1
            if row[index - 1] + 1 < corner:
                corner = row[index - 1] + 1
            row[index], corner = corner, above
            if row[index] < best:
                best = row[index]
        if best > limit:
            return limit + 1
    return row[right_length]


cdef uint32_t nearest_name(
    const uint32_t* words, const uint32_t* table, const uint8_t* text, uint32_t length, uint32_t* limit, uint32_t best
) noexcept nogil:
    cdef const uint32_t* places = words + table[0]
    cdef uint32_t name, distance, shared
    cdef size_t at
    cdef int order
    if table[0] == 0:
        return best
    for at in range(<size_t>table[1] + 1):
        name = places[PLACE_WORDS * at + 1]
        if name == 0 or name_length(words, name) >= SNI_CAPACITY:
            continue
        distance = distance_within(text, length, name_text(words, name), name_length(words, name), limit[0])
        if distance > limit[0]:
            continue
        if best and distance == limit[0]:
            shared = min(name_length(words, best), name_length(words, name))
            order = memcmp(name_text(words, name), name_text(words, best), shared)
            if order > 0 or (order == 0 and name_length(words, name) > shared):
                continue
        limit[0] = distance
        best = name
    return best
