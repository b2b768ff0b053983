"""Google's protobuf (upb) as the oracle: classes from our schema tables, random messages, plain structures."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from eastgate.xds.schema import FieldSchema as F
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    message_factory,
    struct_pb2,
    wrappers_pb2,
)

# What the assignment reader reads, and enough of what it skips.
ASSIGNMENT_MESSAGES: dict[str, tuple[F, ...]] = {
    "ClusterLoadAssignment": (
        F(1, "cluster_name", "string"),
        F(2, "endpoints", "message", "LocalityLbEndpoints", repeated=True),
        F(4, "policy", "message", "Policy"),
    ),
    "Policy": (
        F(3, "overprovisioning_factor", "wrapped uint32"),
        F(4, "endpoint_stale_after", "duration"),
        F(6, "weighted_priority_health", "bool"),
    ),
    "LocalityLbEndpoints": (
        F(1, "locality", "message", "Locality"),
        F(2, "lb_endpoints", "message", "LbEndpoint", repeated=True),
        F(3, "load_balancing_weight", "wrapped uint32"),
        F(5, "priority", "uint32"),
        F(6, "proximity", "wrapped uint32"),
    ),
    "Locality": (F(1, "region", "string"), F(2, "zone", "string"), F(3, "sub_zone", "string")),
    "LbEndpoint": (
        F(1, "endpoint", "message", "Endpoint", oneof="host_identifier"),
        F(2, "health_status", "uint32"),
        F(3, "metadata", "message", "Metadata"),
        F(4, "load_balancing_weight", "wrapped uint32"),
        F(5, "endpoint_name", "string", oneof="host_identifier"),
    ),
    "Endpoint": (F(1, "address", "message", "Address"), F(3, "hostname", "string")),
    "Address": (
        F(1, "socket_address", "message", "SocketAddress", oneof="address"),
        F(2, "pipe", "message", "Pipe", oneof="address"),
    ),
    "SocketAddress": (
        F(1, "protocol", "uint32"),
        F(2, "address", "string"),
        F(3, "port_value", "uint32", oneof="port_specifier"),
        F(4, "named_port", "string", oneof="port_specifier"),
    ),
    "Pipe": (F(1, "path", "string"), F(2, "mode", "uint32")),
    "Metadata": (F(1, "filter_metadata", "map", key="string", value="struct"),),
}

_WELL_KNOWN = {"any": "Any", "duration": "Duration", "struct": "Struct", "value": "Value", "list": "ListValue"}
_WRAPPERS = {"bool": "Bool", "uint32": "UInt32", "int32": "Int32", "uint64": "UInt64", "int64": "Int64",
             "double": "Double", "float": "Float", "string": "String", "bytes": "Bytes"}  # fmt: skip
_FIELD = descriptor_pb2.FieldDescriptorProto
_INTEGERS = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1), "uint32": (0, 2**32 - 1),
             "uint64": (0, 2**64 - 1), "sint32": (-(2**31), 2**31 - 1), "sint64": (-(2**63), 2**63 - 1)}  # fmt: skip


def flat(name: str) -> str:
    return name.replace(".", "_")


class Oracle:
    """Message classes of upb for a schema.

    Opaque fields are messages without fields, which keep and merge what they do not know; or bytes, which take
    anything.
    """

    def __init__(
        self,
        messages: Mapping[str, Sequence[F]],
        enums: Mapping[str, Mapping[int, str]],
        *,
        opaque_as_bytes: bool = False,
    ) -> None:
        self.messages = messages
        self.enums = enums
        self.opaque_as_bytes = opaque_as_bytes
        pool = descriptor_pool.DescriptorPool()
        file = descriptor_pb2.FileDescriptorProto(name="oracle.proto", package="oracle", syntax="proto3")
        for module in (any_pb2, duration_pb2, struct_pb2, wrappers_pb2):
            pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
            file.dependency.append(module.DESCRIPTOR.name)
        file.message_type.add(name="Opaque")
        for name, members in enums.items():
            scope = file.message_type.add(name="Enum_" + flat(name))
            enum = scope.enum_type.add(name="E")
            for number in sorted(members):
                enum.value.add(name=members[number], number=number)
        for name, fields in messages.items():
            message = file.message_type.add(name=flat(name))
            groups = list(dict.fromkeys(field.oneof for field in fields if field.oneof))
            for group in groups:
                message.oneof_decl.add(name=group)
            for field in fields:
                self._add_field(message, field, groups)
        pool.Add(file)
        self.classes = {
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"oracle.{flat(name)}"))
            for name in messages
        }

    def _add_field(self, message: Any, field: F, groups: list[str]) -> None:
        proto = message.field.add(name=field.name, number=field.number, label=_FIELD.LABEL_OPTIONAL)
        if field.repeated or field.kind == "map":
            proto.label = _FIELD.LABEL_REPEATED
        if field.oneof:
            proto.oneof_index = groups.index(field.oneof)
        if field.kind == "map":
            entry = message.nested_type.add(name="".join(part.title() for part in field.name.split("_")) + "Entry")
            entry.options.map_entry = True
            self._type(entry.field.add(name="key", number=1, label=_FIELD.LABEL_OPTIONAL), field.key, "")
            self._type(entry.field.add(name="value", number=2, label=_FIELD.LABEL_OPTIONAL), field.value, field.type)
            proto.type, proto.type_name = _FIELD.TYPE_MESSAGE, f".oracle.{message.name}.{entry.name}"
        else:
            self._type(proto, field.kind, field.type)

    def _type(self, proto: Any, kind: str, type_name: str) -> None:
        if kind == "opaque" and not self.opaque_as_bytes:
            proto.type, proto.type_name = _FIELD.TYPE_MESSAGE, ".oracle.Opaque"
        elif kind == "message":
            proto.type, proto.type_name = _FIELD.TYPE_MESSAGE, f".oracle.{flat(type_name)}"
        elif kind == "enum":
            proto.type, proto.type_name = _FIELD.TYPE_ENUM, f".oracle.Enum_{flat(type_name)}.E"
        elif kind in _WELL_KNOWN:
            proto.type, proto.type_name = _FIELD.TYPE_MESSAGE, f".google.protobuf.{_WELL_KNOWN[kind]}"
        elif kind.startswith("wrapped "):
            wrapper = _WRAPPERS[kind.removeprefix("wrapped ")]
            proto.type, proto.type_name = _FIELD.TYPE_MESSAGE, f".google.protobuf.{wrapper}Value"
        else:
            proto.type = getattr(_FIELD, "TYPE_" + ("bytes" if kind == "opaque" else kind).upper())

    # Random messages.

    def random_message(self, name: str, rng: random.Random, depth: int = 0) -> Any:
        """A message with about a third of its fields set, each to a random value."""
        message = self.classes[name]()
        for field in self.messages[name]:
            if rng.random() > 0.35 or (depth > 3 and field.kind in ("message", "any", "map")):
                continue
            self._fill(message, field, rng, depth)
        return message

    def _fill(self, message: Any, field: F, rng: random.Random, depth: int) -> None:
        count = rng.randint(0, 3)
        if field.kind == "map":
            target = getattr(message, field.name)
            for _ in range(count):
                key = self._scalar(field.key, rng)
                if field.value in ("any", "struct", "message", "opaque"):
                    target.pop(key, None)
                    target[key].MergeFromString(self._submessage(F(0, "", field.value, field.type), rng, depth))
                else:
                    target[key] = self._scalar(field.value, rng)
        elif field.kind in ("message", "opaque", *_WELL_KNOWN) or field.kind.startswith("wrapped "):
            if field.repeated:
                for _ in range(count):
                    getattr(message, field.name).add().MergeFromString(self._submessage(field, rng, depth))
            else:
                submessage = getattr(message, field.name)
                submessage.SetInParent()
                submessage.MergeFromString(self._submessage(field, rng, depth))
        elif field.repeated:
            getattr(message, field.name).extend(self._of_kind(field, rng) for _ in range(count))
        else:
            setattr(message, field.name, self._of_kind(field, rng))

    def _of_kind(self, field: F, rng: random.Random) -> Any:
        if field.kind == "enum":
            return rng.choice([*self.enums[field.type], 77])
        return self._scalar(field.kind, rng)

    def _scalar(self, kind: str, rng: random.Random) -> Any:
        if kind in _INTEGERS:
            low, high = _INTEGERS[kind]
            return rng.choice([0, 1, low, high, rng.randint(low, high)])
        if kind == "bool":
            return rng.random() < 0.5
        if kind in ("double", "float"):
            return rng.choice([0.0, -1.5, 0.25, 1e30])
        text = rng.choice(["", "a", "outbound_.80_._.a.b", "ü\0"])
        return text if kind == "string" else text.encode() + bytes([rng.randrange(256)])

    def _submessage(self, field: F, rng: random.Random, depth: int) -> bytes:
        if field.kind == "opaque":
            return rng.choice([b"", b"\x0a\x01a", b"\x18\x07"])
        written: bytes = self._message_of(field, rng, depth).SerializeToString()
        return written

    def _message_of(self, field: F, rng: random.Random, depth: int) -> Any:
        if field.kind == "message":
            return self.random_message(field.type, rng, depth + 1)
        if field.kind == "any":
            known = rng.random() < 0.7
            name = rng.choice(list(self.messages)) if known else "x.Unknown"
            value = self.random_message(name, rng, depth + 2).SerializeToString() if known else b"\xff\x00"
            return any_pb2.Any(type_url=f"type.googleapis.com/{name}", value=value)
        if field.kind == "duration":
            return duration_pb2.Duration(seconds=rng.choice([0, 1, 10, 3600]), nanos=rng.choice([0, 5, 500_000_000]))
        if field.kind in ("struct", "value", "list"):
            value = struct_pb2.Value()
            value.struct_value.update({"a": [1, {"b": None}], "c": rng.choice(["x", True, 2.5])})
            value.list_value.extend([1, "two"]) if field.kind == "list" else None
            return {"struct": value.struct_value, "list": value.list_value}.get(field.kind, value)
        inner = field.kind.removeprefix("wrapped ")
        return getattr(wrappers_pb2, _WRAPPERS[inner] + "Value")(value=self._scalar(inner, rng))

    # Plain structures, as Schema.read answers them.

    def plain(self, name: str, message: Any) -> dict[str, Any]:
        by_name = {field.name: field for field in self.messages[name]}
        return {
            descriptor.name: self._plain_field(by_name[descriptor.name], value)
            for descriptor, value in message.ListFields()
        }

    def _plain_field(self, field: F, value: Any) -> Any:
        if field.kind == "map":
            return {key: self._plain_one(field.value, field.type, value[key]) for key in value}
        if field.repeated:
            return [self._plain_one(field.kind, field.type, one) for one in value]
        return self._plain_one(field.kind, field.type, value)

    def _plain_one(self, kind: str, type_name: str, value: Any) -> Any:
        if kind == "opaque":
            return value if self.opaque_as_bytes else value.SerializeToString()
        if kind == "message":
            return self.plain(type_name, value)
        if kind == "enum":
            return self.enums[type_name].get(value, value)
        if kind == "any":
            url = value.type_url
            name = url.rpartition("/")[2]
            if name not in self.messages:
                return {"@type": url, "@value": value.value}
            return {"@type": url, **self.plain(name, self.classes[name].FromString(value.value))}
        if kind == "duration":
            return value.ToJsonString()
        if kind == "struct":
            return {key: self._plain_one("value", "", one) for key, one in value.fields.items()}
        if kind == "list":
            return [self._plain_one("value", "", one) for one in value.values]
        if kind == "value":
            chosen = value.WhichOneof("kind")
            if chosen in (None, "null_value"):
                return None
            inner = getattr(value, chosen)
            nested = {"struct_value": "struct", "list_value": "list"}.get(chosen)
            return self._plain_one(nested, "", inner) if nested else inner
        if kind.startswith("wrapped "):
            return value.value
        return value
