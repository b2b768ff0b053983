"""Secrets that are made on this machine, put into the store as if an SDS server had sent them.

Certificates of the workload are "default" and what to trust is "ROOTCA", as pilot-agent calls them.
"""

import errno
import os
import re
import stat
from collections.abc import Mapping

from .message import encode
from .resources import Rejection
from .secret import SECRET
from .secret_store import SDS, SecretStore

CERTIFICATE = "default"
ROOTS = "ROOTCA"
# A machine's own bundle of roots has about 250 kB.
LARGEST_FILE = 4 * 1024 * 1024
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def file_content(path: str) -> bytes:
    """The bytes of a file of certificates or a key. Raises OSError, also for what is no file: waiting for a pipe, or
    reading an endless device, would stop the control side.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a file", path)
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise OSError(errno.EFBIG, f"it has more than {LARGEST_FILE} bytes", path)
    return content


def file_stamp(path: str) -> tuple[int, int, int]:
    """What differs once a file was written or replaced; zeros while there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_ino, found.st_size)


def certificate_secret(chain: bytes, key: bytes, *, name: str = CERTIFICATE) -> bytes:
    """A Secret with a certificate chain and its key, both PEM."""
    pair = {"certificate_chain": {"inline_bytes": chain}, "private_key": {"inline_bytes": key}}
    return encode(SECRET, {"name": name, "tls_certificate": pair})


def roots_secret(*bundles: bytes, name: str = ROOTS) -> bytes:
    """A Secret with what to trust: each certificate of these PEM bundles once."""
    found = {b"".join(one.split()): one for bundle in bundles for one in _CERTIFICATE.findall(bundle)}
    pem = b"".join(one + b"\n" for one in found.values())
    return encode(SECRET, {"name": name, "validation_context": {"trusted_ca": {"inline_bytes": pem}}})


def apply(store: SecretStore, source: str, version: str, secrets: Mapping[str, bytes]) -> tuple[Rejection, ...]:
    """Put those of these that are wanted of a source into the store; return what was rejected."""
    wanted = store.wanted(source)
    packed = [
        encode("google.protobuf.Any", {"type_url": SDS, "value": secret})
        for name, secret in secrets.items()
        if name in wanted
    ]
    return store.apply(version, packed, source=source) if packed else ()
