"""Secrets: what is read, what is rejected by name, what may not be used; and that a key shows itself to nobody."""

import copy
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from eastgate.xds.errors import XdsError
from eastgate.xds.message import encode, read
from eastgate.xds.secret import SECRET, PrivateKey, Secret, decode_secret, digest_of
from eastgate.xds.tls_records import NameMatch

from ..support.secrets import SPIFFE, ca_secret, keyed, tls_secret
from ..support.x509_versions import without_version
from .istiod import number_field

NOW = datetime.now(UTC)
PAIR = keyed(SPIFFE, "a.svc", serial=0xF05C)


def decoded(raw: bytes) -> Secret:
    return decode_secret(raw, NOW, "v1")


def reason(raw: bytes) -> str:
    with pytest.raises(XdsError) as caught:
        decoded(raw)
    assert (caught.value.kind, caught.value.resource) == ("SDS", "default")
    return caught.value.reason


def certificate(**fields: Any) -> bytes:
    value = {
        "certificate_chain": {"inline_string": PAIR.certificate.decode()},
        "private_key": {"inline_string": PAIR.key.decode()},
    }
    return encode(SECRET, {"name": "default", "tls_certificate": {**value, **fields}})


def trust(**fields: Any) -> bytes:
    value = {"trusted_ca": {"inline_bytes": PAIR.certificate}}
    return encode(SECRET, {"name": "default", "validation_context": {**value, **fields}})


def test_a_certificate_and_its_key() -> None:
    for raw in (tls_secret("default", PAIR), certificate()):
        found = decoded(raw)
        assert found.tls_certificate is not None
        assert found.tls_certificate.chain == PAIR.certificate
        assert found.tls_certificate.private_key.pem() == PAIR.key
        (own,) = found.certificates
        assert (own.serial, own.names) == ("f05c", (("uri", SPIFFE), ("dns", "a.svc")))
        assert own.days_left(NOW) in (89, 90)
        assert own.days_left(NOW + timedelta(days=100)) == 0
        assert (found.version, found.updated, found.refusal, found.warnings) == ("v1", NOW, "", ())


def test_what_to_trust() -> None:
    found = decoded(ca_secret("ROOTCA", PAIR.certificate, keyed("b").certificate))
    assert found.validation_context is not None
    assert found.validation_context.trusted_ca.startswith(PAIR.certificate)
    assert len(found.certificates) == 2
    names = [{"prefix": "spiffe://cluster.local/"}, {"exact": SPIFFE, "ignore_case": True}]
    typed = [{"san_type": "URI", "matcher": {"safe_regex": {"regex": "spiffe://.*"}}}]
    found = decoded(trust(match_subject_alt_names=names, match_typed_subject_alt_names=typed))
    assert found.validation_context is not None
    assert found.validation_context.match_names == (
        NameMatch("safe_regex", "spiffe://.*", "URI"),
        NameMatch("prefix", "spiffe://cluster.local/"),
        NameMatch("exact", SPIFFE, ignore_case=True),
    )
    assert found.refusal == ""


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (tls_secret("default", PAIR, key=keyed("x").key), "tls_certificate.private_key is not the key of its certif"),
        (tls_secret("default", keyed("x", days=-0.5)), "its certificate expired at 20"),
        (ca_secret("default", keyed("x", days=-0.5).certificate), "its trusted certificates expired at 20"),
        (tls_secret("default", PAIR, key=b"no key"), "private_key is no unencrypted PEM key of a supported kind"),
        (certificate(certificate_chain={"inline_bytes": b"x"}), "certificate_chain holds no PEM certificate"),
        (
            certificate(certificate_chain={"inline_bytes": without_version(PAIR.certificate)}),
            "certificate_chain holds no PEM certificate",
        ),
        (ca_secret("default", without_version(PAIR.certificate)), "trusted_ca holds no PEM certificate"),
        (certificate(private_key={}), "tls_certificate.private_key is missing or empty"),
        (certificate(private_key={"filename": "/key"}), "private_key.filename: only inline text is read"),
        (certificate(password={"inline_string": "secret"}), "tls_certificate.password: encrypted keys are not"),
        (certificate(private_key_provider=b""), "tls_certificate.private_key_provider: keys that a provider holds"),
        (trust(trusted_ca={}), "validation_context.trusted_ca is missing or empty"),
        (encode(SECRET, {"name": "default", "generic_secret": b""}), "generic_secret is not used"),
        (encode(SECRET, {"name": "default"}), "it holds nothing"),
    ],
)
def test_what_cannot_be_used_is_rejected_by_name(raw: bytes, expected: str) -> None:
    assert expected in reason(raw)


def test_an_encrypted_key_is_rejected() -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(PAIR.key, None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    assert "no unencrypted PEM key" in reason(tls_secret("default", PAIR, key=encrypted))


def test_a_restriction_that_is_not_evaluated_refuses() -> None:
    assert "crl" in decoded(trust(crl={"inline_bytes": b"x"})).refusal
    assert "pinned hashes" in decoded(trust(verify_certificate_hash=["00"])).refusal
    assert "pinned keys" in decoded(trust(verify_certificate_spki=["00"])).refusal
    assert "subject alternative names" in decoded(trust(match_subject_alt_names=[{"custom": b""}])).refusal
    other = [{"san_type": "OTHER_NAME", "matcher": {"exact": "x"}, "oid": "1.2.3"}]
    assert "subject alternative names" in decoded(trust(match_typed_subject_alt_names=other)).refusal
    assert decoded(trust() + number_field(99, 1)).refusal == "unknown fields: #99"
    laxer = decoded(trust(allow_expired_certificate=True, trust_chain_verification="ACCEPT_UNTRUSTED"))
    assert laxer.refusal == ""
    assert laxer.warnings == (
        "validation_context.allow_expired_certificate: expired certificates are not accepted",
        "validation_context.trust_chain_verification: certificates must be trusted",
    )


@pytest.mark.parametrize("empty", [{}, {"inline_bytes": b""}, {"inline_string": ""}])
def test_an_empty_revocation_list_revokes_nothing(empty: dict) -> None:
    """pilot-agent's roots always have the field; Envoy reads an empty one as none."""
    assert decoded(trust(crl=empty)).refusal == ""


@pytest.mark.parametrize("held", [{"inline_string": "x"}, {"environment_variable": "CRL"}])
def test_a_revocation_list_from_anywhere_refuses(held: dict) -> None:
    assert "crl" in decoded(trust(crl=held)).refusal


def test_a_revocation_list_in_a_file_is_read_at_each_answer(tmp_path: Path) -> None:
    """pilot-agent names a file that its pod mounts, empty unless there is a list, and answers again at a change."""
    file = tmp_path / "ca-crl.pem"
    raw = trust(crl={"filename": str(file)})
    assert reason(raw) == f"validation_context.crl: {file}: No such file or directory"
    file.write_bytes(b"\n")
    first = decoded(raw)
    assert first.refusal == ""
    # Equal bytes say nothing of the file: they are decoded again.
    assert first.digest != digest_of(raw)
    file.write_bytes(b"-----BEGIN X509 CRL-----")
    assert "crl" in decoded(raw).refusal


def test_what_is_near_its_limits_is_said() -> None:
    early = decoded(tls_secret("default", keyed("x", begin_days=1)))
    assert early.warnings[0].startswith("tls_certificate: not valid before 20")
    partly = decoded(ca_secret("ROOTCA", PAIR.certificate, keyed("x", days=-0.5).certificate))
    assert partly.warnings == ("validation_context: 1 of 2 trusted certificates have expired",)


def test_a_key_shows_itself_to_nobody() -> None:
    secret = decoded(tls_secret("default", PAIR))
    assert secret.tls_certificate is not None
    key = secret.tls_certificate.private_key
    material = b"".join(PAIR.key.splitlines()[1:-1])
    for shown in (repr(key), str(key), f"{key}", repr(secret), f"{secret!r}", str(secret.tls_certificate)):
        assert "PRIVATE" not in shown
        assert material[:20].decode() not in shown
    for write in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not written anywhere"):
            write(key)
    assert key == PrivateKey(PAIR.key)
    assert key != PrivateKey(b"other")
    assert not hasattr(key, "__dict__")


def test_what_may_be_shown_has_the_key_replaced() -> None:
    shown = read(SECRET, decoded(tls_secret("default", PAIR)).public)["tls_certificate"]
    assert shown["private_key"] == {"inline_bytes": b"[redacted]"}
    assert shown["certificate_chain"] == {"inline_bytes": PAIR.certificate}
    text = read(SECRET, decoded(certificate()).public)["tls_certificate"]
    assert text["private_key"] == {"inline_string": "[redacted]"}


def test_a_key_that_stands_in_another_place_is_not_shown_either() -> None:
    both = certificate(certificate_chain={"inline_bytes": PAIR.key + PAIR.certificate})
    found = decoded(both)
    assert found.tls_certificate is not None
    assert b"PRIVATE" not in found.tls_certificate.chain
    assert b"BEGIN CERTIFICATE" in found.public
    assert b"PRIVATE" not in found.public
    misplaced = decoded(trust(trusted_ca={"inline_bytes": PAIR.certificate + PAIR.key}))
    assert b"PRIVATE" not in misplaced.public


def test_reasons_hold_nothing_of_a_broken_key() -> None:
    lines = PAIR.key.splitlines()
    broken = b"\n".join([*lines[:2], b"!!!!", *lines[2:]])
    said = reason(tls_secret("default", PAIR, key=broken))
    assert not any(line.decode() in said for line in lines)


def test_a_key_that_is_let_go_is_overwritten() -> None:
    key = PrivateKey(b"secret")
    kept = key._pem
    assert key.pem() == b"secret"
    del key
    assert kept == bytes(6)
