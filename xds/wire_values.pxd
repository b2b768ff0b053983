# What schema-driven reading is made of: fields and messages of a schema, the bytes of one call, and single values.
#
# Values are read from a bytes object that `Source` holds. What cannot be is raised as MalformedError(place, reason).

from libc.stdint cimport int64_t, uint32_t, uint64_t

from eastgate.xds.protobuf cimport Cursor, FIXED32, FIXED64, LENGTH_DELIMITED, VARINT

cdef enum Kind:
    BOOL
    INT32
    INT64
    UINT32
    UINT64
    SINT32
    SINT64
    FIXED32_KIND
    FIXED64_KIND
    SFIXED32
    SFIXED64
    FLOAT
    DOUBLE
    ENUM
    STRING
    BYTES
    # From here on messages: a second occurrence continues the first.
    MESSAGE
    OPAQUE
    ANY
    DURATION
    STRUCT
    VALUE
    LIST
    WRAPPED
    MAP

cdef tuple DEFAULTS             # of scalars, by kind

cdef class Field:
    cdef str name
    cdef int kind
    cdef bint repeated
    cdef bint presence
    cdef Message message
    cdef dict enum_names
    # Names of the other members of its oneof.
    cdef tuple excludes
    # Key and value of a map's entry; the value of a wrapper.
    cdef Field key
    cdef Field value

cdef class Message:
    cdef str name
    # Field by number, None where there is none.
    cdef list fields

cdef class Source:
    cdef bytes raw
    cdef Cursor start
    cdef dict messages


cdef inline uint32_t wire_type_of(int kind) noexcept:
    if kind >= STRING:
        return LENGTH_DELIMITED
    if kind == DOUBLE or kind == FIXED64_KIND or kind == SFIXED64:
        return FIXED64
    if kind == FLOAT or kind == FIXED32_KIND or kind == SFIXED32:
        return FIXED32
    return VARINT


cdef inline Py_ssize_t fixed_size(uint32_t wire_type) noexcept:
    return 8 if wire_type == FIXED64 else 4


cdef object malformed(Source source, Cursor where, str reason)
cdef object read_string(Source source, Cursor start, Cursor end)
# Reads the number at `at` and moves it behind.
cdef object scalar_at(Source source, Field field, Cursor* at, Cursor end, uint32_t wire_type)
cdef int read_packed(Source source, Field field, Cursor at, Cursor end, list into) except -1
cdef Cursor skip_unknown(Source source, Cursor tag_at, Cursor at, Cursor end, uint32_t wire_type) except NULL
# A Duration as protobuf's JSON writes it: seconds with 0, 3, 6 or 9 decimals and an s.
cdef object read_duration(Source source, Cursor at, Cursor end)
