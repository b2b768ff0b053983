"""Certificates of the trial CA as the secrets that sidecars ask for: `default` and `ROOTCA`."""

from collections.abc import Iterable

from envoy_data_plane.envoy.config.core.v3 import DataSource
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    Secret,
    TlsCertificate,
)

from .ca import WorkloadCertificate
from .messages import PREFIX
from .tls_contexts import CERTIFICATE, ROOTS

SDS = PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"


def secrets_of(certificate: WorkloadCertificate, names: Iterable[str]) -> dict[str, bytes]:
    """Those of these names that there are, as bytes. Raises LookupError for a name that nobody has."""
    made = {
        CERTIFICATE: Secret(
            name=CERTIFICATE,
            tls_certificate=TlsCertificate(
                certificate_chain=DataSource(inline_bytes=certificate.chain.encode()),
                private_key=DataSource(inline_bytes=certificate.key.encode()),
            ),
        ),
        ROOTS: Secret(
            name=ROOTS,
            validation_context=CertificateValidationContext(
                trusted_ca=DataSource(inline_bytes=certificate.root.encode())
            ),
        ),
    }
    wanted = list(names)
    for name in wanted:
        if name not in made:
            raise LookupError(f"no secret {name!r}: there are {CERTIFICATE} and {ROOTS}")
    return {name: bytes(made[name]) for name in wanted}
