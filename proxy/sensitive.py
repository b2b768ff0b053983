"""Which fields of Envoy's API hold keys, passwords and tokens, and whether bytes of a resource hold one.

`FIELDS` are those that Envoy itself marks as sensitive, which a test reads out of a real Envoy; `MORE` are not marked
and hold bare credentials all the same. Dumps show them as redacted; what is written to disk leaves out the whole
resource, since one without its key would be another configuration.
"""

import re
from collections.abc import Iterator

from .sensitive_paths import PATHS

FIELDS: dict[str, frozenset[str]] = {
    "envoy.config.core.v3.GrpcService.GoogleGrpc.SslCredentials": frozenset({"private_key"}),
    "envoy.config.grpc_credential.v3.FileBasedMetadataConfig": frozenset({"secret_data"}),
    "envoy.config.trace.v3.ClientConfig": frozenset({"backend_token"}),
    "envoy.extensions.common.aws.v3.AssumeRoleWithWebIdentityCredentialProvider": frozenset(
        {"web_identity_token_data_source"}
    ),
    "envoy.extensions.common.aws.v3.CredentialsFileCredentialProvider": frozenset({"credentials_data_source"}),
    "envoy.extensions.common.aws.v3.IAMRolesAnywhereCredentialProvider": frozenset({"private_key"}),
    "envoy.extensions.common.aws.v3.InlineCredentialProvider": frozenset({"secret_access_key", "session_token"}),
    "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth": frozenset({"credentials"}),
    "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuthPerRoute": frozenset({"credentials"}),
    "envoy.extensions.filters.http.basic_auth.v3.BasicAuth": frozenset({"users"}),
    "envoy.extensions.filters.http.basic_auth.v3.BasicAuthPerRoute": frozenset({"users"}),
    "envoy.extensions.filters.http.ext_authz.v3.CheckSettings": frozenset({"context_extensions"}),
    "envoy.extensions.filters.network.redis_proxy.v3.RedisProtocolOptions": frozenset(
        {"auth_password", "auth_username"}
    ),
    "envoy.extensions.filters.network.redis_proxy.v3.RedisProtocolOptions.Credential": frozenset(
        {"auth_password", "auth_username"}
    ),
    "envoy.extensions.filters.network.redis_proxy.v3.RedisProxy": frozenset(
        {"downstream_auth_password", "downstream_auth_passwords", "downstream_auth_username"}
    ),
    "envoy.extensions.transport_sockets.tls.v3.GenericSecret": frozenset({"secret", "secrets"}),
    "envoy.extensions.transport_sockets.tls.v3.PrivateKeyProvider": frozenset({"typed_config"}),
    "envoy.extensions.transport_sockets.tls.v3.TlsCertificate": frozenset({"password", "pkcs12", "private_key"}),
    "envoy.extensions.transport_sockets.tls.v3.TlsSessionTicketKeys": frozenset({"keys"}),
}
_CALL = "envoy.config.core.v3.GrpcService.GoogleGrpc.CallCredentials"
_CALLS = "envoy.extensions.grpc_service.call_credentials"
MORE: dict[str, frozenset[str]] = {
    _CALL: frozenset({"access_token", "google_refresh_token"}),
    f"{_CALL}.GoogleIAMCredentials": frozenset({"authorization_token"}),
    f"{_CALL}.ServiceAccountJWTAccessCredentials": frozenset({"json_key"}),
    "envoy.config.trace.v3.LightstepConfig": frozenset({"access_token"}),
    "envoy.extensions.filters.http.aws_lambda.v3.Credentials": frozenset({"secret_access_key", "session_token"}),
    f"{_CALLS}.access_token.v3.AccessTokenCredentials": frozenset({"token"}),
    f"{_CALLS}.file_based_metadata.v3.FileBasedMetadataCallCredentials": frozenset({"secret_data"}),
    f"{_CALLS}.google_iam.v3.GoogleIamCredentials": frozenset({"authorization_token"}),
    f"{_CALLS}.google_refresh_token.v3.GoogleRefreshTokenCredentials": frozenset({"token"}),
    f"{_CALLS}.service_account_jwt_access.v3.ServiceAccountJwtAccessCredentials": frozenset({"json_key"}),
}
ALL = {**FIELDS, **MORE}

# How PATHS mark a field that is sensitive by itself, and one that is when its DataSource has the value, not its place.
VALUE, SOURCE = "!", "?"
_INLINE = (2, 3)
# A key that came where no schema knows of one: in a name, in a Struct, in a message of tomorrow.
_KEY_MARK = b"PRIVATE KEY-----"
# Whatever is packed in an Any lies verbatim in the bytes around it: its type, then field 2 with its bytes.
_PACKED = re.compile(rb"type\.googleapis\.com/((?:[a-z][a-z0-9_]*\.)+[A-Z][\w.]*)")
_PACKED_VALUE = b"\x12"
# Istio's way of naming a type that its control plane does not know: a Struct instead of the message.
STRUCTS = {"udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"}
# Keys of such a Struct, in both ways in which JSON names fields.
NAMES = frozenset(
    name
    for names in ALL.values()
    for field in names
    for name in (field, re.sub(r"_(\w)", lambda letter: letter[1].upper(), field))
)
_NAMES = re.compile("|".join(sorted(NAMES)).encode())
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class _MalformedError(ValueError):
    """Bytes that are no message."""


def holds_secret(packed: bytes) -> bool:
    """Whether an Any, or what holds some, has a sensitive field that is set. What cannot be read has one."""
    if _KEY_MARK in packed:
        return True
    for found in _PACKED.finditer(packed):
        name = found[1].decode()
        if name in STRUCTS:
            # Of a message that has sensitive fields, with a key that is called like one.
            inner = (one[1].decode() for one in _PACKED.finditer(packed, found.end()))
            if any(one in PATHS for one in inner) and _NAMES.search(packed, found.end()):
                return True
        elif name in PATHS and _packed_one_holds(name, packed, found.end()):
            return True
    return False


def _packed_one_holds(name: str, packed: bytes, at: int) -> bool:
    if packed[at : at + 1] != _PACKED_VALUE:
        # An Any without a value, or a name that stands somewhere else.
        return False
    try:
        size, begin = _varint(packed, at + 1)
        if begin + size > len(packed):
            raise _MalformedError
        return _holds(name, packed[begin : begin + size])
    except _MalformedError:
        return True


def _holds(message: str, data: bytes) -> bool:
    paths = PATHS[message]
    for number, content in _fields(data):
        kind = paths.get(number)
        if kind is None or not content:
            continue
        if kind == VALUE or (kind == SOURCE and any(one in _INLINE and value for one, value in _fields(content))):
            return True
        if kind not in (VALUE, SOURCE) and _holds(kind, content):
            return True
    return False


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each field that has bytes. Raises _MalformedError."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        wire = key & 7
        if wire == _BYTES:
            size, at = _varint(data, at)
            if at + size > end:
                raise _MalformedError
            yield key >> 3, data[at : at + size]
            at += size
        elif wire == _VARINT:
            _, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            at += 4 if wire == _FIXED32 else 8
        else:
            raise _MalformedError


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, index behind it)"""
    value = shift = 0
    while shift < 70:
        if at >= len(data):
            raise _MalformedError
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise _MalformedError
