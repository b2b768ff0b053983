"""The rules of the wire format, one by one."""

import pytest
from eastgate.xds.errors import XdsError
from eastgate.xds.schema import FieldSchema as F
from eastgate.xds.wire import Schema, unknown_fields

from ..support.encoded import field
from .istiod import number_field

SCHEMA = Schema(
    {
        "t.M": (
            F(1, "text", "string"),
            F(2, "number", "uint32"),
            F(3, "numbers", "int32", repeated=True),
            F(4, "inner", "message", "t.M", presence=True),
            F(5, "inners", "message", "t.M", repeated=True),
            F(6, "left", "uint32", oneof="side", presence=True),
            F(7, "right", "message", "t.M", oneof="side", presence=True),
            F(8, "any", "any", presence=True),
            F(9, "wait", "duration", presence=True),
            F(10, "limit", "wrapped uint32", presence=True),
            F(11, "free", "struct", presence=True),
            F(12, "named", "map", "t.M", key="string", value="message"),
            F(13, "kind", "enum", "t.Kind"),
            F(14, "blob", "opaque", presence=True),
            F(15, "signed", "sint64"),
            F(16, "real", "double"),
            F(17, "counts", "map", key="uint32", value="bool"),
            F(18, "small", "float"),
            F(19, "word", "fixed32"),
            F(20, "flag", "wrapped bool", presence=True),
        )
    },
    {"t.Kind": {0: "NONE", 1: "ONE"}},
)


def read(data: bytes) -> dict[str, object]:
    return SCHEMA.read("t.M", data)


def test_defaults_without_presence_are_left_out_and_undo_earlier_values() -> None:
    assert read(number_field(2, 0) + field(1, b"") + number_field(13, 0)) == {}
    assert read(number_field(2, 5) + number_field(2, 0)) == {}
    assert read(number_field(13, 1) + number_field(13, 0)) == {}


def test_last_value_of_a_field_wins() -> None:
    assert read(number_field(2, 1) + number_field(2, 7)) == {"number": 7}


def test_submessages_are_merged() -> None:
    data = field(4, number_field(2, 1) + field(10, number_field(1, 9))) + field(4, field(1, b"a") + field(10, b""))
    assert read(data) == {"inner": {"number": 1, "text": "a", "limit": 9}}


def test_elements_are_appended_packed_or_not() -> None:
    data = number_field(3, 1) + field(3, b"\x02\x03") + number_field(3, 2**64 - 4)
    assert read(data) == {"numbers": [1, 2, 3, -4]}


def test_members_of_a_oneof_exclude_each_other() -> None:
    assert read(number_field(6, 0)) == {"left": 0}
    assert read(number_field(6, 1) + field(7, b"")) == {"right": {}}
    assert read(field(7, number_field(2, 1)) + number_field(6, 2) + field(7, b"")) == {"right": {}}


def test_enums_read_as_names_and_unknown_numbers_as_numbers() -> None:
    assert read(number_field(13, 1)) == {"kind": "ONE"}
    assert read(number_field(13, 77)) == {"kind": 77}


@pytest.mark.parametrize(
    ("seconds", "nanos", "text"),
    [(0, 0, "0s"), (10, 0, "10s"), (1, 500_000_000, "1.500s"), (0, 1, "0.000000001s"), (-1, -5000, "-1.000005s")],
)
def test_durations_read_as_in_json(seconds: int, nanos: int, text: str) -> None:
    payload = number_field(1, seconds % 2**64) + number_field(2, nanos % 2**64)
    assert read(field(9, payload)) == {"wait": text}


@pytest.mark.parametrize(("seconds", "nanos"), [(0, 10**9), (1, -1), (-1, 1), (315_576_000_001, 0)])
def test_impossible_durations_are_malformed(seconds: int, nanos: int) -> None:
    with pytest.raises(XdsError, match="not a valid duration"):
        read(field(9, number_field(1, seconds % 2**64) + number_field(2, nanos % 2**64)))


def test_any_of_known_type_reads_as_its_message() -> None:
    known = field(1, b"type.googleapis.com/t.M") + field(2, number_field(2, 4))
    assert read(field(8, known)) == {"any": {"@type": "type.googleapis.com/t.M", "number": 4}}
    unknown = field(1, b"x/y.Z") + field(2, b"\xff")
    assert read(field(8, unknown)) == {"any": {"@type": "x/y.Z", "@value": b"\xff"}}


def test_struct_reads_as_json() -> None:
    entry = field(1, field(1, b"a") + field(2, field(6, field(1, b"\x11" + bytes(8)) + field(1, b"\x20\x01"))))
    null = field(1, field(1, b"n") + field(2, b"\x08\x00"))
    assert read(field(11, entry + null)) == {"free": {"a": [0.0, True], "n": None}}


def test_last_entry_of_a_map_key_wins_and_missing_parts_are_defaults() -> None:
    data = field(12, field(1, b"k") + field(2, number_field(2, 1))) + field(12, field(1, b"k"))
    assert read(data) == {"named": {"k": {}}}
    assert read(field(17, b"") + field(17, number_field(1, 5) + number_field(2, 1))) == {"counts": {0: False, 5: True}}


def test_fixed_width_and_zigzag_numbers() -> None:
    data = (
        b"\x81\x01"
        + b"\x00" * 6
        + b"\xf8\x3f"
        + number_field(15, 3)
        + b"\x95\x01\x00\x00\x80\x3f\x9d\x01\x01\x00\x00\x80"
    )
    assert read(data) == {"real": 1.5, "signed": -2, "small": 1.0, "word": 0x80000001}


def test_opaque_fields_keep_their_bytes() -> None:
    assert read(field(14, b"\xff\xff")) == {"blob": b"\xff\xff"}


def test_unknown_fields_are_told_apart_with_their_paths() -> None:
    data = field(5, b"") + field(5, number_field(77, 1)) + number_field(99, 1) + field(4, field(88, b""))
    value = read(data)
    assert set(unknown_fields(value)) == {"inners[1].#77", "#99", "inner.#88"}
    assert unknown_fields(read(field(14, b"\xff"))) == []


def test_known_field_with_wrong_wire_type_is_unknown() -> None:
    assert read(field(2, b"ab")) == {"@unknown": [2]}
    assert read(number_field(1, 5)) == {"@unknown": [1]}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x10", "a number is cut off or too long (byte 1)"),
        (b"\x10" + b"\xff" * 11, "a number is cut off or too long (byte 1)"),
        (b"\x0a\x05abc", "a length goes past the end (byte 0)"),
        (b"\x00\x00", "not a field tag (byte 0)"),
        (b"\x0b", "groups are not supported (byte 0)"),
        (b"\x93\x06", "groups are not supported (byte 0)"),
        (b"\x97\x06", "a value is cut off or of no known wire type (byte 0)"),
        (b"\x0a\x01\xff", "text is not UTF-8 (byte 2)"),
        (b"\x22\x02\x10\x80", "a number is cut off or too long (byte 3)"),
    ],
)
def test_malformed_bytes_name_the_place(data: bytes, reason: str) -> None:
    with pytest.raises(XdsError) as caught:
        read(data)
    assert (caught.value.kind, caught.value.reason) == ("M", f"malformed message: {reason}")


@pytest.mark.parametrize("number", [4, 5, 12])
def test_nesting_is_limited(number: int) -> None:
    data = b""
    for _ in range(90):
        data = field(number, field(2, data) if number == 12 else data)
    read(data)
    for _ in range(20):
        data = field(number, field(2, data) if number == 12 else data)
    with pytest.raises(XdsError, match="nested deeper than 100 messages"):
        read(data)


def test_nesting_of_free_form_values_is_limited() -> None:
    data = b""
    for _ in range(200):
        data = field(6, field(1, data))
    with pytest.raises(XdsError, match="nested deeper than 100 messages"):
        read(field(11, field(1, field(2, data))))


def test_many_occurrences_take_linear_time() -> None:
    """A million continuations of one sub-message would take minutes if each were merged for itself."""
    assert read(field(9, number_field(1, 1)) * 1_000_000) == {"wait": "1s"}


def test_unknown_message_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        SCHEMA.read("t.Other", b"")
