"""What a transport socket asks of TLS: which secrets, whom to accept, what to offer. Reads no secret.

Whatever would have to be evaluated and is not makes ``refusal``; what is merely not done is a warning.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from .assignment import read_text
from .fields import type_name
from .message import read
from .secret import accepted_names, validation_refusal
from .secret_refs import secret_ref
from .tls_records import TlsSettings
from .wire import unknown_fields

_TLS = "envoy.extensions.transport_sockets.tls.v3."
_DOWNSTREAM, _UPSTREAM = f"{_TLS}DownstreamTlsContext", f"{_TLS}UpstreamTlsContext"
_RAW = "envoy.transport_sockets.raw_buffer"
_COMMON_READ = {
    "tls_params",
    "alpn_protocols",
    "tls_certificate_sds_secret_configs",
    "validation_context_sds_secret_config",
    "combined_validation_context",
}
_PARAMETERS_READ = {"tls_minimum_protocol_version", "tls_maximum_protocol_version", "cipher_suites", "ecdh_curves"}
_CONTEXT_READ = {
    _DOWNSTREAM: {"common_tls_context", "require_client_certificate"},
    _UPSTREAM: {"common_tls_context", "sni"},
}
# Fields that ask for more than is done, but open nothing.
_NOT_DONE = {
    "session_ticket_keys": "keys of session tickets are our own",
    "session_ticket_keys_sds_secret_config": "keys of session tickets are our own",
    "session_timeout": "sessions are not resumed",
    "disable_stateless_session_resumption": "sessions are not resumed",
    "disable_stateful_session_resumption": "sessions are not resumed",
    "full_scan_certs_on_sni_mismatch": "there is one certificate",
    "prefer_client_ciphers": "the server's order counts",
    "allow_renegotiation": "no renegotiation",
    "max_session_keys": "sessions are not resumed",
    "enforce_rsa_key_usage": "key usage is checked as OpenSSL does",
    "key_log": "keys are never logged",
    "ocsp_staple_policy": "nothing is stapled",
}
_VERSIONS = {"TLSv1_0": "1.2", "TLSv1_1": "1.2", "TLSv1_2": "1.2", "TLSv1_3": "1.3"}


@lru_cache(maxsize=1024)
def tls_settings(transport_socket: bytes) -> TlsSettings | None:
    """Read the bytes of a TransportSocket; None for one without TLS (raw_buffer). Raises XdsError."""
    if read_text(transport_socket, 1) == _RAW:
        return None
    socket = read("envoy.config.core.v3.TransportSocket", transport_socket)
    config = socket.get("typed_config", {})
    kind = type_name(config)
    if kind not in _CONTEXT_READ:
        name = socket.get("name", "") or kind or "without a name"
        return TlsSettings(is_server=False, refusal=f"transport socket {name} is not spoken")
    return _settings(config, is_server=kind == _DOWNSTREAM)


def _settings(config: Mapping[str, Any], *, is_server: bool) -> TlsSettings:
    common = read(f"{_TLS}CommonTlsContext", config.get("common_tls_context", b""))
    default, roots = _validation(common)
    names, unread = accepted_names(default)
    parameters = common.get("tls_params", {})
    refusals = [
        *_asked_too_much(config, _CONTEXT_READ[_DOWNSTREAM if is_server else _UPSTREAM]),
        *_asked_too_much(common, _COMMON_READ),
        *_asked_too_much(parameters, _PARAMETERS_READ),
        validation_refusal(default),
        unread,
    ]
    certificates = common.get("tls_certificate_sds_secret_configs", ())
    if len(certificates) > 1:
        refusals.append(f"{len(certificates)} certificates; one is served")
    least, most = _versions(parameters, is_server=is_server)
    return TlsSettings(
        is_server=is_server,
        certificate=secret_ref(certificates[0]) if certificates else None,
        roots=None if roots is None else secret_ref(roots),
        names=names,
        protocols=tuple(common.get("alpn_protocols", ())),
        server_name=config.get("sni", ""),
        requires_certificate=config.get("require_client_certificate", False),
        minimum_version=least,
        maximum_version=most,
        ciphers=_flat(parameters.get("cipher_suites", ())),
        groups=tuple(parameters.get("ecdh_curves", ())),
        refusal=next(filter(None, refusals), ""),
        warnings=tuple(f"{name}: {_NOT_DONE[name]}" for part in (config, common) for name in part if name in _NOT_DONE),
    )


def _validation(common: Mapping[str, Any]) -> tuple[Mapping[str, Any], bytes | None]:
    combined = common.get("combined_validation_context", {})
    default = read(f"{_TLS}CertificateValidationContext", combined.get("default_validation_context", b""))
    own = common.get("validation_context_sds_secret_config")
    return default, combined.get("validation_context_sds_secret_config", own)


def _asked_too_much(message: Mapping[str, Any], understood: set[str]) -> list[str]:
    unknown = unknown_fields(message)
    left = [name for name in message if name not in understood and name not in _NOT_DONE and not name.startswith("@")]
    return [f"{name} is not evaluated" for name in left if message[name] is not False] + (
        [f"unknown fields: {', '.join(unknown)}"] if unknown else []
    )


def _versions(parameters: Mapping[str, Any], *, is_server: bool) -> tuple[str, str]:
    # Envoy's clients speak no 1.3 unless they are told to.
    least = _VERSIONS.get(parameters.get("tls_minimum_protocol_version", ""), "1.2")
    return least, _VERSIONS.get(parameters.get("tls_maximum_protocol_version", ""), "1.3" if is_server else "1.2")


def _flat(suites: Sequence[str]) -> tuple[str, ...]:
    """BoringSSL's groups of equal preference ("[A|B]") become a plain list."""
    return tuple(name for suite in suites for name in suite.strip("[]").split("|"))
