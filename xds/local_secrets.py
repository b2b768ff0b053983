"""Secrets that are made on this machine, put into the store as if an SDS server had sent them.

Certificates of the workload are "default" and what to trust is "ROOTCA", as pilot-agent calls them.
"""

import re
from collections.abc import Mapping

from .message import encode
from .resources import Rejection
from .secret import SECRET
from .secret_store import SDS, SecretStore

CERTIFICATE = "default"
ROOTS = "ROOTCA"
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def certificate_secret(chain: bytes, key: bytes) -> bytes:
    """A Secret with a certificate chain and its key, both PEM."""
    pair = {"certificate_chain": {"inline_bytes": chain}, "private_key": {"inline_bytes": key}}
    return encode(SECRET, {"name": CERTIFICATE, "tls_certificate": pair})


def roots_secret(*bundles: bytes) -> bytes:
    """A Secret with what to trust: each certificate of these PEM bundles once."""
    found = {b"".join(one.split()): one for bundle in bundles for one in _CERTIFICATE.findall(bundle)}
    pem = b"".join(one + b"\n" for one in found.values())
    return encode(SECRET, {"name": ROOTS, "validation_context": {"trusted_ca": {"inline_bytes": pem}}})


def apply(store: SecretStore, source: str, version: str, secrets: Mapping[str, bytes]) -> tuple[Rejection, ...]:
    """Put those of these that are wanted of a source into the store; return what was rejected."""
    wanted = store.wanted(source)
    packed = [
        encode("google.protobuf.Any", {"type_url": SDS, "value": secret})
        for name, secret in secrets.items()
        if name in wanted
    ]
    return store.apply(version, packed, source=source) if packed else ()
