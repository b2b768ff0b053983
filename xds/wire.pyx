"""Read protobuf messages into dicts, driven by a schema. Knows no message by itself and decides nothing.

What it guarantees for any bytes: a dict or an XdsError, in time linear in the input, without recursion deeper than
DEPTH_LIMIT. As protobuf: the last value of a field wins, a repeated sub-message continues the first, members of a
oneof exclude each other, packed and unpacked numbers are equal, text is UTF-8. Stricter: groups are an error. A known
field with the wrong wire type counts as unknown. A sub-message that a later member of its oneof replaces is not read.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t

from eastgate.xds.protobuf cimport Cursor, LENGTH_DELIMITED, read_span, read_tag
from eastgate.xds.wire_values cimport (
    ANY, BOOL, BYTES, DEFAULTS, DOUBLE, DURATION, ENUM, FIXED32_KIND, FIXED64_KIND, FLOAT, INT32, INT64, LIST, MAP,
    MESSAGE, OPAQUE, SFIXED32, SFIXED64, SINT32, SINT64, STRING, STRUCT, UINT32, UINT64, VALUE, WRAPPED, Field, Message,
    Source, malformed, read_duration, read_packed, read_string, scalar_at, skip_unknown, wire_type_of,
)

from .errors import XdsError
from .wire_values import MalformedError

cdef enum:
    DEPTH_LIMIT = 100  # protobuf's own default
    FIELD_TABLE_LIMIT = 4096

cdef dict SCALARS = {
    "bool": BOOL, "int32": INT32, "int64": INT64, "uint32": UINT32, "uint64": UINT64, "sint32": SINT32,
    "sint64": SINT64, "fixed32": FIXED32_KIND, "fixed64": FIXED64_KIND, "sfixed32": SFIXED32, "sfixed64": SFIXED64,
    "float": FLOAT, "double": DOUBLE, "enum": ENUM, "string": STRING, "bytes": BYTES,
}
cdef dict KINDS = {
    **SCALARS, "message": MESSAGE, "opaque": OPAQUE, "any": ANY, "duration": DURATION, "struct": STRUCT,
    "value": VALUE, "list": LIST, "map": MAP,
}


@cython.final
@cython.internal
cdef class Spans:
    """Where the occurrences of one sub-message stand: starts and ends, alternating."""

    cdef list places


cdef inline bint may_come_as(Field field, uint32_t wire_type) noexcept:
    """Whether it is its own wire type, or that of packed numbers."""
    return wire_type == wire_type_of(field.kind) or (
        wire_type == LENGTH_DELIMITED and field.repeated and field.kind < STRING
    )


cdef inline void defer(dict into, Field field, Py_ssize_t start, Py_ssize_t end, list deferred):
    """Note where an occurrence of a singular sub-message stands."""
    known = into.get(field.name)
    if type(known) is not Spans:
        known = into[field.name] = Spans.__new__(Spans)
        (<Spans> known).places = []
        deferred.append(field)
    (<Spans> known).places.append(start)
    (<Spans> known).places.append(end)


cdef dict read_message(Source source, Message message, Cursor at, Cursor end, dict into, int depth):
    """Read fields into `into` and return it.

    Singular sub-messages are noted as spans first and read at the end, because protobuf merges two occurrences as if
    their bytes stood one behind the other.
    """
    cdef uint32_t number = 0, wire_type = 0
    cdef Cursor tag_at, payload, payload_end = NULL
    cdef Field field
    cdef list fields = message.fields
    cdef Py_ssize_t field_limit = len(fields)
    cdef list deferred = None
    cdef int kind
    if depth > DEPTH_LIMIT:
        raise malformed(source, at, f"nested deeper than {DEPTH_LIMIT} messages")
    while at < end:
        tag_at = at
        at = read_tag(at, end, &number, &wire_type)
        if at == NULL:
            raise malformed(source, tag_at, "not a field tag")
        field = <Field> fields[number] if number < field_limit else None
        if field is None or not may_come_as(field, wire_type):
            at = skip_unknown(source, tag_at, at, end, wire_type)
            note_unknown(into, number)
            continue
        kind = field.kind
        if field.excludes is not None:
            for other in field.excludes:
                into.pop(other, None)
        if wire_type != LENGTH_DELIMITED:
            value = scalar_at(source, field, &at, end, wire_type)
            if field.repeated:
                repeated_of(into, field.name).append(value)
            else:
                put_scalar(into, field, value)
            continue
        payload = read_span(at, end, &payload_end)
        if payload == NULL:
            raise malformed(source, tag_at, "a length goes past the end")
        at = payload_end
        if kind < STRING:
            read_packed(source, field, payload, payload_end, repeated_of(into, field.name))
        elif kind == MAP:
            read_entry(source, field, number, payload, payload_end, into, depth)
        elif field.repeated:
            repeated_of(into, field.name).append(read_value(source, field, payload, payload_end, depth))
        elif kind == STRING:
            put_scalar(into, field, read_string(source, payload, payload_end))
        elif kind == BYTES:
            put_scalar(into, field, PyBytes_FromStringAndSize(<const char*> payload, payload_end - payload))
        else:
            if deferred is None:
                deferred = []
            defer(into, field, payload - source.start, payload_end - source.start, deferred)
    if deferred is not None:
        for field in deferred:
            spans = into.get(field.name)
            if type(spans) is Spans:
                into[field.name] = read_spans(source, field, (<Spans> spans).places, depth)
    return into


cdef object read_spans(Source source, Field field, list spans, int depth):
    cdef Source joined
    if len(spans) == 2:
        first, last = spans
        return read_value(source, field, source.start + <Py_ssize_t> first, source.start + <Py_ssize_t> last, depth)
    joined = Source(
        b"".join([source.raw[spans[index]:spans[index + 1]] for index in range(0, len(spans), 2)]), source.messages
    )
    try:
        return read_value(joined, field, joined.start, joined.start + len(joined.raw), depth)
    except MalformedError as error:
        # Offsets in the joined bytes mean nothing to the reader of the message: name where the first part begins.
        raise MalformedError(spans[0], error.args[1]) from None


cdef inline void note_unknown(dict into, uint32_t number):
    numbers = into.get("@unknown")
    if numbers is None:
        into["@unknown"] = [number]
    elif number not in numbers and len(numbers) < 16:
        (<list> numbers).append(number)


cdef inline list repeated_of(dict into, str name):
    known = into.get(name)
    if known is None:
        known = into[name] = []
    return <list> known


cdef inline void put_scalar(dict into, Field field, object value):
    # Without presence the default says the same as nothing, so a later default undoes an earlier value.
    if not field.presence and (not value or (field.kind == ENUM and value == field.enum_names.get(0))):
        into.pop(field.name, None)
    else:
        into[field.name] = value


cdef object read_value(Source source, Field field, Cursor at, Cursor end, int depth):
    """Read a length-delimited value: an element of a list, of a map, or a singular field."""
    cdef int kind = field.kind
    if kind == STRING:
        return read_string(source, at, end)
    if kind == BYTES or kind == OPAQUE:
        return PyBytes_FromStringAndSize(<const char*> at, end - at)
    if kind == MESSAGE:
        return read_message(source, field.message, at, end, {}, depth + 1)
    if kind == ANY:
        return read_any(source, at, end, depth + 1)
    if kind == DURATION:
        return read_duration(source, at, end)
    if kind == WRAPPED:
        return read_wrapped(source, field, at, end)
    if kind == STRUCT:
        return read_struct(source, at, end, depth + 1)
    if kind == LIST:
        return read_list(source, at, end, depth + 1)
    return read_json_value(source, at, end, depth + 1)


cdef int read_entry(
    Source source, Field field, uint32_t field_number, Cursor at, Cursor end, dict into, int depth
) except -1:
    """Read one entry of a map field; the last entry of a key wins."""
    cdef uint32_t number = 0, wire_type = 0
    cdef Cursor tag_at, payload, payload_end = NULL
    cdef Field part
    cdef list spans = []
    key = DEFAULTS[field.key.kind]
    value = None
    while at < end:
        tag_at = at
        at = read_tag(at, end, &number, &wire_type)
        if at == NULL:
            raise malformed(source, tag_at, "not a field tag")
        part = field.key if number == 1 else field.value if number == 2 else None
        if part is None or wire_type != wire_type_of(part.kind):
            at = skip_unknown(source, tag_at, at, end, wire_type)
            note_unknown(into, field_number)
            continue
        if wire_type == LENGTH_DELIMITED:
            payload = read_span(at, end, &payload_end)
            if payload == NULL:
                raise malformed(source, tag_at, "a length goes past the end")
            at = payload_end
            if part.kind > BYTES:
                spans.append(payload - source.start)
                spans.append(payload_end - source.start)
                continue
            content = read_value(source, part, payload, payload_end, depth)
        else:
            content = scalar_at(source, part, &at, end, wire_type)
        if number == 1:
            key = content
        else:
            value = content
    if field.value.kind > BYTES:
        value = read_spans(source, field.value, spans or [at - source.start, at - source.start], depth)
    elif value is None:
        value = DEFAULTS[field.value.kind]
        if field.value.kind == ENUM:
            value = field.value.enum_names.get(0, 0)
    known = into.get(field.name)
    if known is None:
        known = into[field.name] = {}
    known[key] = value
    return 0


cdef object read_any(Source source, Cursor at, Cursor end, int depth):
    cdef uint32_t number = 0, wire_type = 0
    cdef Cursor tag_at, payload, payload_end = NULL
    cdef Cursor value = at
    cdef Cursor value_end = at
    cdef Message message
    cdef dict into = {}
    cdef str url = ""
    while at < end:
        tag_at = at
        at = read_tag(at, end, &number, &wire_type)
        if at == NULL:
            raise malformed(source, tag_at, "not a field tag")
        if wire_type != LENGTH_DELIMITED or number > 2:
            at = skip_unknown(source, tag_at, at, end, wire_type)
            note_unknown(into, number)
            continue
        payload = read_span(at, end, &payload_end)
        if payload == NULL:
            raise malformed(source, tag_at, "a length goes past the end")
        at = payload_end
        if number == 1:
            url = read_string(source, payload, payload_end)
        else:
            value = payload
            value_end = payload_end
    into["@type"] = url
    name = url.rpartition("/")[2]
    message = source.messages.get(name)
    if message is None:
        into["@value"] = PyBytes_FromStringAndSize(<const char*> value, value_end - value)
        return into
    return read_message(source, message, value, value_end, into, depth + 1)


cdef object read_wrapped(Source source, Field field, Cursor at, Cursor end):
    """Read BoolValue and its like: field 1, the default when it is absent."""
    cdef uint32_t number = 0, wire_type = 0
    cdef Cursor tag_at, payload, payload_end = NULL
    cdef Field content = field.value
    cdef uint32_t expected = wire_type_of(content.kind)
    value = DEFAULTS[content.kind]
    while at < end:
        tag_at = at
        at = read_tag(at, end, &number, &wire_type)
        if at == NULL:
            raise malformed(source, tag_at, "not a field tag")
        if number != 1 or wire_type != expected:
            at = skip_unknown(source, tag_at, at, end, wire_type)
        elif wire_type == LENGTH_DELIMITED:
            payload = read_span(at, end, &payload_end)
            if payload == NULL:
                raise malformed(source, tag_at, "a length goes past the end")
            at = payload_end
            value = read_value(source, content, payload, payload_end, 0)
        else:
            value = scalar_at(source, content, &at, end, wire_type)
    return value


cdef dict read_struct(Source source, Cursor at, Cursor end, int depth):
    """Read a Struct: field 1 is a map from text to Value."""
    cdef uint32_t number = 0, wire_type = 0
    cdef Cursor tag_at, payload, payload_end = NULL
    cdef dict into = {}
    if depth > DEPTH_LIMIT:
        raise malformed(source, at, f"nested deeper than {DEPTH_LIMIT} messages")
    while at < end:
        tag_at = at
        at = read_tag(at, end, &number, &wire_type)
        if at == NULL:
            raise malformed(source, tag_at, "not a field tag")
        if number == 1 and wire_type == LENGTH_DELIMITED:
            payload = read_span(at, end, &payload_end)
            if payload == NULL:
                raise malformed(source, tag_at, "a length goes past the end")
            at = payload_end
            read_entry(source, STRUCT_FIELDS, 1, payload, payload_end, into, depth)
        else:
            at = skip_unknown(source, tag_at, at, end, wire_type)
    return into.get("fields", {})


cdef list read_list(Source source, Cursor at, Cursor end, int depth):
    cdef uint32_t number = 0, wire_type = 0
    cdef Cursor tag_at, payload, payload_end = NULL
    cdef list into = []
    if depth > DEPTH_LIMIT:
        raise malformed(source, at, f"nested deeper than {DEPTH_LIMIT} messages")
    while at < end:
        tag_at = at
        at = read_tag(at, end, &number, &wire_type)
        if at == NULL:
            raise malformed(source, tag_at, "not a field tag")
        if number == 1 and wire_type == LENGTH_DELIMITED:
            payload = read_span(at, end, &payload_end)
            if payload == NULL:
                raise malformed(source, tag_at, "a length goes past the end")
            at = payload_end
            into.append(read_json_value(source, payload, payload_end, depth + 1))
        else:
            at = skip_unknown(source, tag_at, at, end, wire_type)
    return into


cdef object read_json_value(Source source, Cursor at, Cursor end, int depth):
    """Read a google.protobuf.Value. Its kinds exclude each other; none set reads as None."""
    cdef dict into
    if depth > DEPTH_LIMIT:
        raise malformed(source, at, f"nested deeper than {DEPTH_LIMIT} messages")
    into = read_message(source, VALUE_MESSAGE, at, end, {}, depth)
    into.pop("@unknown", None)
    if "null_value" in into:
        return None
    for value in into.values():
        return value
    return None


cdef Field plain_field(str name, int kind):
    cdef Field field = Field.__new__(Field)
    field.name = name
    field.kind = kind
    field.presence = True
    return field


cdef Field value_map():
    cdef Field field = plain_field("fields", MAP)
    field.key = plain_field("key", STRING)
    field.value = plain_field("value", VALUE)
    return field


cdef Message value_message():
    cdef Message message = Message.__new__(Message)
    cdef Field field
    cdef list fields = [
        plain_field("null_value", INT32), plain_field("number_value", DOUBLE), plain_field("string_value", STRING),
        plain_field("bool_value", BOOL), plain_field("struct_value", STRUCT), plain_field("list_value", LIST),
    ]
    for field in fields:
        field.excludes = tuple([(<Field> other).name for other in fields if other is not field])
    message.name = "google.protobuf.Value"
    message.fields = [None, *fields]
    return message


cdef Field STRUCT_FIELDS = value_map()
cdef Message VALUE_MESSAGE = value_message()


@cython.final
cdef class Schema:
    """Message tables, compiled for reading. Immutable."""

    cdef dict messages

    def __init__(self, messages, enums):
        cdef Message message
        cdef Field field
        self.messages = {}
        for name in messages:
            message = Message.__new__(Message)
            message.name = name
            self.messages[name] = message
        for name, rows in messages.items():
            message = self.messages[name]
            limit = max([row.number for row in rows], default=0) + 1
            if limit > FIELD_TABLE_LIMIT:
                raise ValueError(f"{name}: field numbers above {FIELD_TABLE_LIMIT} are not supported")
            message.fields = [None] * limit
            for row in rows:
                field = self.field(row.name, row.kind, row.type, enums)
                field.repeated = row.repeated
                field.presence = row.presence
                if row.oneof:
                    others = tuple([one.name for one in rows if one.oneof == row.oneof and one.name != row.name])
                    field.excludes = others or None
                if field.kind == MAP:
                    field.key = self.field("key", row.key, "", enums)
                    field.value = self.field("value", row.value, row.type, enums)
                message.fields[row.number] = field

    cdef Field field(self, str name, str kind, str type_name, enums):
        cdef Field field = plain_field(name, WRAPPED if kind.startswith("wrapped ") else KINDS[kind])
        if field.kind == WRAPPED:
            field.value = plain_field("value", SCALARS[kind.removeprefix("wrapped ")])
        elif field.kind == MESSAGE:
            field.message = self.messages[type_name]
        elif field.kind == ENUM:
            field.enum_names = dict(enums[type_name])
        return field

    def read(self, str message, bytes raw, /):
        """Read a message into plain structures. Raises XdsError for bytes that are no such message."""
        cdef Source source = Source(raw, self.messages)
        cdef Message root = self.messages[message]
        try:
            return read_message(source, root, source.start, source.start + PyBytes_GET_SIZE(raw), {}, 0)
        except MalformedError as error:
            place, reason = error.args
            raise XdsError(
                message.rpartition(".")[2], "", f"malformed message: {reason} (byte {place})", malformed=True
            ) from None

    def __reduce__(self):
        raise TypeError("a Schema cannot be pickled")


cdef void collect_unknown(object value, str path, list into):
    if type(value) is dict:
        for key, inner in (<dict> value).items():
            if key == "@unknown":
                into.extend([f"{path}#{number}" for number in inner])
            elif type(inner) is dict or type(inner) is list:
                collect_unknown(inner, f"{path}{key}" if type(inner) is list else f"{path}{key}.", into)
    elif type(value) is list:
        for index, inner in enumerate(<list> value):
            if type(inner) is dict:
                collect_unknown(inner, f"{path}[{index}].", into)


def unknown_fields(value, /):
    """Paths of fields that the schema did not know."""
    cdef list into = []
    collect_unknown(value, "", into)
    return into
