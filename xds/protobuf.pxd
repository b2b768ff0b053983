# Protobuf's wire format, the part that both native readers share. Inline only: there is no module of this name.
#
# Pointers are borrowed from a bytes object that the caller holds for the whole call. Every function answers NULL (or
# moves nothing) instead of reading at or behind `end`; nothing here allocates, throws or touches a Python object.

from libc.stdint cimport UINT32_MAX, uint32_t, uint64_t

ctypedef const unsigned char* Cursor

cdef struct Span:
    Cursor start
    Cursor end

cdef enum WireType:
    VARINT = 0
    FIXED64 = 1
    LENGTH_DELIMITED = 2
    START_GROUP = 3
    END_GROUP = 4
    FIXED32 = 5


cdef inline Cursor read_long_varint(Cursor at, Cursor end, uint64_t* value) noexcept nogil:
    cdef uint64_t result = 0
    cdef uint64_t byte
    cdef int shift = 0
    while at < end and shift < 70:
        byte = at[0]
        at += 1
        # The tenth byte of a 64-bit varint holds one bit; what protobuf's own readers do with more is to drop it.
        if shift < 64:
            result |= (byte & 0x7F) << shift
        if byte < 0x80:
            value[0] = result
            return at
        shift += 7
    return NULL


cdef inline Cursor read_varint(Cursor at, Cursor end, uint64_t* value) noexcept nogil:
    """Store the number at `at`; return where it ends, NULL when it is cut off or longer than ten bytes."""
    if at < end and at[0] < 0x80:
        value[0] = at[0]
        return at + 1
    return read_long_varint(at, end, value)


cdef inline Cursor read_tag(Cursor at, Cursor end, uint32_t* field, uint32_t* wire_type) noexcept nogil:
    """Store field number and wire type; NULL for a cut or impossible tag (field number 0 or past 2^29-1)."""
    cdef uint64_t tag = 0
    at = read_varint(at, end, &tag)
    if at == NULL or tag > UINT32_MAX or tag < 8:
        return NULL
    field[0] = <uint32_t> (tag >> 3)
    wire_type[0] = <uint32_t> (tag & 7)
    return at


cdef inline Cursor read_span(Cursor at, Cursor end, Cursor* span_end) noexcept nogil:
    """Read a length prefix; return where the payload begins and store where it ends."""
    cdef uint64_t length = 0
    at = read_varint(at, end, &length)
    if at == NULL or length > <uint64_t> (end - at):
        return NULL
    span_end[0] = at + length
    return at


cdef inline Cursor read_payload(Cursor at, Cursor end, Span* span) noexcept nogil:
    """Read a length-delimited value into `span`; return where it ends, NULL when it is cut off."""
    cdef Cursor payload_end = NULL
    at = read_span(at, end, &payload_end)
    if at == NULL:
        return NULL
    span.start = at
    span.end = payload_end
    return payload_end


cdef inline Cursor skip_value(Cursor at, Cursor end, uint32_t wire_type) noexcept nogil:
    """Return where the value ends; NULL when it is cut off or a group."""
    cdef uint64_t ignored = 0
    cdef Cursor span_end = NULL
    if wire_type == VARINT:
        return read_varint(at, end, &ignored)
    if wire_type == LENGTH_DELIMITED:
        return span_end if read_span(at, end, &span_end) != NULL else NULL
    if wire_type == FIXED64:
        return at + 8 if end - at >= 8 else NULL
    if wire_type == FIXED32:
        return at + 4 if end - at >= 4 else NULL
    return NULL
