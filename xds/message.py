"""Read and write the messages of schema.py as plain structures. Reading is native (wire.pyx); requests are written."""

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .schema import ENUMS, MESSAGES, FieldSchema
from .wire import Schema

SCHEMA = Schema(MESSAGES, ENUMS)
read = SCHEMA.read

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
_FIELDS = {message: {field.name: field for field in fields} for message, fields in MESSAGES.items()}
_ENUM_NUMBERS = {enum: {name: number for number, name in members.items()} for enum, members in ENUMS.items()}


def encode(message: str, value: Mapping[str, Any]) -> bytes:
    """Write a message; `value` has the shape that `read` answers. Empty values of fields without presence are left out.

    Raises KeyError for a field or enum name that the schema does not have, ValueError for a value that does not fit.
    """
    fields = _FIELDS[message]
    return b"".join(encode_field(fields[name], content) for name, content in value.items())


def encode_field(field: FieldSchema, content: Any) -> bytes:
    """Write one field of a message; see `encode`."""
    if field.kind == "map":
        key = FieldSchema(1, "key", field.key, presence=True)
        value = FieldSchema(2, "value", field.value, field.type, presence=True)
        entries = (encode_field(key, one) + encode_field(value, another) for one, another in content.items())
        return b"".join(_delimited(field.number, entry) for entry in entries)
    wire_type, write = _writer(field)
    if field.repeated:
        if wire_type == _LENGTH_DELIMITED:
            return b"".join(_delimited(field.number, write(item)) for item in content)
        return _delimited(field.number, b"".join(write(item) for item in content)) if content else b""
    if not field.presence and not content:
        return b""
    if wire_type == _LENGTH_DELIMITED:
        return _delimited(field.number, write(content))
    return _varint(field.number << 3 | wire_type) + write(content)


def _writer(field: FieldSchema) -> tuple[int, Callable[[Any], bytes]]:
    """Wire type and payload writer of one value of the field."""
    kind = field.kind
    if kind in _SCALARS:
        return _SCALARS[kind]
    if kind == "enum":
        numbers = _ENUM_NUMBERS[field.type]
        return _VARINT, lambda name: _varint((name if isinstance(name, int) else numbers[name]) & 0xFFFFFFFFFFFFFFFF)
    if kind == "message":
        return _LENGTH_DELIMITED, lambda value: encode(field.type, value)
    if kind.startswith("wrapped "):
        content = FieldSchema(1, "value", kind.removeprefix("wrapped "))
        return _LENGTH_DELIMITED, lambda value: encode_field(content, value)
    return _LENGTH_DELIMITED, _WELL_KNOWN[kind]


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def _delimited(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(payload)) + payload


def _signed(low: int, high: int) -> Callable[[int], bytes]:
    """Writer of an int in two's complement: negative numbers take ten bytes whatever the field's width."""

    def write(number: int) -> bytes:
        if not low <= number <= high:
            raise ValueError(f"{number} does not fit the field")
        return _varint(number & 0xFFFFFFFFFFFFFFFF)

    return write


def _zigzag(number: int) -> bytes:
    return _varint(number * 2 if number >= 0 else -number * 2 - 1)


def _any(value: Mapping[str, Any]) -> bytes:
    url = value["@type"]
    if "@value" in value:
        payload = value["@value"]
    else:
        payload = encode(url.rpartition("/")[2], {name: item for name, item in value.items() if name != "@type"})
    return _delimited(1, url.encode()) + (_delimited(2, payload) if payload else b"")


def _duration(text: str) -> bytes:
    whole, _, fraction = text.removesuffix("s").partition(".")
    seconds, nanos = int(whole), int(fraction.ljust(9, "0")) if fraction else 0
    nanos = -nanos if whole.startswith("-") else nanos
    parts = ((1, seconds), (2, nanos))
    return b"".join(_varint(field << 3) + _varint(number & 0xFFFFFFFFFFFFFFFF) for field, number in parts if number)


def _struct(value: Mapping[str, Any]) -> bytes:
    return b"".join(
        _delimited(1, _delimited(1, name.encode()) + _delimited(2, _value(item))) for name, item in value.items()
    )


def _list(value: Iterable[Any]) -> bytes:
    return b"".join(_delimited(1, _value(item)) for item in value)


def _value(value: Any) -> bytes:
    """Write a google.protobuf.Value: null 1, number 2, string 3, bool 4, struct 5, list 6."""
    if value is None:
        return b"\x08\x00"
    if isinstance(value, bool):
        return b"\x20\x01" if value else b"\x20\x00"
    if isinstance(value, int | float):
        return b"\x11" + struct.pack("<d", value)
    if isinstance(value, str):
        return _delimited(3, value.encode())
    if isinstance(value, Mapping):
        return _delimited(5, _struct(value))
    return _delimited(6, _list(value))


_SCALARS: dict[str, tuple[int, Callable[[Any], bytes]]] = {
    "bool": (_VARINT, lambda value: b"\x01" if value else b"\x00"),
    "int32": (_VARINT, _signed(-(2**31), 2**31 - 1)),
    "int64": (_VARINT, _signed(-(2**63), 2**63 - 1)),
    "uint32": (_VARINT, _signed(0, 2**32 - 1)),
    "uint64": (_VARINT, _signed(0, 2**64 - 1)),
    "sint32": (_VARINT, _zigzag),
    "sint64": (_VARINT, _zigzag),
    "fixed32": (_FIXED32, struct.Struct("<I").pack),
    "fixed64": (_FIXED64, struct.Struct("<Q").pack),
    "sfixed32": (_FIXED32, struct.Struct("<i").pack),
    "sfixed64": (_FIXED64, struct.Struct("<q").pack),
    "float": (_FIXED32, struct.Struct("<f").pack),
    "double": (_FIXED64, struct.Struct("<d").pack),
    "string": (_LENGTH_DELIMITED, str.encode),
    "bytes": (_LENGTH_DELIMITED, bytes),
    "opaque": (_LENGTH_DELIMITED, bytes),
}
_WELL_KNOWN: dict[str, Callable[[Any], bytes]] = {
    "any": _any,
    "duration": _duration,
    "struct": _struct,
    "value": _value,
    "list": _list,
}
