"""Whole configurations at random, made by walking xds/schema.py: extreme numbers, NaN, gaps, NULs, wrong wire types,
resources that are wrapped, mixed, named twice, cut. What begins as a resource that is right gets fields added, for
protobuf merges them: most come far, past the first check.
"""

import random
import struct
from collections.abc import Callable, Sequence

from eastgate.xds.decode import CDS, EDS, LDS, RDS, SDS
from eastgate.xds.envelope import WRAPPER
from eastgate.xds.message import encode
from eastgate.xds.schema import ENUMS, MESSAGES, FieldSchema

from ..support.encoded import field, varint
from ..xds import istiod as build

NAMES = tuple(f"outbound_.80_._.{letter}.svc" for letter in "abcd")
ROOTS = {
    CDS: "envoy.config.cluster.v3.Cluster",
    EDS: "envoy.config.endpoint.v3.ClusterLoadAssignment",
    LDS: "envoy.config.listener.v3.Listener",
    RDS: "envoy.config.route.v3.RouteConfiguration",
    SDS: "envoy.extensions.transport_sockets.tls.v3.Secret",
}
# What the opaque fields hold, by their names.
OPAQUE = {
    "load_assignment": ROOTS[EDS],
    "virtual_hosts": "envoy.config.route.v3.VirtualHost",
    "route_config": ROOTS[RDS],
    "config_source": "envoy.config.core.v3.ConfigSource",
    "eds_config": "envoy.config.core.v3.ConfigSource",
    "transport_socket": "envoy.config.core.v3.TransportSocket",
    "transport_socket_matches": "envoy.config.cluster.v3.Cluster.TransportSocketMatch",
    "metadata": "envoy.config.core.v3.Metadata",
    "metadata_match": "envoy.config.core.v3.Metadata",
    "filter_chains": "envoy.config.listener.v3.FilterChain",
    "default_filter_chain": "envoy.config.listener.v3.FilterChain",
    "common_tls_context": "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext",
}
EXTENSIONS = tuple(one for one in MESSAGES if one.startswith("envoy.extensions."))
INTEGERS = (0, 1, 2, 3, 50, 99, 100, 101, 127, 128, 255, 256, 65535, 65536, 65537, 2**31 - 1, 2**31, 2**32 - 1)
WIDE = (2**32, 2**32 + 80, 2**63 - 1, 2**63, 2**64 - 1, 2**64 - 2)
DOUBLES = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    29.9,
    100.0,
    100.1,
    5e-324,
    1e-9,
    1e308,
    -1e308,
    float("nan"),
    float("inf"),
    -float("inf"),
)
SECONDS = (
    0,
    1,
    15,
    4_294_967,
    4_294_968,
    2**32,
    315_576_000_000,
    315_576_000_001,
    2**63 - 1,
    2**64 - 1,
    2**64 - 4_294_968,
)
NANOS = (0, 0, 0, 1, 999_999, 999_999_999, 1_000_000_000, 2**31, 2**64 - 1)
# Loopback alone: listeners are opened on what stands here.
TEXTS = (
    *NAMES,
    "",
    "a\0b",
    "a\nb",
    "\u2028",
    "ä\U0001f600",
    "*",
    "*.a",
    "*a*",
    ".",
    "127.0.0.1",
    "127.0.0.1",
    "127.0.0.2",
    "::1",
    "256.0.0.1",
    "name.example",
    "80",
    "tls",
    "raw_buffer",
    "istio",
    "h2",
    "/",
    "/a\r\nHost: b",
    "@abstract",
    "%REQ(x)%",
    "envoy.lb",
    "tlsMode",
    "stage",
    "x" * 300,
    "ads",
    "sds-grpc",
    "default",
)
_DEEPEST = 7


class Configurations:
    """A source of resources and responses; two of one seed are alike."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)

    def response(self, type_url: str, good: bytes | None) -> list[bytes]:
        """Anys of a state-of-the-world response; `good` is among them."""
        found = [] if good is None else [build.packed(type_url, good)]
        found += [self._any(type_url, self.resource(type_url)) for _ in range(self.draw.randrange(6))]
        self.draw.shuffle(found)
        if found and self.draw.random() < 0.03:
            found.append(self.draw.choice(found))
        return found

    def removed(self) -> list[str]:
        """Names that a response of Delta takes away."""
        return [self.draw.choice((*NAMES, "", "other")) for _ in range(self.draw.randrange(3))]

    def resource(self, type_url: str) -> bytes:
        """Bytes of one resource."""
        name = self.draw.choice(NAMES)
        made = self.draw.choice(BASES[type_url])(name) if self.draw.random() < 0.95 else b""
        for _ in range(self.draw.choice((0, 1, 1, 1, 2, 3))):
            made += self._some_field(ROOTS[type_url], 0)
        if self.draw.random() < 0.05:
            made = self._damaged(made)
        return made

    def _any(self, type_url: str, payload: bytes) -> bytes:
        said = type_url if self.draw.random() < 0.98 else self.draw.choice((*ROOTS, "", "type.googleapis.com/x.Y"))
        packed = build.packed(said, payload)
        if self.draw.random() < 0.1:
            packed = field(2, packed) + self._some_field("envoy.service.discovery.v3.Resource", 0)
            packed = build.packed(WRAPPER, packed)
        return self._damaged(packed) if self.draw.random() < 0.02 else packed

    def _damaged(self, raw: bytes) -> bytes:
        at = self.draw.randrange(len(raw) + 1)
        return self.draw.choice((raw[:at], raw[:at] + self.draw.randbytes(1) + raw[at + 1 :], raw[:at] + raw))

    def _message(self, name: str, depth: int) -> bytes:
        if depth > _DEEPEST:
            return b""
        return b"".join(self._some_field(name, depth) for _ in range(self.draw.choice((0, 1, 2, 3, 4))))

    def _some_field(self, message: str, depth: int) -> bytes:
        fields = MESSAGES[message]
        if not fields or self.draw.random() < 0.02:
            return self._unknown()
        one = self.draw.choice(fields)
        # The same field once more: merged, or the last one wins.
        times = self.draw.choice((1, 1, 1, 2, 3)) if one.repeated or self.draw.random() < 0.1 else 1
        return b"".join(self._field(one, depth) for _ in range(times))

    def _unknown(self) -> bytes:
        number, kind = self.draw.choice((500, 2**29 - 1, 77)), self.draw.choice((0, 1, 2, 3, 4, 5, 6))
        payload = {0: varint(self.draw.choice(WIDE)), 1: bytes(8), 2: b"\x03abc", 5: bytes(4)}.get(kind, b"")
        return varint(number << 3 | kind) + payload

    def _field(self, one: FieldSchema, depth: int) -> bytes:
        if self.draw.random() < 0.02:
            # Another wire type than the schema says.
            return varint(one.number << 3 | self.draw.choice((0, 1, 5))) + bytes(8)
        if one.kind == "map":
            key = self._field(FieldSchema(1, "key", one.key), depth + 1)
            value = self._field(FieldSchema(2, "value", one.value, one.type), depth + 1)
            return field(one.number, key + value)
        kind = one.kind.removeprefix("wrapped ")
        wire_type, payload = self._value(one, kind, depth)
        if one.kind != kind:
            wire_type, payload = (
                2,
                varint(1 << 3 | wire_type) + (varint(len(payload)) if wire_type == 2 else b"") + payload,
            )
        return varint(one.number << 3 | wire_type) + (varint(len(payload)) if wire_type == 2 else b"") + payload

    def _value(self, one: FieldSchema, kind: str, depth: int) -> tuple[int, bytes]:
        """Wire type and payload of a value."""
        if kind in ("double", "float"):
            number = self.draw.choice(DOUBLES)
            if kind == "double":
                return 1, struct.pack("<d", number)
            return 5, struct.pack("<f", max(min(number, 3e38), -3e38) if number == number else number)
        if kind in ("fixed32", "sfixed32", "fixed64", "sfixed64"):
            width = 4 if kind.endswith("32") else 8
            return (5 if width == 4 else 1), self.draw.randbytes(width)
        if kind in _TEXTUAL:
            return 2, _TEXTUAL[kind](self, one, depth)
        if kind == "enum":
            return 0, varint(self.draw.choice((*ENUMS[one.type], 99, 2**31, 2**64 - 1)))
        return 0, varint(self.draw.choice(INTEGERS if self.draw.random() < 0.8 else WIDE))

    def _text(self, _: FieldSchema, __: int) -> bytes:
        return self.draw.choice(TEXTS).encode()

    def _bytes(self, _: FieldSchema, __: int) -> bytes:
        return self.draw.randbytes(self.draw.randrange(5))

    def _nested(self, one: FieldSchema, depth: int) -> bytes:
        return self._message(one.type, depth + 1)

    def _opaque(self, one: FieldSchema, depth: int) -> bytes:
        inside = OPAQUE.get(one.name)
        return self._bytes(one, depth) if inside is None else self._message(inside, depth + 1)

    def _extension(self, _: FieldSchema, depth: int) -> bytes:
        name = self.draw.choice(EXTENSIONS)
        return build.packed(f"type.googleapis.com/{name}", self._message(name, depth + 1))

    def _duration(self, _: FieldSchema, __: int) -> bytes:
        return build.number_field(1, self.draw.choice(SECONDS)) + build.number_field(2, self.draw.choice(NANOS))

    def _struct(self, _: FieldSchema, depth: int) -> bytes:
        return b"".join(
            field(1, field(1, self.draw.choice(TEXTS).encode()) + field(2, self._json_value(_, depth + 1)))
            for _ in ([_] * self.draw.randrange(3))
        )

    def _json_value(self, one: FieldSchema, depth: int) -> bytes:
        kind = self.draw.randrange(6) if depth <= _DEEPEST else 2
        if kind == 0:
            return b"\x08\x00"
        if kind == 1:
            return b"\x11" + struct.pack("<d", self.draw.choice(DOUBLES))
        if kind == 2:
            return field(3, self.draw.choice(TEXTS).encode())
        if kind == 3:
            return b"\x20\x01"
        return field(5, self._struct(one, depth)) if kind == 4 else field(6, self._list(one, depth))

    def _list(self, one: FieldSchema, depth: int) -> bytes:
        return b"".join(field(1, self._json_value(one, depth + 1)) for _ in range(self.draw.randrange(3)))


_TEXTUAL: dict[str, Callable[[Configurations, FieldSchema, int], bytes]] = {
    "string": Configurations._text,
    "bytes": Configurations._bytes,
    "message": Configurations._nested,
    "opaque": Configurations._opaque,
    "any": Configurations._extension,
    "duration": Configurations._duration,
    "struct": Configurations._struct,
    "value": Configurations._json_value,
    "list": Configurations._list,
}


def _endpoints(name: str) -> bytes:
    two = [build.endpoint("127.0.0.1", 1, weight=3), build.endpoint("127.0.0.2", 1, tls_mode="istio")]
    away = build.locality_endpoints("s", [build.endpoint("::1", 1, health=2)], priority=1)
    return build.assignment(name, [build.locality_endpoints("r", two, weight=2), away])


def _named(name: str) -> bytes:
    where = field(1, field(1, build.socket_address("name.example", 80)))
    return build.assignment(name, [build.locality_endpoints("r", [where])])


def _check() -> dict[str, object]:
    return {
        "timeout": "1s", "interval": "1s", "unhealthy_threshold": 1, "healthy_threshold": 1,
        "http_health_check": {"path": "/"},
    }  # fmt: skip


def _subsets() -> dict[str, object]:
    return {"subset_selectors": [{"keys": ["stage"], "fallback_policy": "ANY_ENDPOINT"}]}


def _listener(name: str, *chains: bytes) -> bytes:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    return build.listener(name, chains, address=address)


def _http_chain(route: str) -> bytes:
    url = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    manager = {"@type": url, "rds": {"route_config_name": route}}
    return build.chain(
        route, filters=[{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    )


def _routes(name: str) -> bytes:
    route = {"match": {"prefix": "/"}, "route": {"cluster": name}}
    host = encode("envoy.config.route.v3.VirtualHost", {"name": "h", "domains": ["*"], "routes": [route]})
    return encode(ROOTS[RDS], {"name": name, "virtual_hosts": [host]})


def _static(name: str, **fields: object) -> bytes:
    return build.cluster(name, **{"type": "STATIC", "load_assignment": _endpoints(name), **fields})


BASES: dict[str, Sequence[Callable[[str], bytes]]] = {
    CDS: (
        build.cluster,
        _static,
        lambda name: build.cluster(name, outlier_detection={"consecutive_5xx": 1}, lb_policy="LEAST_REQUEST"),
        lambda name: build.cluster(name, lb_policy="RING_HASH", lb_subset_config=_subsets()),
        lambda name: _static(name, lb_policy="MAGLEV"),
        lambda name: _static(name, health_checks=[_check()]),
        lambda name: _static(name, round_robin_lb_config={"slow_start_config": {"slow_start_window": "5s"}}),
        lambda name: build.cluster(name, type="STRICT_DNS", load_assignment=_named(name)),
        lambda name: build.cluster(name, type="ORIGINAL_DST", lb_policy="CLUSTER_PROVIDED"),
    ),
    EDS: (_endpoints, lambda name: build.assignment(name, [])),
    LDS: (
        lambda name: _listener(name, build.chain(name), build.chain(NAMES[1])),
        lambda name: _listener(name, build.chain(name, filter_chain_match={}), _http_chain(name)),
    ),
    RDS: (_routes,),
    SDS: (lambda name: encode(ROOTS[SDS], {"name": name}),),
}
