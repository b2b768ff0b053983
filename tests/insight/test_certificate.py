"""What a certificate says of itself, and bytes that are none."""

import ssl

import pytest
from eastgate.insight.certificate import read_certificate

from ..support.secrets import SPIFFE, keyed
from ..support.x509_versions import without_version

PEM = keyed(SPIFFE, "a.svc").certificate


def der(pem: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.decode())


def test_names_are_read() -> None:
    found = read_certificate(der(PEM))
    assert (found.spiffe, found.names) == (SPIFFE, ("a.svc",))


def test_bytes_that_are_no_certificate_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="1 is not a valid X509 version"):
        read_certificate(der(without_version(PEM)))
    with pytest.raises(ValueError, match="asn1"):
        read_certificate(der(PEM)[:60])
