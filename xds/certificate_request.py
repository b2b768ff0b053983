"""The messages of istio.v1.auth.IstioCertificateService (istio's api repository, security/v1alpha1/ca.proto).

Envoy's API does not hold them. Both sides are here: who asks for a certificate, and a control plane that signs.
"""

from collections.abc import Sequence
from typing import Any

from .message import encode_field
from .record import record
from .schema import FieldSchema
from .wire import Schema

SERVICE = "istio.v1.auth.IstioCertificateService"
CREATE = f"/{SERVICE}/CreateCertificate"

_REQUEST = f"{SERVICE}.IstioCertificateRequest"
_RESPONSE = f"{SERVICE}.IstioCertificateResponse"
_CSR = FieldSchema(1, "csr", "string")
_VALIDITY = FieldSchema(3, "validity_duration", "int64")
_CHAIN = FieldSchema(1, "cert_chain", "string", repeated=True)
_SCHEMA = Schema({_REQUEST: (_CSR, _VALIDITY), _RESPONSE: (_CHAIN,)}, {})


@record
class CertificateRequest:
    """A signing request, PEM, and how many seconds the certificate is to be good for; 0: as many as the CA likes."""

    csr: str
    validity_s: int = 0

    def __bytes__(self) -> bytes:
        return encode_field(_CSR, self.csr) + encode_field(_VALIDITY, self.validity_s)


def read_request(raw: bytes) -> CertificateRequest:
    """A request from its bytes; its metadata is not read. Raises XdsError for other bytes."""
    found: dict[str, Any] = _SCHEMA.read(_REQUEST, raw)
    return CertificateRequest(str(found.get("csr", "")), int(found.get("validity_duration", 0)))


def response(chain: Sequence[str]) -> bytes:
    """Certificates, PEM: the leaf first, the root last."""
    return encode_field(_CHAIN, list(chain))


def read_response(raw: bytes) -> tuple[str, ...]:
    """The chain of a response. Raises XdsError for other bytes."""
    return tuple(str(one) for one in _SCHEMA.read(_RESPONSE, raw).get("cert_chain", ()))
