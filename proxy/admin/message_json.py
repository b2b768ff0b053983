"""xDS resources as complete JSON, in a process of its own: all of Envoy's message types cost 0.5 s and 60 MB to load.

Run as ``python -m eastgate.proxy.admin.message_json``. Questions on stdin and answers on stdout have the same frame: 4
bytes of length, big-endian, and the payload. A question is a type URL, a zero byte and the bytes of a resource; its
answer is the JSON text, indented for its place in a dump. Answers come in the order of the questions, after an empty
one that says that the process has started. Without envoy-data-plane, and for bytes that cannot be read, the answer
holds what eastgate itself reads.

The types come from envoy-data-plane; the bytes are read by the native reader, which takes 20 us for a cluster where the
package's own classes take 4 ms.
"""

import base64
import json
import math
import os
import re
import struct
import sys
import warnings
from contextlib import suppress
from importlib import import_module
from typing import Any

from eastgate.proxy.sensitive import ALL, NAMES, STRUCTS
from eastgate.proxy.sensitive_paths import PATHS
from eastgate.xds.decode import EDS
from eastgate.xds.errors import XdsError
from eastgate.xds.generate_schema import API, WELL_KNOWN, Generator
from eastgate.xds.schema import FieldSchema
from eastgate.xds.wire import Schema, unknown_fields

from . import dumps
from .frames import framed, frames

# How deep a resource stands in a dump: indented here, since copying a listener of 3 MB holds up a loop.
DEPTH = 4
# Whatever is packed in an Any lies verbatim in the bytes around it.
PACKED = re.compile(rb"type\.googleapis\.com/((?:[a-z][a-z0-9_]*\.)+[A-Z]\w*)")
# What the package lacks: both names of the message by which istiod configures extensions of Istio's own.
TYPED_STRUCT = (FieldSchema(1, "type_url", "string"), FieldSchema(2, "value", "struct", presence=True))
LACKING = {"udpa.type.v1.TypedStruct": TYPED_STRUCT, "xds.type.v3.TypedStruct": TYPED_STRUCT}
NONE: frozenset[str] = frozenset()
REDACTED = "[redacted]"
LONG = {"int64", "uint64", "sint64", "fixed64", "sfixed64"}


class AllMessages(Generator):
    """Tables of whatever messages are asked for, with all that they refer to."""

    def __init__(self) -> None:
        # Not the parent's: it loads what a proxy honours, and keeps the rest opaque.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._pool = import_module(f"{API}.message_pool").default_message_pool
        self.classes: dict[str, Any] = {}
        self.enums: dict[str, dict[int, str]] = {}
        self.tables: dict[str, tuple[FieldSchema, ...]] = dict(LACKING)
        self._new: list[str] = []

    def add(self, name: str) -> None:
        """Take up a message by its full name, if the package knows it."""
        with suppress(ImportError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module(f"{API}.{name.rpartition('.')[0]}")
        kind = self._pool.url_to_type.get(f"type.googleapis.com/{name}")
        if kind is None:
            return
        if name in WELL_KNOWN:
            # A packed wrapper has its JSON form under "value", as if that were its field, which it is. The others,
            # whose fields are not what JSON shows, nobody packs.
            if WELL_KNOWN[name].startswith("wrapped "):
                self.tables[name] = (FieldSchema(1, "value", WELL_KNOWN[name].removeprefix("wrapped ")),)
            return
        self._take_up(name, kind)
        while self._new:
            message = self._new.pop()
            rows = self.fields("", self.classes[message])
            self.tables[message] = tuple(FieldSchema(*row) for row in rows)

    def resolved(self, meta: Any, hint: Any) -> tuple[str, str]:
        if meta.proto_type != "message":
            return super().resolved(meta, hint)
        kind = meta.unwrap() if meta.unwrap else hint
        message = self._pool.type_to_url[kind].rpartition("/")[2]
        if message in WELL_KNOWN:
            return WELL_KNOWN[message], ""
        self._take_up(message, kind)
        return "message", message

    def _take_up(self, message: str, kind: Any) -> None:
        if message not in self.classes:
            self.classes[message] = kind
            self._new.append(message)


class MessageReader:
    """Bytes of any type that envoy-data-plane knows, as JSON. Raises ImportError when that is not installed."""

    def __init__(self) -> None:
        self._messages = AllMessages()
        self._fields: dict[str, dict[str, FieldSchema]] = {}
        self._schema = Schema({}, {})
        self._seen: set[str] = set()

    def text(self, type_url: str, raw: bytes) -> str:
        """JSON with the field names of the .proto files and an @type. Raises XdsError for bytes that are no message.

        What the package does not know is not shown; "eastgate_unread" lists the paths of such fields.
        """
        return json.dumps(self.read(type_url, raw), indent=1)

    def read(self, type_url: str, raw: bytes) -> dict[str, Any]:
        message = type_url.rpartition("/")[2]
        self._learn({message, *(name.decode() for name in PACKED.findall(raw))})
        if message not in self._fields:
            raise XdsError(message, "", "a type that envoy-data-plane does not know")
        value = self._schema.read(message, raw)
        unread = unknown_fields(value)
        shown = {"@type": type_url, **self._message(message, value)}
        if type_url == EDS:
            show_defaults(shown)
        return {**shown, "eastgate_unread": unread} if unread else shown

    def _learn(self, names: set[str]) -> None:
        new = names - self._seen
        if new:
            self._seen |= new
            for name in new:
                self._messages.add(name)
            tables = self._messages.tables
            self._schema = Schema(tables, self._messages.enums)
            self._fields = {name: {field.name: field for field in fields} for name, fields in tables.items()}

    def _message(self, message: str, value: dict[str, Any]) -> dict[str, Any]:
        fields, secret = self._fields[message], ALL.get(message, NONE)
        shown = {}
        for name, item in value.items():
            field = fields.get(name)
            if field is None:
                continue
            if name in secret:
                shown[name] = redacted(item, field.kind == "bytes")
            elif field.kind == "map":
                shown[name] = {str(key): self._one(field.value, field.type, each) for key, each in item.items()}
            elif field.repeated:
                shown[name] = [self._one(field.kind, field.type, each) for each in item]
            else:
                shown[name] = self._one(field.kind, field.type, item)
        if message in STRUCTS and shown.get("type_url", "").rpartition("/")[2] in PATHS:
            shown["value"] = struct_redacted(shown.get("value"))
        return shown

    def _one(self, kind: str, type_name: str, value: Any) -> Any:
        """One value in the JSON form of its kind."""
        kind = kind.removeprefix("wrapped ")
        if kind == "message":
            return self._message(type_name, value)
        if kind == "any":
            packed = value["@type"].rpartition("/")[2]
            known = packed in self._fields
            return {"@type": value["@type"], **(self._message(packed, value) if known else {})}
        if kind in LONG:
            return str(value)
        if kind == "bytes":
            return base64.b64encode(value).decode()
        if kind in ("float", "double"):
            return shortest(value, single=kind == "float")
        return value


def shortest(value: float, *, single: bool) -> float | str:
    """A number in the fewest digits that mean it, or the JSON name of one that is none."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if single:
        for digits in range(6, 9):
            shorter = float(f"{value:.{digits}g}")
            if struct.unpack("f", struct.pack("f", shorter))[0] == value:
                return shorter
    return value


def redacted(value: Any, in_bytes: bool) -> Any:
    """The same structure with every text in it replaced."""
    if isinstance(value, dict):
        return {key: redacted(item, key == "inline_bytes") for key, item in value.items() if key[:1] != "@"}
    if isinstance(value, list):
        return [redacted(item, in_bytes) for item in value]
    in_bytes = in_bytes or isinstance(value, bytes)
    if isinstance(value, str | bytes):
        return base64.b64encode(REDACTED.encode()).decode() if in_bytes else REDACTED
    return value


def struct_redacted(value: Any) -> Any:
    """A Struct that stands for a message with sensitive fields, without what is called like one."""
    if isinstance(value, list):
        return [struct_redacted(item) for item in value]
    if not isinstance(value, dict):
        return value
    hidden = {key: redacted(item, in_bytes=False) for key, item in value.items() if key in NAMES}
    return {key: hidden[key] if key in hidden else struct_redacted(item) for key, item in value.items()}


def show_defaults(assignment: dict[str, Any]) -> None:
    """What Envoy shows of an assignment although EDS left it out: it prints what it works with."""
    assignment.setdefault("policy", {}).setdefault("overprovisioning_factor", 140)
    for locality in assignment.get("endpoints", ()):
        locality.setdefault("locality", {})
        for endpoint in locality.get("lb_endpoints", ()):
            if endpoint.get("health_status", "UNKNOWN") == "UNKNOWN":
                endpoint["health_status"] = "HEALTHY"
            endpoint.setdefault("load_balancing_weight", 1)
            endpoint.get("endpoint", {}).setdefault("health_check_config", {})


def answer(reader: MessageReader | None, type_url: str, raw: bytes) -> bytes:
    """The JSON text of a resource, indented for its place in a dump."""
    try:
        if reader is not None:
            with suppress(XdsError):
                return indented(reader.text(type_url, raw))
        return indented(json.dumps(dumps.render(type_url, raw), indent=1))
    except Exception as error:  # noqa: BLE001
        # One resource that we cannot show must not cost the dump of all others, each time.
        return indented(json.dumps({"@type": type_url, "eastgate_error": repr(error)}, indent=1))


def indented(text: str) -> bytes:
    return text.replace("\n", "\n" + " " * DEPTH).encode()


def main() -> None:
    """Say that we are there, then answer questions until stdin ends."""
    sys.stdout.buffer.write(framed(b""))
    sys.stdout.buffer.flush()
    # Whoever carries traffic goes first; and when memory runs out, this process goes, and not the proxy.
    os.nice(10)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
        score.write("1000")
    reader = None
    with suppress(ImportError):
        reader = MessageReader()
    for question in frames(sys.stdin.buffer):
        type_url, _, raw = question.partition(b"\0")
        sys.stdout.buffer.write(framed(answer(reader, type_url.decode(), raw)))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        main()
    except OSError:
        # Whoever asked is gone; what is left for them is not worth a word.
        os._exit(1)
