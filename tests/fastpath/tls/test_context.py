"""Contexts that cannot be built say why, and never show a key."""

import pytest
from eastgate.fastpath.tls.context import Context, TlsContextError, alpn_wire
from eastgate.fastpath.tls.context_spec import ContextSpec
from eastgate.xds.tls_records import NameMatch

from tests.support.authority import Authority

ROOT = Authority("root")
ONE, OTHER = ROOT.issue("spiffe://a/b"), ROOT.issue("spiffe://a/c")
DAMAGED = ROOT.pem.replace(b"MII", b"MIJ")
URI = NameMatch("prefix", "spiffe://a/", "URI")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (ContextSpec(is_server=True), "a server needs a certificate"),
        (ContextSpec(is_server=True, chain=b"x", private_key=b"y"), "certificate chain: no certificate in PEM form"),
        (ContextSpec(is_server=True, chain=ONE.chain, private_key=b"y"), "private key: not one in PEM form"),
        (ContextSpec(is_server=True, chain=ONE.chain, private_key=OTHER.key), "does not belong to the certificate"),
        (ContextSpec(is_server=False, roots=b"no"), "roots: no certificate in PEM form"),
        (ContextSpec(is_server=False, roots=ROOT.pem + DAMAGED), "roots: certificate 2 cannot be read: "),
        (ContextSpec(is_server=False, roots=ROOT.pem + ROOT.pem[:-40]), "roots: certificate 2 cannot be read: "),
        (
            ContextSpec(is_server=True, chain=ONE.chain + DAMAGED, private_key=ONE.key),
            "certificate chain: certificate 2 cannot be read: ",
        ),
        (ContextSpec(is_server=False, names=(URI,)), "cannot be checked without roots"),
        (
            ContextSpec(is_server=True, chain=ONE.chain, private_key=ONE.key, requires_certificate=True),
            "cannot be checked without roots",
        ),
        (
            ContextSpec(is_server=False, roots=ROOT.pem, names=(NameMatch("safe_regex", ".*"),)),
            "safe_regex of any name is not evaluated",
        ),
        (
            ContextSpec(is_server=False, roots=ROOT.pem, names=(NameMatch("exact", "1.2.3.4", "IP_ADDRESS"),)),
            "exact of IP_ADDRESS is not evaluated",
        ),
        (ContextSpec(is_server=False, ciphers="nothing"), "cipher list 'nothing'"),
        (ContextSpec(is_server=False, groups="nothing"), "groups 'nothing'"),
        (ContextSpec(is_server=False, minimum_version="1.0"), "only 1.2 and 1.3"),
        (ContextSpec(is_server=False, protocols=("",)), "its length is not 1 to 255"),
        (ContextSpec(is_server=False, protocols=("x" * 256,)), "its length is not 1 to 255"),
    ],
)
def test_what_cannot_be_used_is_said(spec: ContextSpec, reason: str) -> None:
    with pytest.raises(TlsContextError) as raised:
        Context.build(spec)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_encrypted_key_asks_nobody_for_a_password() -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(ONE.key, None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    with pytest.raises(TlsContextError, match="without a password"):
        Context.build(ContextSpec(is_server=True, chain=ONE.chain, private_key=locked))


def test_a_spec_does_not_show_its_key() -> None:
    spec = ContextSpec(is_server=True, chain=ONE.chain, private_key=ONE.key)
    assert "PRIVATE" not in repr(spec) + str(spec)


def test_alpn_has_the_form_of_the_wire() -> None:
    assert alpn_wire(("istio", "h2")) == b"\x05istio\x02h2"
