"""Tokens by which workloads of an embedded mesh show who they are, as Kubernetes' service account tokens do.

JWTs (RFC 7519), signed with a key that only this control plane has (HS256): what it did not issue is worth nothing.
"""

import base64
import binascii
import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

AUDIENCE = "istio-ca"
HEADER = {"alg": "HS256", "typ": "JWT"}
LIFETIME = timedelta(hours=12)
KEY_BYTES = 32
SUBJECT = "system:serviceaccount:"


class TokenRefusedError(Exception):
    """A token that does not say who its bearer is; the text is one line for the client."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A service account."""

    namespace: str
    service_account: str

    def spiffe_id(self, trust_domain: str) -> str:
        """Its name in a certificate."""
        return f"spiffe://{trust_domain}/ns/{self.namespace}/sa/{self.service_account}"


def _now() -> datetime:
    return datetime.now(UTC)


class Tokens:
    """Issues tokens and knows them again. One key for the life of a process."""

    def __init__(self, *, now: Callable[[], datetime] = _now) -> None:
        self._key = secrets.token_bytes(KEY_BYTES)
        self._now = now

    def issue(self, caller: Caller, lifetime: timedelta = LIFETIME) -> str:
        """A token for a service account."""
        end = int((self._now() + lifetime).timestamp())
        subject = f"{SUBJECT}{caller.namespace}:{caller.service_account}"
        parts = [_encoded(HEADER), _encoded({"aud": [AUDIENCE], "exp": end, "sub": subject})]
        return ".".join((*parts, self._signature(*parts)))

    def check(self, token: str) -> Caller:
        """Who bears it. Raises TokenRefusedError."""
        parts = token.split(".")
        if len(parts) != 3 or not hmac.compare_digest(self._signature(*parts[:2]).encode(), parts[2].encode()):
            raise TokenRefusedError("the token was not issued here")
        said = _decoded(parts[1])
        if AUDIENCE not in said.get("aud", ()):
            raise TokenRefusedError(f"the token is not for {AUDIENCE}")
        if said.get("exp", 0) <= self._now().timestamp():
            raise TokenRefusedError("the token has expired: read it anew for each request")
        namespace, _, account = str(said.get("sub", "")).removeprefix(SUBJECT).partition(":")
        return Caller(namespace, account)

    def _signature(self, header: str, payload: str) -> str:
        return _base64(hmac.digest(self._key, f"{header}.{payload}".encode(), "sha256"))


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _encoded(content: object) -> str:
    return _base64(json.dumps(content, separators=(",", ":")).encode())


def _decoded(text: str) -> dict[str, Any]:
    try:
        content = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error) as error:
        raise TokenRefusedError("the token cannot be read") from error
    if not isinstance(content, dict):
        raise TokenRefusedError("the token cannot be read")
    return content
