"""Where the configuration comes from: istiod's stream, the sources of secrets, the file of the last good one.

Hands snapshots on, and keeps what came on disk where that is wanted. Compiles nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from eastgate.proxy.disk.last_good import LastGood, identity
from eastgate.proxy.disk.state_file import StateFile
from eastgate.xds.ads import AdsClient, Push
from eastgate.xds.config_source import ADS
from eastgate.xds.errors import XdsError
from eastgate.xds.node import NodeIdentity
from eastgate.xds.resources import Snapshot
from eastgate.xds.store import Store

from .control_errors import ControlErrors, Part
from .secret_sources import secret_sources
from .settings import GatewaySettings

if TYPE_CHECKING:
    from eastgate.proxy.disk.recorder import Recorder


class Configuration:
    """What brings snapshots. ``publish`` makes one serve; ``pushed`` is told when a response has been taken."""

    def __init__(
        self,
        settings: GatewaySettings,
        node: NodeIdentity,
        store: Store,
        *,
        publish: Callable[[Snapshot], Awaitable[Iterable[XdsError]]],
        pushed: Callable[[Snapshot], None],
        errors: ControlErrors,
    ) -> None:
        self._errors = errors
        self._told = pushed
        self._publish = publish
        self.store = store
        self.published = store.snapshot
        """What serves: while a large one is compiled, the one before"""
        self.recorder = open_recorder(settings, node, errors)
        self.ads = AdsClient(
            settings.discovery,
            node,
            store,
            on_snapshot=self._serve,
            on_push=errors.guarded(Part.DISK, self._pushed),
            protocol=settings.xds_protocol,
            open_channel=settings.credentials.open_channel,
            metadata=settings.credentials.metadata,
        )
        self.secret_sources = secret_sources(settings, node, store.secrets)
        self.last_good = LastGood(
            StateFile(settings.given.state_dir, identity(node), max_age_s=settings.given.state_max_age)
            if settings.given.state_dir
            else None,
            store,
            self.ads,
            publish=self._serve,
            errors=errors,
        )

    async def restore(self) -> None:
        """Publish the last good configuration, where there is one; recordings begin with it."""
        await self.last_good.restore()
        if self.recorder is not None:
            with self._errors.guard(Part.DISK):
                self.recorder.begin(self.store.snapshot)

    def start(self, group: asyncio.TaskGroup) -> asyncio.Task[None]:
        """Begin to ask for all of it, until `close`. Returns what saves it, which is to be cancelled before."""
        keep = self._errors.keep
        group.create_task(keep(Part.STREAM, self.ads.run))
        for source in self.secret_sources:
            group.create_task(keep(Part.STREAM, source.run, source.source))
        return group.create_task(keep(Part.DISK, self.last_good.run))

    async def close(self) -> None:
        """Ask for nothing any more."""
        for source in self.secret_sources:
            source.close()
        await self.ads.close()

    @property
    def answered(self) -> bool:
        """Whether there is one: istiod has said all that this process needs to know, or the last good one serves."""
        return self.last_good.answered or self.last_good.stale

    @property
    def waits_for_secrets(self) -> bool:
        """Whether a secret that is asked for has never come, and is still waited for. What needs it refuses until then.

        The last good configuration does not wait for istiod, be it for secrets.
        """
        awaited = self.store.secrets.awaited()
        if self.last_good.answered and any(ref.source == ADS for ref in awaited):
            return True
        return any(ref.source == one.source and one.awaits(ref.name) for one in self.secret_sources for ref in awaited)

    async def _serve(self, snapshot: Snapshot) -> Iterable[XdsError]:
        """Have a snapshot served, and remember which one is."""
        refused = await self._publish(snapshot)
        self.published = snapshot
        return refused

    def _pushed(self, push: Push) -> None:
        self._told(self.store.snapshot)
        if self.recorder is not None:
            self.recorder.record(push, self.store.snapshot)


def open_recorder(settings: GatewaySettings, node: NodeIdentity, errors: ControlErrors) -> "Recorder | None":
    """None unless it is wanted; what writes it is loaded then."""
    if not settings.given.record:
        return None
    from eastgate.proxy.disk.recorder import Recorder

    return Recorder(
        settings.given.record,
        node.message,
        file_bytes=settings.record_file_bytes,
        keep=settings.given.record_files,
        errors=errors,
    )
