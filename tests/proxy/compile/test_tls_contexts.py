"""Contexts of TLS from settings and accepted secrets: built once, and again exactly when something changed."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from eastgate.fastpath.tls.context import Context
from eastgate.fastpath.tls.context_spec import ContextSpec
from eastgate.proxy.compile import tls_contexts
from eastgate.proxy.compile.tls_contexts import TlsContexts
from eastgate.xds.secret import Secret, decode_secret
from eastgate.xds.tls_records import NameMatch, SecretRef, TlsSettings

from ...support.authority import Authority
from ...support.tls_messages import CERTIFICATE, ROOTS, secrets

ROOT = Authority("root")
DEFAULT, TRUST = SecretRef(CERTIFICATE), SecretRef(ROOTS)
SERVER = TlsSettings(
    is_server=True,
    certificate=DEFAULT,
    roots=TRUST,
    names=(NameMatch("prefix", "spiffe://a/", "URI"),),
    requires_certificate=True,
)


def accepted(authority: Authority = ROOT, name: str = "spiffe://a/b") -> dict[SecretRef, Secret]:
    raw = secrets(authority.issue(name), authority.pem)
    return {SecretRef(one): decode_secret(raw[one], datetime.now(UTC)) for one in raw}


def test_equal_settings_share_a_context() -> None:
    contexts, known = TlsContexts(), accepted()
    one = contexts.use(SERVER, known)
    assert one.context is not None
    assert one.closed == ""
    assert contexts.use(replace(SERVER), known) is one


def test_a_rotation_of_either_secret_makes_a_new_one() -> None:
    contexts, known = TlsContexts(), accepted()
    one = contexts.use(SERVER, known)
    later = accepted()
    for ref in (DEFAULT, TRUST):
        rotated = contexts.use(SERVER, {**known, ref: later[ref]})
        same_roots = ref == TRUST and later[ref].digest == known[ref].digest
        assert (rotated.context is one.context) == same_roots
    other = accepted(Authority("other"))
    assert contexts.use(SERVER, {**known, TRUST: other[TRUST]}).context is not one.context


def test_what_nobody_asks_for_is_let_go() -> None:
    contexts, known = TlsContexts(), accepted()
    one = contexts.use(SERVER, known)
    contexts.forget_unasked()
    assert contexts.use(SERVER, known) is one
    contexts.forget_unasked()
    contexts.forget_unasked()
    assert contexts.use(SERVER, known) is not one


def test_a_secret_that_has_not_come_is_waited_for() -> None:
    known = accepted()
    for missing in (DEFAULT, TRUST):
        found = TlsContexts().use(SERVER, {ref: one for ref, one in known.items() if ref != missing})
        assert (found.context, found.waits) == (None, True)
        assert found.closed == f"secret {missing.name} has not arrived"


def test_what_cannot_be_used_says_why() -> None:
    known = accepted()
    refused = replace(known[TRUST], refusal="a revocation list (crl) is not evaluated")
    swapped = {DEFAULT: known[TRUST], TRUST: known[DEFAULT]}
    cases = {
        TlsContexts().use(replace(SERVER, refusal="because"), known).closed: "because",
        TlsContexts().use(SERVER, {**known, TRUST: refused}).closed: f"secret {ROOTS}: {refused.refusal}",
        TlsContexts().use(SERVER, swapped).closed: f"secret {ROOTS} holds no certificate",
        TlsContexts().use(replace(SERVER, certificate=None), known).closed: "a server needs a certificate",
        TlsContexts().use(replace(SERVER, roots=DEFAULT), known).closed: f"secret {CERTIFICATE} holds nothing to trust",
    }
    assert list(cases) == list(cases.values())


def test_settings_of_the_process_reach_every_context(monkeypatch: pytest.MonkeyPatch) -> None:
    specs: list[ContextSpec] = []

    class Seen:
        @staticmethod
        def build(spec: ContextSpec) -> Context:
            specs.append(spec)
            return Context.build(spec)

    monkeypatch.setattr(tls_contexts, "Context", Seen)
    TlsContexts().use(SERVER, accepted())
    TlsContexts(resumes=False, strict_end=True).use(SERVER, accepted())
    assert [(spec.resumes, spec.strict_end) for spec in specs] == [(True, False), (False, True)]
