"""The workload's certificate, its key and what to trust, from files that somebody rotates. Any writer will do."""

import asyncio
from collections.abc import Awaitable, Callable

from .local_secrets import CERTIFICATE, ROOTS, apply, certificate_secret, file_content, file_stamp, roots_secret
from .log import Log
from .record import record
from .sds import SdsStatistics
from .secret_store import SecretStore

LOOK_S = 2.0

_log = Log("xds")


@record
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

    def awaits(self, name: str) -> bool:
        """Whether it is this source that brings a secret of this name, if late."""
        return name in (CERTIFICATE, ROOTS)

    def look(self) -> None:
        """Read what has changed since the last look, and put it into the store."""
        wanted = set(self._store.wanted(self.source))
        # Wanted only now, or again: the store forgets what nobody wants.
        missing = wanted.intersection(self._offered()).difference(self._store.held(self.source))
        seen = tuple(map(file_stamp, self._paths()))
        if not wanted or (seen == self._seen and not missing):
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

    def _offered(self) -> tuple[str, ...]:
        offered = ((CERTIFICATE, self._files.certificate), (ROOTS, self._files.roots))
        return tuple(name for name, path in offered if path)

    def _paths(self) -> tuple[str, ...]:
        return tuple(filter(None, (self._files.certificate, self._files.key, self._files.roots)))

    def _read(self) -> str:
        found = {}
        try:
            if self._files.certificate:
                found[CERTIFICATE] = certificate_secret(
                    file_content(self._files.certificate), file_content(self._files.key)
                )
            if self._files.roots:
                found[ROOTS] = roots_secret(file_content(self._files.roots))
        except OSError as error:
            return f"{error.filename}: cannot be read: {error.strerror}"
        self._version += 1
        rejected = apply(self._store, self.source, str(self._version), found)
        self.statistics.update_rejected += bool(rejected)
        return "; ".join(f"{one.name}: {one.reason}" for one in rejected)
