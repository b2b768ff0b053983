"""Certificates and signing requests of a version that there is none of, as one flipped bit makes them."""

import base64
import re

V3, V2 = bytes.fromhex("a003020102"), bytes.fromhex("a003020101")
V1 = bytes.fromhex("020100")
PEM = re.compile(rb"(-----BEGIN [A-Z ]+-----\n)(.*?)(-----END [A-Z ]+-----\n?)", re.DOTALL)


def without_version(pem: bytes) -> bytes:
    """A certificate, or a request, whose version number is none."""
    found = PEM.fullmatch(pem)
    assert found is not None
    head, body, end = found.groups()
    raw = base64.b64decode(body)
    changed = raw.replace(V3, V2, 1) if head == b"-----BEGIN CERTIFICATE-----\n" else raw.replace(V1, b"\2\1\7", 1)
    assert changed != raw
    return head + base64.encodebytes(changed) + end
