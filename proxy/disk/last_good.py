"""Serve what was accepted last while no control plane answers, and keep it for the next start. Owned by the loop.

What is served from the file is stale until istiod has answered for clusters and listeners. Only what istiod sent to
this process is saved, never what came from the file.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from eastgate.proxy.control_errors import ControlErrors, Part
from eastgate.proxy.log import Log
from eastgate.xds.ads import AdsClient
from eastgate.xds.decode import CDS, LDS
from eastgate.xds.errors import XdsError
from eastgate.xds.node import NodeIdentity
from eastgate.xds.resources import Snapshot
from eastgate.xds.store import Store

from .state_file import StateError, StateFile

SAVE_INTERVAL_S = 1.0
# How often a connected stream renews the age of the file.
CONFIRM_INTERVAL_S = 60.0


# What of a node decides its configuration, and outlives a pod.
IDENTITY_KEYS = ("CLUSTER_ID", "NAMESPACE", "NETWORK", "REQUESTED_NETWORK_VIEW")
POD_LABELS = {"pod-template-hash", "controller-revision-hash"}


def identity(node: NodeIdentity) -> dict[str, Any]:
    """Whose configuration a state file holds: another pod of the same gateway in the same place has the same."""
    metadata = node.metadata
    labels = {key: value for key, value in metadata.get("LABELS", {}).items() if key not in POD_LABELS}
    found = {key: metadata.get(key, "") for key in IDENTITY_KEYS}
    return {**found, "type": node.type, "LABELS": labels, "locality": str(node.locality)}


class LastGood:
    """Restores and saves the configuration of one store; without a file it does nothing."""

    def __init__(
        self,
        file: StateFile | None,
        store: Store,
        ads: AdsClient,
        *,
        publish: Callable[[Snapshot], Awaitable[Iterable[XdsError]]],
        errors: ControlErrors | None = None,
    ) -> None:
        self._errors = errors if errors is not None else ControlErrors()
        self.save_failed = 0
        self._file = file
        self._store = store
        self._ads = ads
        self._publish = publish
        self._log = Log("state")
        self._restored = False
        self._restored_age_s = 0.0
        self._restored_at_s = 0.0
        self._saved_generation = -1
        self._confirmed_s = 0.0

    @property
    def answered(self) -> bool:
        """Whether istiod has said all that this process needs to know. What of it was rejected delays nothing."""
        statistics = self._ads.statistics
        return statistics[CDS].applied and statistics[LDS].applied

    @property
    def stale(self) -> bool:
        """Whether what is served comes from the file."""
        return self._restored and not self.answered

    def describe(self) -> dict[str, Any]:
        """For /server_info."""
        if not self.stale:
            return {"stale": False}
        age_s = self._restored_age_s + asyncio.get_running_loop().time() - self._restored_at_s
        return {"stale": True, "age_s": int(age_s)}

    async def restore(self) -> None:
        """Publish what the file holds. What cannot be used is logged, and the process starts without it."""
        if self._file is not None:
            with self._errors.guard(Part.DISK, str(self._file.path)):
                await self._restore(self._file)

    async def _restore(self, file: StateFile) -> None:
        path = str(file.path)
        try:
            saved = file.load()
        except StateError as error:
            self._log.warning("state file not served", path=path, reason=str(error))
            return
        if saved is None:
            return
        for response in saved.responses:
            applied = self._store.apply(response.type_url, response.version, response.resources)
            revoked = self._store.revoke(await self._publish(self._store.snapshot))
            for rejection in (*applied.rejected, *revoked.rejected):
                self._log.warning("state resource rejected", name=rejection.name, reason=rejection.reason)
        self._restored = True
        self._restored_age_s = saved.age_s
        self._restored_at_s = asyncio.get_running_loop().time()
        self._log.warning("serving the last good configuration", path=path, age_s=int(saved.age_s))

    async def run(self) -> None:
        """Save what changed, at most once in SAVE_INTERVAL_S, and once more when cancelled."""
        if self._file is None:
            return
        try:
            while True:
                await asyncio.sleep(SAVE_INTERVAL_S)
                with self._errors.guard(Part.DISK, str(self._file.path)):
                    await self._save()
        finally:
            with self._errors.guard(Part.DISK, str(self._file.path)):
                snapshot = self._unsaved()
                if snapshot is not None:
                    self._note(snapshot, self._try_save(snapshot))

    async def _save(self) -> None:
        snapshot = self._unsaved()
        if snapshot is not None:
            # Large ones take many milliseconds, and the disk its own time; the snapshot is frozen.
            self._note(snapshot, await self._save_in_thread(snapshot))
        else:
            self._confirm()

    async def _save_in_thread(self, snapshot: Snapshot) -> str:
        saving = asyncio.ensure_future(asyncio.to_thread(self._try_save, snapshot))
        try:
            return await asyncio.shield(saving)
        except asyncio.CancelledError:
            # One writer at a time: what is saved on the way out must not meet this one.
            await asyncio.wait([saving])
            raise

    def _unsaved(self) -> Snapshot | None:
        snapshot = self._store.snapshot
        if not self.answered or snapshot.warming or snapshot.generation == self._saved_generation:
            return None
        return snapshot

    def _try_save(self, snapshot: Snapshot) -> str:
        assert self._file is not None
        with self._errors.guard(Part.DISK, str(self._file.path)):
            try:
                self._file.save(snapshot)
            except OSError as error:
                return error.strerror or str(error)
            return ""
        return "a fault of eastgate"

    def _note(self, snapshot: Snapshot, failure: str) -> None:
        assert self._file is not None
        # Not tried again before the next change: a full disk would be asked every second.
        self._saved_generation = snapshot.generation
        self._confirmed_s = asyncio.get_running_loop().time()
        if failure:
            self.save_failed += 1
            self._log.warning("state not saved", path=str(self._file.path), reason=failure)

    def _confirm(self) -> None:
        assert self._file is not None
        now_s = asyncio.get_running_loop().time()
        if not self.answered or not self._ads.connected or now_s - self._confirmed_s < CONFIRM_INTERVAL_S:
            return
        self._confirmed_s = now_s
        try:
            self._file.confirm()
        except OSError as error:
            self._log.warning("state not confirmed", path=str(self._file.path), reason=error.strerror)
