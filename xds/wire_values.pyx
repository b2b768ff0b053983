"""Read the single values of protobuf messages: numbers, texts, durations. Knows no message; see the .pxd."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from eastgate.xds.protobuf cimport (
    Cursor, END_GROUP, START_GROUP, VARINT, read_tag, read_varint, skip_value,
)

cdef tuple DEFAULTS = (False, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0, "", b"")


class MalformedError(Exception):
    """Raised by both readers with (place, reason); Schema.read turns it into an XdsError."""


@cython.final
@cython.auto_pickle(False)
cdef class Field:
    """One field of a message of a schema."""


@cython.final
@cython.auto_pickle(False)
cdef class Message:
    """One message of a schema."""


@cython.final
@cython.auto_pickle(False)
cdef class Source:
    """The bytes of one read call, and where the Anys in it may go for their types."""

    def __cinit__(self, bytes raw, dict messages):
        self.raw = raw
        self.start = <Cursor> PyBytes_AS_STRING(raw)
        self.messages = messages


cdef object malformed(Source source, Cursor where, str reason):
    return MalformedError(where - source.start, reason)


cdef object read_string(Source source, Cursor start, Cursor end):
    try:
        return PyUnicode_DecodeUTF8(<const char*> start, end - start, NULL)
    except UnicodeDecodeError:
        raise malformed(source, start, "text is not UTF-8") from None


cdef object number_of(Field field, uint64_t raw):
    """Turn a varint into the value of a scalar field."""
    cdef int kind = field.kind
    if kind == BOOL:
        return raw != 0
    if kind == UINT32:
        return <uint32_t> raw
    if kind == INT32:
        return <int32_t> <uint32_t> raw
    if kind == ENUM:
        number = <int32_t> <uint32_t> raw
        return field.enum_names.get(number, number)
    if kind == UINT64:
        return raw
    if kind == INT64:
        return <int64_t> raw
    if kind == SINT32:
        raw = <uint32_t> raw
        return <int32_t> <uint32_t> ((raw >> 1) ^ (0 - (raw & 1)))
    return <int64_t> ((raw >> 1) ^ (0 - (raw & 1)))


cdef object fixed_of(int kind, Cursor at):
    # memcpy reads in host order, protobuf is little-endian: so are the platforms that eastgate builds for.
    cdef uint32_t bits32
    cdef uint64_t bits64
    cdef float single
    cdef double number
    if kind == FLOAT:
        memcpy(&single, at, 4)
        return <double> single
    if kind == DOUBLE:
        memcpy(&number, at, 8)
        return number
    if kind == FIXED32_KIND or kind == SFIXED32:
        memcpy(&bits32, at, 4)
        return bits32 if kind == FIXED32_KIND else <int32_t> bits32
    memcpy(&bits64, at, 8)
    return bits64 if kind == FIXED64_KIND else <int64_t> bits64


cdef object scalar_at(Source source, Field field, Cursor* at, Cursor end, uint32_t wire_type):
    """Read the number at `at` and move it behind; raises when it is cut off."""
    cdef uint64_t raw = 0
    cdef Cursor start = at[0]
    if wire_type == VARINT:
        at[0] = read_varint(start, end, &raw)
        if at[0] == NULL:
            raise malformed(source, start, "a number is cut off or too long")
        return number_of(field, raw)
    if end - start < fixed_size(wire_type):
        raise malformed(source, start, "a number is cut off")
    at[0] = start + fixed_size(wire_type)
    return fixed_of(field.kind, start)


cdef int read_packed(Source source, Field field, Cursor at, Cursor end, list into) except -1:
    cdef uint32_t wire_type = wire_type_of(field.kind)
    while at < end:
        into.append(scalar_at(source, field, &at, end, wire_type))
    return 0


cdef Cursor skip_unknown(Source source, Cursor tag_at, Cursor at, Cursor end, uint32_t wire_type) except NULL:
    cdef Cursor after
    if wire_type == START_GROUP or wire_type == END_GROUP:
        raise malformed(source, tag_at, "groups are not supported")
    after = skip_value(at, end, wire_type)
    if after == NULL:
        raise malformed(source, tag_at, "a value is cut off or of no known wire type")
    return after


cdef object read_duration(Source source, Cursor at, Cursor end):
    """A Duration as protobuf's JSON writes it: seconds with 0, 3, 6 or 9 decimals and an s."""
    cdef Cursor start = at
    cdef int64_t numbers[2]
    cdef int64_t seconds, nanos
    read_numbers(source, at, end, numbers)
    seconds = numbers[0]
    nanos = <int32_t> <uint32_t> numbers[1]
    if (
        seconds > 315_576_000_000 or seconds < -315_576_000_000 or nanos > 999_999_999 or nanos < -999_999_999
        or (seconds > 0 and nanos < 0) or (seconds < 0 and nanos > 0)
    ):
        raise malformed(source, start, "not a valid duration")
    if nanos == 0:
        return f"{seconds}s"
    sign = "-" if seconds < 0 or nanos < 0 else ""
    fraction = f"{abs(nanos):09d}"
    while fraction.endswith("000"):
        fraction = fraction.removesuffix("000")
    return f"{sign}{abs(seconds)}.{fraction}s"


cdef int read_numbers(Source source, Cursor at, Cursor end, int64_t* numbers) except -1:
    """Read the two varint fields 1 and 2; unknown fields are passed over."""
    cdef uint32_t number = 0, wire_type = 0
    cdef Cursor tag_at
    cdef uint64_t raw = 0
    numbers[0] = 0
    numbers[1] = 0
    while at < end:
        tag_at = at
        at = read_tag(at, end, &number, &wire_type)
        if at == NULL:
            raise malformed(source, tag_at, "not a field tag")
        if wire_type == VARINT and number <= 2:
            at = read_varint(at, end, &raw)
            if at == NULL:
                raise malformed(source, tag_at, "a number is cut off or too long")
            numbers[number - 1] = <int64_t> raw
        else:
            at = skip_unknown(source, tag_at, at, end, wire_type)
    return 0
