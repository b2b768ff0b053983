"""Secrets whose names say which files they are in, read as pilot-agent reads them for a proxy beside it.

istiod writes them for what a DestinationRule's TLS names by path (caCertificates, clientCertificate, privateKey):
`file-cert:CERTIFICATE~KEY`, `file-root:CERTIFICATES`, and `file-root:system` for what the machine trusts (istio:
pkg/security, SdsCertificateConfig).
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence

from .local_secrets import apply, certificate_secret, file_content, file_stamp, roots_secret
from .log import Log
from .record import record
from .sds import SdsStatistics
from .secret_store import SecretSnapshot, SecretStore

LOOK_S = 2.0
# Where distributions keep it: Go's list (crypto/x509, root_linux.go), which pilot-agent goes through.
SYSTEM_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_CERTIFICATE, _ROOTS, _SEPARATOR, _SYSTEM = "file-cert:", "file-root:", "~", "system"

_log = Log("xds")


@record
class Named:
    """Paths that a name says: of a certificate and its key, or of what to trust. ``reason``: why it says none."""

    paths: tuple[str, ...] = ()
    is_certificate: bool = False
    reason: str = ""


def named(name: str, system_roots: Sequence[str] = SYSTEM_ROOTS) -> Named | None:
    """What a secret's name says of files; None where it does not begin like one that does."""
    if name.startswith(_CERTIFICATE):
        paths = tuple(name.removeprefix(_CERTIFICATE).split(_SEPARATOR))
        wanted, is_certificate = 2, True
    elif name.startswith(_ROOTS):
        paths = tuple(name.removeprefix(_ROOTS).split(_SEPARATOR))
        wanted, is_certificate = 1, False
        if paths == (_SYSTEM,):
            paths = tuple(filter(os.path.exists, system_roots))[:1]
            if not paths:
                return Named(reason=f"this machine has no file of what it trusts, such as {system_roots[0]}")
    else:
        return None
    if len(paths) != wanted or not all(paths):
        return Named(reason=f"it names no files: {_CERTIFICATE}CERTIFICATE{_SEPARATOR}KEY or {_ROOTS}CERTIFICATES")
    return Named(paths, is_certificate)


class NamedFiles:
    """Keeps those secrets of one source in `store` whose names say files in step with these. Made and run on one loop.

    They are read as soon as they are wanted. Files that cannot be used, as while they are being written, change
    nothing; they are looked at again, and a line says why, once until that changes.
    """

    def __init__(
        self,
        source: str,
        store: SecretStore,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        system_roots: Sequence[str] = SYSTEM_ROOTS,
    ) -> None:
        self.source = source
        self.statistics = SdsStatistics()
        self._store = store
        self._sleep = sleep
        self._system_roots = system_roots
        # What the files of each name were when it was read last.
        self._seen: dict[str, object] = {}
        self._version = 0
        self._closed = False

    async def run(self) -> None:
        """Follow the files until close() is called or the caller cancels."""
        forget = self._store.on_change(self._noted)
        try:
            while not self._closed:
                self.look()
                await self._sleep(LOOK_S)
        finally:
            forget()

    def close(self) -> None:
        """run() returns within the time between two looks."""
        self._closed = True

    def awaits(self, name: str) -> bool:
        """Never: a name is answered the moment it is wanted, and a file that is not there may never come."""
        return False

    def look(self) -> None:
        """Read what has changed since the last look, and put it into the store."""
        wanted = self._store.wanted(self.source)
        for known in (self._seen, self.statistics.errors):
            for name in set(known).difference(wanted):
                del known[name]
        for name in wanted:
            self._look_at(name)

    def _noted(self, snapshot: SecretSnapshot) -> None:
        """One that is wanted only now, or again, is not waited for until the next look."""
        for ref in snapshot.missing:
            if ref.source == self.source and ref.name not in self.statistics.errors:
                self._look_at(ref.name)

    def _look_at(self, name: str) -> None:
        found = named(name, self._system_roots)
        if found is None:
            return
        seen = tuple(map(file_stamp, found.paths))
        if self._seen.get(name) == seen and name in self._store.held(self.source):
            return
        # Before it is put into the store, which tells of it at once.
        self._seen[name] = seen
        self.statistics.update_attempt += 1
        reason = found.reason or self._read(name, found)
        if not reason:
            self.statistics.update_success += 1
            self.statistics.errors.pop(name, None)
            return
        # What was read while it was being written is read again.
        self._seen[name] = None
        if self.statistics.errors.get(name) != reason:
            self.statistics.errors[name] = reason
            self.statistics.update_failure += 1
            _log.warning("secret_file", source=self.source, name=name, reason=reason)

    def _read(self, name: str, found: Named) -> str:
        try:
            contents = list(map(file_content, found.paths))
        except OSError as error:
            return f"{error.filename}: cannot be read: {error.strerror}"
        secret = (
            certificate_secret(*contents, name=name) if found.is_certificate else roots_secret(*contents, name=name)
        )
        self._version += 1
        rejected = apply(self._store, self.source, str(self._version), {name: secret})
        self.statistics.update_rejected += bool(rejected)
        return "; ".join(f"{' and '.join(found.paths)}: {one.reason}" for one in rejected)
