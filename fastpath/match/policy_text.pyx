"""Texts that authorization policies ask for: a peer's name or a server name, exact, by its ends, or by a pattern."""
from libc.stdint cimport uint8_t, uint32_t

from eastgate.fastpath.match.policy cimport TRUTH_FALSE, TRUTH_TRUE, TRUTH_UNKNOWN, Truth


cdef inline uint32_t folded(uint8_t byte, bint ignore_case) noexcept nogil:
    return byte | 0x20 if ignore_case and c"A" <= byte <= c"Z" else byte


cdef inline bint same(
    const uint32_t* wanted, const uint8_t* text, uint32_t length, bint ignore_case
) noexcept nogil:
    cdef uint32_t at
    for at in range(length):
        if folded(text[at], ignore_case) != wanted[at]:
            return False
    return True


cdef bint contains(
    const uint32_t* wanted, uint32_t size, const uint8_t* text, uint32_t length, bint ignore_case
) noexcept nogil:
    cdef uint32_t at
    if size > length:
        return False
    for at in range(length - size + 1):
        if same(wanted, text + at, size, ignore_case):
            return True
    return False


cdef bint is_like(const uint32_t* pattern, uint32_t size, const uint8_t* text, uint32_t length) noexcept nogil:
    """Whether the whole text has the shape. What a wildcard took is taken back from the last one only."""
    cdef uint32_t at = 0
    cdef uint32_t step = 0
    cdef uint32_t wildcard = size
    cdef uint32_t taken = 0
    while at < length:
        if step < size and pattern[step] == ANY_BYTES:
            wildcard = step
            taken = at
            step += 1
        elif step < size and (pattern[step] == ANY_BYTE or pattern[step] == text[at]):
            step += 1
            at += 1
        elif wildcard < size:
            taken += 1
            at = taken
            step = wildcard + 1
        else:
            return False
    while step < size and pattern[step] == ANY_BYTES:
        step += 1
    return step == size


cdef Truth match_text(const uint32_t* node, const uint8_t* text, uint32_t length) noexcept nogil:
    cdef uint32_t size = node[4]
    cdef const uint32_t* wanted = node + 5
    cdef bint ignore_case = node[3] != 0
    cdef uint32_t at
    cdef bint found = False
    if node[2] == PATTERN:
        for at in range(length):
            # A dot is a character there, and a byte here; and no dot is a line's end.
            if text[at] >= 0x80 or text[at] == c"\n":
                return TRUTH_UNKNOWN
        found = is_like(wanted, size, text, length)
    elif node[2] == CONTAINS:
        found = contains(wanted, size, text, length, ignore_case)
    elif size <= length:
        if node[2] == EXACT:
            found = size == length and same(wanted, text, size, ignore_case)
        elif node[2] == PREFIX:
            found = same(wanted, text, size, ignore_case)
        else:
            found = same(wanted, text + length - size, size, ignore_case)
    return TRUTH_TRUE if found else TRUTH_FALSE
