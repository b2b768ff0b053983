# Texts as authorization policies ask for them.
from libc.stdint cimport uint8_t, uint32_t
from eastgate.fastpath.match.policy cimport Truth

cdef enum How:
    EXACT
    PREFIX
    SUFFIX
    CONTAINS
    PATTERN

cdef enum:
    # In patterns; bytes stand for themselves.
    ANY_BYTE = 256
    ANY_BYTES = 257

# Does a text match a node of `words`? Its third word is How, the fourth whether cases are one, the fifth the length;
# then a byte a word, in a pattern also ANY_BYTE and ANY_BYTES. Unknown: a pattern, and a text that it cannot judge by
# bytes.
cdef Truth match_text(const uint32_t* node, const uint8_t* text, uint32_t length) noexcept nogil
