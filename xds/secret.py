"""Secrets from SDS: certificates with their keys, and what to trust. Frozen; who prints a secret sees no key.

A secret is accepted whole or not at all: a key that does not fit, or a certificate that has expired, is rejected by
name. Restrictions that eastgate does not evaluate (a CRL, pinned hashes) are never skipped: ``refusal`` says so, and
whoever wants to trust by such a secret must not.

Reasons are sentences of ours, never a library's: nothing of a key gets into a message by way of them.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .assignment import read_text
from .errors import XdsError
from .message import encode, read
from .record import record
from .tls_records import NameMatch
from .wire import unknown_fields

if TYPE_CHECKING:
    from cryptography import x509

KIND = "SDS"
SECRET = "envoy.extensions.transport_sockets.tls.v3.Secret"
REDACTED = b"[redacted]"
_DAY_S = 86_400

_TLS_REFUSED = {
    "password": "encrypted keys are not supported",
    "private_key_provider": "keys that a provider holds are not supported",
    "pkcs12": "PKCS #12 is not supported",
}
_TLS_WARNINGS = {"ocsp_staple": "not stapled", "signed_certificate_timestamp": "not sent"}
_VALIDATION_REFUSALS = {
    "crl": "a revocation list (crl) is not evaluated",
    "verify_certificate_hash": "pinned hashes (verify_certificate_hash) are not evaluated",
    "verify_certificate_spki": "pinned keys (verify_certificate_spki) are not evaluated",
    "require_signed_certificate_timestamp": "certificate timestamps are not evaluated",
    "custom_validator_config": "a custom validator is not evaluated",
    "ca_certificate_provider_instance": "trust that a provider holds is not evaluated",
    "system_root_certs": "the system's roots are not used",
    "max_verify_depth": "max_verify_depth is not evaluated",
}
# What would be laxer than what is done without it.
_VALIDATION_WARNINGS = {
    "allow_expired_certificate": "expired certificates are not accepted",
    "trust_chain_verification": "certificates must be trusted",
}
# Of a validation context beside what it trusts.
_VALIDATION_SHOWN = (
    "verify_certificate_hash",
    "verify_certificate_spki",
    "match_subject_alt_names",
    "match_typed_subject_alt_names",
    "allow_expired_certificate",
    "trust_chain_verification",
)
_KEY_MARK = b"PRIVATE KEY-----"
_SAN_TYPES = ("EMAIL", "DNS", "URI", "IP_ADDRESS", "")
_PATTERNS = ("exact", "prefix", "suffix", "contains", "safe_regex")


class PrivateKey:
    """A private key as PEM. Neither printed, compared in readable time, copied nor pickled: ask for `pem()`.

    The copy that is kept here is overwritten when it is let go, as by a rotation. What it was made of is not ours.
    """

    __slots__ = ("_pem",)

    def __init__(self, pem: bytes) -> None:
        self._pem = bytearray(pem)

    def __del__(self) -> None:
        self._pem[:] = bytes(len(self._pem))

    def pem(self) -> bytes:
        """The key itself. For whoever terminates or originates TLS; never for a dump, a log or a file."""
        return bytes(self._pem)

    def __repr__(self) -> str:
        return "PrivateKey([redacted])"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PrivateKey) and hmac.compare_digest(self._pem, other._pem)

    def __hash__(self) -> int:
        return hash(PrivateKey)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not written anywhere")


@record
class Certificate:
    """What operators look at. ``serial``: hexadecimal; ``names``: subject alternative names as (kind, text), the kinds
    being Envoy's: dns, uri, ip_address.
    """

    serial: str
    names: tuple[tuple[str, str], ...]
    not_before: datetime
    not_after: datetime

    def days_left(self, now: datetime) -> int:
        """Whole days until it expires, 0 when it has."""
        return max(0, int((self.not_after - now).total_seconds()) // _DAY_S)


@record
class TlsCertificate:
    """A chain, its own certificate first, and the key of that. ``chain``: the PEM text as it came."""

    chain: bytes
    certificates: tuple[Certificate, ...]
    private_key: PrivateKey


@record
class ValidationContext:
    """Whom to trust. ``trusted_ca``: PEM; ``match_names``: one of them must match where there are any."""

    trusted_ca: bytes
    certificates: tuple[Certificate, ...]
    match_names: tuple[NameMatch, ...] = ()


@record
class Secret:
    """A secret from SDS; one of ``tls_certificate`` and ``validation_context`` is there.

    ``refusal``: why it may not be used, empty otherwise. ``warnings``: what it holds and eastgate does not do. Equality
    ignores ``version`` and ``updated`` (of the response that changed it), ``digest`` (of its bytes, or empty where they
    name a file), and ``public``: the message with the key replaced, for dumps.
    """

    name: str
    tls_certificate: TlsCertificate | None = None
    validation_context: ValidationContext | None = None
    refusal: str = ""
    warnings: tuple[str, ...] = ()
    version: str = field(default="", compare=False)
    updated: datetime = field(default=datetime.min.replace(tzinfo=UTC), compare=False)
    digest: bytes = field(default=b"", compare=False, repr=False)
    public: bytes = field(default=b"", compare=False, repr=False)

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """Every certificate in it."""
        held = self.tls_certificate or self.validation_context
        return held.certificates if held else ()


def digest_of(raw: bytes) -> bytes:
    """By which equal bytes are found again without keeping them."""
    return hashlib.sha256(raw).digest()


def decode_secret(raw: bytes, now: datetime, version: str = "") -> Secret:
    """Decode the bytes inside the Any. Raises XdsError("SDS", name, reason) for a secret that cannot be used."""
    name = ""
    try:
        message = read(SECRET, raw)
        name = message.get("name", "")
        if not name:
            raise ValueError("no name")
        kinds = [kind for kind in ("tls_certificate", "validation_context") if kind in message]
        if not kinds:
            other = next((kind for kind in ("session_ticket_keys", "generic_secret") if kind in message), "")
            raise ValueError(f"{other} is not used" if other else "it holds nothing")
        unknown = unknown_fields(message)
        certificate = context = None
        warnings: list[str] = []
        refusal = ""
        if kinds == ["tls_certificate"]:
            certificate = _tls_certificate(message["tls_certificate"], now, warnings)
        else:
            context, refusal = _validation_context(message["validation_context"], now, warnings)
        if unknown:
            refusal = f"unknown fields: {', '.join(unknown)}"
        return Secret(
            name,
            certificate,
            context,
            refusal,
            tuple(warnings),
            version,
            now,
            # Equal bytes that name a file say nothing of what is in it.
            b"" if "filename" in message.get("validation_context", {}).get("crl", {}) else digest_of(raw),
            _public(name, certificate, message.get("validation_context", {}), message),
        )
    except XdsError as error:
        raise XdsError(KIND, name or read_text(raw, 1), error.reason) from None
    except ValueError as error:
        raise XdsError(KIND, name, str(error)) from None


def _public(
    name: str, certificate: TlsCertificate | None, context: Mapping[str, Any], message: Mapping[str, Any]
) -> bytes:
    """What may be shown of a secret: only what was read, and no key."""
    value: dict[str, Any] = {"name": name}
    if certificate is not None:
        said = message["tls_certificate"]
        value["tls_certificate"] = {
            "certificate_chain": _shown(said["certificate_chain"], certificate.chain),
            "private_key": _shown(said["private_key"], REDACTED),
        }
    else:
        shown = {field: item for field, item in context.items() if field in _VALIDATION_SHOWN}
        value["validation_context"] = _known({**shown, "trusted_ca": context["trusted_ca"]})
    public = encode(SECRET, value)
    # Whatever it was put into.
    return encode(SECRET, {"name": name}) if _KEY_MARK in public else public


def _shown(source: Mapping[str, Any], content: bytes) -> dict[str, Any]:
    return {"inline_bytes": content} if "inline_bytes" in source else {"inline_string": content.decode()}


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _known(item) for key, item in value.items() if key != "@unknown"}
    return [_known(item) for item in value] if isinstance(value, list) else value


def _tls_certificate(message: Mapping[str, Any], now: datetime, warnings: list[str]) -> TlsCertificate:
    for name, sentence in _TLS_REFUSED.items():
        if name in message:
            raise ValueError(f"tls_certificate.{name}: {sentence}")
    warnings += [f"tls_certificate.{name}: {what}" for name, what in _TLS_WARNINGS.items() if message.get(name)]
    chain = _inline(message, "certificate_chain", "tls_certificate")
    key = _inline(message, "private_key", "tls_certificate")
    parsed = _certificates(chain, "tls_certificate.certificate_chain")
    own = parsed[0]
    found = tuple(map(_described, parsed))
    _check_key(own, key)
    if found[0].not_after <= now:
        raise ValueError(f"its certificate expired at {found[0].not_after:%Y-%m-%dT%H:%M:%SZ}")
    if found[0].not_before > now:
        warnings.append(f"tls_certificate: not valid before {found[0].not_before:%Y-%m-%dT%H:%M:%SZ}")
    for index, one in enumerate(found[1:], 2):
        if one.not_after <= now:
            warnings.append(f"tls_certificate: certificate {index} of its chain has expired")
    if _KEY_MARK in chain:
        # Some write key and certificate into one text.
        chain = _rewritten(parsed)
    return TlsCertificate(chain, found, PrivateKey(key))


def _validation_context(
    message: Mapping[str, Any], now: datetime, warnings: list[str]
) -> tuple[ValidationContext, str]:
    refusal = validation_refusal({**message, "crl": _revocations(message.get("crl", {}))})
    warnings += [
        f"validation_context.{name}: {what}" for name, what in _VALIDATION_WARNINGS.items() if message.get(name)
    ]
    trusted = _inline(message, "trusted_ca", "validation_context")
    found = tuple(map(_described, _certificates(trusted, "validation_context.trusted_ca")))
    if all(one.not_after <= now for one in found):
        latest = max(one.not_after for one in found)
        raise ValueError(f"its trusted certificates expired at {latest:%Y-%m-%dT%H:%M:%SZ}")
    expired = sum(one.not_after <= now for one in found)
    if expired:
        warnings.append(f"validation_context: {expired} of {len(found)} trusted certificates have expired")
    names, unread = accepted_names(message)
    return ValidationContext(trusted, found, names), unread or refusal


def _revocations(source: Mapping[str, Any]) -> Mapping[str, Any]:
    """The list itself where a file holds it: pilot-agent names one that is empty unless somebody configured a list."""
    if "filename" not in source:
        return source
    file = source["filename"]
    try:
        return {"inline_bytes": Path(file).read_bytes().strip()}
    except OSError as error:
        raise ValueError(f"validation_context.crl: {file}: {error.strerror}") from None


def validation_refusal(message: Mapping[str, Any]) -> str:
    """Why a CertificateValidationContext demands what eastgate does not evaluate; empty: it does not."""
    demanded = (name for name in _VALIDATION_REFUSALS if name in message and not _demands_nothing(name, message[name]))
    return next((_VALIDATION_REFUSALS[name] for name in demanded), "")


def _demands_nothing(name: str, value: Any) -> bool:
    """A flag that is false; or an empty revocation list, which pilot-agent always sends: Envoy reads it as none."""
    return value is False or (name == "crl" and not any(value.values()))


def accepted_names(message: Mapping[str, Any]) -> tuple[tuple[NameMatch, ...], str]:
    """Names that a CertificateValidationContext accepts, typed ones first; and why one of them cannot be evaluated."""
    names: list[NameMatch] = []
    refusal = ""
    for one in message.get("match_typed_subject_alt_names", ()):
        refusal = (
            _match_name(one.get("matcher", {}), str(one.get("san_type", "SAN_TYPE_UNSPECIFIED")), names) or refusal
        )
    for one in message.get("match_subject_alt_names", ()):
        refusal = _match_name(one, "", names) or refusal
    return tuple(names), refusal


def _match_name(matcher: Mapping[str, Any], kind: str, names: list[NameMatch]) -> str:
    """Add the match of one name; or return why it cannot be evaluated."""
    how = next((one for one in _PATTERNS if one in matcher), "")
    if not how or kind not in _SAN_TYPES:
        return "a match of subject alternative names is not evaluated"
    value = matcher[how].get("regex", "") if how == "safe_regex" else matcher[how]
    names.append(NameMatch(how, value, kind, matcher.get("ignore_case", False)))
    return ""


def _inline(message: Mapping[str, Any], name: str, parent: str) -> bytes:
    source = message.get(name, {})
    for specifier in ("filename", "environment_variable"):
        if specifier in source:
            raise ValueError(f"{parent}.{name}.{specifier}: only inline text is read")
    content = source.get("inline_bytes") or source.get("inline_string", "").encode()
    if not content:
        raise ValueError(f"{parent}.{name} is missing or empty")
    return bytes(content)


def _certificates(pem: bytes, where: str) -> "list[x509.Certificate]":
    # 140 ms and 16 MB that a proxy without secrets does not spend.
    try:
        from cryptography import x509
    except ImportError:
        raise ValueError("certificates are read by the package cryptography: pip install 'eastgate[tls]'") from None

    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion):
        raise ValueError(f"{where} holds no PEM certificate") from None


def _rewritten(certificates: "Iterable[x509.Certificate]") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def _described(certificate: "x509.Certificate") -> Certificate:
    serial = certificate.serial_number
    return Certificate(
        serial=serial.to_bytes(max(1, (serial.bit_length() + 7) // 8)).hex(),
        names=tuple(_names(certificate)),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def _names(certificate: "x509.Certificate") -> Iterable[tuple[str, str]]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise ValueError("the subject alternative names of a certificate are unreadable") from None
    found = []
    for name in names:
        if isinstance(name, x509.DNSName):
            found.append(("dns", name.value))
        elif isinstance(name, x509.UniformResourceIdentifier):
            found.append(("uri", name.value))
        elif isinstance(name, x509.IPAddress):
            found.append(("ip_address", str(name.value)))
    return found


def _check_key(certificate: "x509.Certificate", pem: bytes) -> None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    try:
        key = load_pem_private_key(pem, None)
        public = [
            one.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            for one in (key.public_key(), certificate.public_key())
        ]
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("tls_certificate.private_key is no unencrypted PEM key of a supported kind") from None
    if public[0] != public[1]:
        raise ValueError("tls_certificate.private_key is not the key of its certificate")
