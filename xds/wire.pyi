from collections.abc import Mapping, Sequence
from typing import Any, final

from .schema import FieldSchema

@final
class Schema:
    """Message tables, compiled for reading. Immutable; one per process is enough."""

    def __init__(
        self, messages: Mapping[str, Sequence[FieldSchema]], enums: Mapping[str, Mapping[int, str]]
    ) -> None: ...
    def read(self, message: str, raw: bytes, /) -> dict[str, Any]:
        """Read a message into plain structures in the shape of protobuf's JSON with the names of the .proto file.

        Differences from that JSON: 64-bit integers are ints; bytes, and fields whose type the schema leaves opaque, are
        bytes; an enum number without a name is an int; an Any of unknown type is {"@type": url, "@value": bytes}. A
        message that holds fields which the schema does not know lists their numbers under "@unknown".

        Raises XdsError(message, "", reason with byte offset) for bytes that are no such message, KeyError for a
        message that is not in the schema.
        """

def unknown_fields(value: Any, /) -> list[str]:
    """Paths of the fields in an answer of read that the schema did not know, as "filters[0].typed_config.#77"."""
