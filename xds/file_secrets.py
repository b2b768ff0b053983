"""The workload's certificate, its key and what to trust, from files that somebody rotates. Any writer will do."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .local_secrets import CERTIFICATE, ROOTS, apply, certificate_secret, roots_secret
from .log import Log
from .sds import SdsStatistics
from .secret_store import SecretStore

LOOK_S = 2.0

_log = Log("xds")


@dataclass(frozen=True, slots=True)
class SecretFiles:
    """Paths of PEM files. ``certificate`` and ``key`` go together; each of the three may be empty."""

    certificate: str = ""
    key: str = ""
    roots: str = ""


class FileSecrets:
    """Keeps the secrets of one source in `store` in step with files. Made and run on one event loop.

    Files that do not fit together, as while they are being written, change nothing; they are looked at again.
    """

    def __init__(
        self,
        source: str,
        files: SecretFiles,
        store: SecretStore,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.source = source
        self.statistics = SdsStatistics()
        self._files = files
        self._store = store
        self._sleep = sleep
        self._seen: object = None
        self._version = 0
        self._closed = False

    async def run(self) -> None:
        """Follow the files until close() is called or the caller cancels."""
        while not self._closed:
            self.look()
            await self._sleep(LOOK_S)

    def close(self) -> None:
        """run() returns within the time between two looks."""
        self._closed = True

    def look(self) -> None:
        """Read what has changed since the last look, and put it into the store."""
        seen = (tuple(map(_stamp, self._paths())), self._store.wanted(self.source))
        if seen == self._seen or not seen[1]:
            return
        self.statistics.update_attempt += 1
        reason = self._read()
        if not reason:
            # Not before: what was read while it was being written is read again.
            self._seen = seen
            self.statistics.update_success += 1
            self.statistics.errors.clear()
        elif self.statistics.errors.get(CERTIFICATE) != reason:
            self.statistics.errors[CERTIFICATE] = reason
            self.statistics.update_failure += 1
            _log.warning("secret_files", source=self.source, reason=reason)

    def _paths(self) -> tuple[str, ...]:
        return tuple(filter(None, (self._files.certificate, self._files.key, self._files.roots)))

    def _read(self) -> str:
        found = {}
        try:
            if self._files.certificate:
                found[CERTIFICATE] = certificate_secret(_content(self._files.certificate), _content(self._files.key))
            if self._files.roots:
                found[ROOTS] = roots_secret(_content(self._files.roots))
        except OSError as error:
            return f"{error.filename}: cannot be read: {error.strerror}"
        self._version += 1
        rejected = apply(self._store, self.source, str(self._version), found)
        self.statistics.update_rejected += bool(rejected)
        return "; ".join(f"{one.name}: {one.reason}" for one in rejected)


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_ino, found.st_size)


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
