"""What transport sockets ask of TLS; whatever is not evaluated makes a refusal, never less than was asked."""

from typing import Any

import pytest
from eastgate.xds.message import encode
from eastgate.xds.tls_records import NameMatch, SecretRef
from eastgate.xds.tls_settings import tls_settings

SOCKET = "envoy.config.core.v3.TransportSocket"
TLS = "envoy.extensions.transport_sockets.tls.v3."
ADS = {"name": "default", "sds_config": {"ads": {}}}


def socket(kind: str, common: dict[str, Any] | None = None, **fields: Any) -> bytes:
    context = {**fields, "common_tls_context": encode(f"{TLS}CommonTlsContext", common or {})}
    config = {"@type": f"type.googleapis.com/{TLS}{kind}", **context}
    return encode(
        "envoy.config.core.v3.TransportSocket", {"name": "envoy.transport_sockets.tls", "typed_config": config}
    )


def test_plain_sockets_have_none() -> None:
    raw = encode(SOCKET, {"name": "envoy.transport_sockets.raw_buffer"})
    assert tls_settings(raw) is None


def test_defaults_are_envoys() -> None:
    server, client = tls_settings(socket("DownstreamTlsContext")), tls_settings(socket("UpstreamTlsContext"))
    assert server is not None
    assert client is not None
    assert (server.is_server, server.minimum_version, server.maximum_version) == (True, "1.2", "1.3")
    assert (client.is_server, client.minimum_version, client.maximum_version) == (False, "1.2", "1.2")
    assert (server.requires_certificate, server.certificate, server.roots, server.refusal) == (False, None, None, "")


def test_everything_that_istiod_writes_is_read() -> None:
    context = encode(
        f"{TLS}CertificateValidationContext", {"match_subject_alt_names": [{"exact": "spiffe://a/ns/b/sa/c"}]}
    )
    found = tls_settings(
        socket(
            "UpstreamTlsContext",
            {
                "tls_params": {
                    "tls_minimum_protocol_version": "TLSv1_2",
                    "tls_maximum_protocol_version": "TLSv1_3",
                    "cipher_suites": ["[A|B]", "C"],
                    "ecdh_curves": ["P-256"],
                },
                "alpn_protocols": ["istio-peer-exchange", "istio"],
                "tls_certificate_sds_secret_configs": [encode(f"{TLS}SdsSecretConfig", ADS)],
                "combined_validation_context": {
                    "default_validation_context": context,
                    "validation_context_sds_secret_config": encode(f"{TLS}SdsSecretConfig", {**ADS, "name": "ROOTCA"}),
                },
            },
            sni="a.example",
        )
    )
    assert found is not None
    assert (found.certificate, found.roots) == (SecretRef("default"), SecretRef("ROOTCA"))
    assert found.names == (NameMatch("exact", "spiffe://a/ns/b/sa/c"),)
    assert (found.protocols, found.server_name) == (("istio-peer-exchange", "istio"), "a.example")
    assert (found.minimum_version, found.maximum_version) == ("1.2", "1.3")
    assert (found.ciphers, found.groups) == (("A", "B", "C"), ("P-256",))
    assert (found.refusal, found.warnings) == ("", ())


SECRET = encode(f"{TLS}SdsSecretConfig", ADS)


@pytest.mark.parametrize(
    ("kind", "common", "fields", "reason"),
    [
        ("DownstreamTlsContext", {}, {"require_sni": True}, "require_sni is not evaluated"),
        ("UpstreamTlsContext", {}, {"auto_host_sni": True}, "auto_host_sni is not evaluated"),
        ("UpstreamTlsContext", {}, {"auto_sni_san_validation": True}, "auto_sni_san_validation is not evaluated"),
        ("UpstreamTlsContext", {"tls_certificates": [b"\x0a\x00"]}, {}, "tls_certificates is not evaluated"),
        ("UpstreamTlsContext", {"validation_context": b"\x0a\x00"}, {}, "validation_context is not evaluated"),
        ("UpstreamTlsContext", {"custom_handshaker": {"name": "x"}}, {}, "custom_handshaker is not evaluated"),
        (
            "UpstreamTlsContext",
            {"tls_certificate_sds_secret_configs": [SECRET] * 2},
            {},
            "2 certificates; one is served",
        ),
        (
            "UpstreamTlsContext",
            {"tls_params": {"signature_algorithms": ["rsa_pss_rsae_sha256"]}},
            {},
            "signature_algorithms is not evaluated",
        ),
        (
            "UpstreamTlsContext",
            {
                "combined_validation_context": {
                    "default_validation_context": encode(
                        f"{TLS}CertificateValidationContext", {"verify_certificate_spki": ["x"]}
                    )
                }
            },
            {},
            "pinned keys",
        ),
        ("StartTlsConfig", {}, {}, "is not spoken"),
    ],
)
def test_what_is_not_evaluated_refuses(kind: str, common: dict[str, Any], fields: dict[str, Any], reason: str) -> None:
    if kind == "StartTlsConfig":
        raw = encode(SOCKET, {"name": "envoy.transport_sockets.starttls"})
    else:
        raw = socket(kind, common, **fields)
    found = tls_settings(raw)
    assert found is not None
    assert reason in found.refusal


def test_an_unknown_field_refuses() -> None:
    common = encode(f"{TLS}CommonTlsContext", {}) + b"\xf8\x7d\x01"
    config = {"@type": f"type.googleapis.com/{TLS}DownstreamTlsContext", "common_tls_context": common}
    raw = encode(
        "envoy.config.core.v3.TransportSocket", {"name": "envoy.transport_sockets.tls", "typed_config": config}
    )
    found = tls_settings(raw)
    assert found is not None
    assert found.refusal.startswith("unknown fields: ")


def test_what_opens_nothing_is_a_warning() -> None:
    found = tls_settings(socket("UpstreamTlsContext", {"key_log": b"\x0a\x00"}, allow_renegotiation=True))
    assert found is not None
    assert found.refusal == ""
    assert found.warnings == ("allow_renegotiation: no renegotiation", "key_log: keys are never logged")
