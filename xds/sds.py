"""SDS of its own, beside ADS: how pilot-agent hands out the keys of the workload, on a Unix socket.

One stream for each name, as Envoy has it: pilot-agent answers for one name a stream, whatever its version. It pushes a
rotated certificate unasked. Each stream is kept by itself: a server that cannot make one secret ends its stream, and
the other secret, and what was accepted last, stay.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from typing import Any

from grpc import aio

from .backoff import Backoff
from .channel import ChannelFactory, without_pings
from .log import Log
from .message import read
from .node import NodeIdentity
from .record import record
from .secret_store import SDS, SecretSnapshot, SecretStore
from .stream import converse, write
from .subscription import DISCOVERY_RESPONSE, REASON_LIMIT, Request, SotwSubscription

METHOD = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"

_log = Log("xds")


@record(frozen=False)
class SdsStatistics:
    """Counters over all names of a source, with Envoy's meaning. ``connected``: streams that have been answered."""

    update_attempt: int = 0
    update_success: int = 0
    update_rejected: int = 0
    update_failure: int = 0
    connected: int = 0
    errors: dict[str, str] = field(default_factory=dict)
    """Why a name has no stream now"""


class SdsClient:
    """Keeps the secrets of one source in `store` in step with an SDS server. Made and run on one event loop.

    ``source``: what clusters and listeners call it ("cluster:sds-grpc"); ``address``: `unix:path` or `host:port`. Names
    are followed as they become wanted. A lost stream changes nothing but the statistics.
    """

    def __init__(
        self,
        source: str,
        address: str,
        node: NodeIdentity,
        store: SecretStore,
        *,
        open_channel: ChannelFactory = without_pings,
        make_backoff: Callable[[], Backoff] = lambda: Backoff(random.Random()),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.source = source
        self.address = address
        self.statistics = SdsStatistics()
        self._node = node
        self._store = store
        self._open_channel = open_channel
        self._make_backoff = make_backoff
        self._sleep = sleep
        self._changed = asyncio.Event()
        self._stopped = False

    async def run(self) -> None:
        """Follow the wanted names until close() is called or the caller cancels."""
        forget = self._store.on_change(self._noted)
        streams: dict[str, asyncio.Task[None]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                while not self._stopped:
                    self._changed.clear()
                    wanted = self._store.wanted(self.source)
                    if wanted and not streams:
                        # What reads certificates takes 140 ms to import: not when the first one has come.
                        await asyncio.to_thread(_import_cryptography)
                    for name in [name for name in streams if name not in wanted]:
                        streams.pop(name).cancel()
                        self.statistics.errors.pop(name, None)
                    for name in wanted:
                        if name not in streams:
                            streams[name] = group.create_task(self._follow(name))
                    await self._changed.wait()
                for task in streams.values():
                    task.cancel()
        finally:
            forget()

    def close(self) -> None:
        """End every stream; run() returns. A second call does nothing."""
        self._stopped = True
        self._changed.set()

    def awaits(self, name: str) -> bool:
        """Whether it is this source that brings a secret of this name, if late: any."""
        return True

    def _noted(self, _: SecretSnapshot) -> None:
        self._changed.set()

    async def _follow(self, name: str) -> None:
        backoff = self._make_backoff()
        subscription = SotwSubscription(SDS, wildcard=False)
        subscription.prepare([name])
        while True:
            if await self._one_stream(name, subscription):
                backoff.reset()
            await self._sleep(backoff.next_delay_s())

    async def _one_stream(self, name: str, subscription: SotwSubscription) -> bool:
        """Serve one stream until it ends; return whether it was answered."""
        answered = False

        async def talk(call: Any) -> None:
            nonlocal answered
            await self._send(call, subscription.restart(), first=True)
            while (payload := await call.read()) is not aio.EOF:
                requests = self._take(name, payload, subscription)
                if not answered:
                    answered = True
                    self.statistics.connected += 1
                    if self.statistics.errors.pop(name, ""):
                        _log.info("sds_connected", source=self.source, name=name)
                for request in requests:
                    await self._send(call, request)

        try:
            reason = await converse(lambda: self._open_channel(self.address), METHOD, talk, secret=True)
        finally:
            self.statistics.connected -= answered
        self._lost(name, reason)
        return answered

    async def _send(self, call: Any, request: Request | None, *, first: bool = False) -> None:
        if request is not None:
            await write(call, request.encode(self._node.message if first else None))

    def _take(self, name: str, payload: bytes, subscription: SotwSubscription) -> list[Request]:
        """Apply a response; return the requests that answer it. Raises XdsError for what is no response."""
        message: Mapping[str, Any] = read(DISCOVERY_RESPONSE, payload)
        subscription.received(message.get("nonce", ""))
        version = message.get("version_info", "")
        self.statistics.update_attempt += 1
        rejected = self._store.apply(version, message.get("resources", ()), source=self.source)
        if not rejected:
            self.statistics.update_success += 1
            ack = subscription.ack(version)
            return [] if ack is None else [ack]
        self.statistics.update_rejected += 1
        reason = "; ".join(f"SDS {one.name} rejected: {one.reason}" for one in rejected)[:REASON_LIMIT]
        _log.warning("sds_nack", source=self.source, name=name, version=version, reason=reason)
        return subscription.nack(reason)

    def _lost(self, name: str, reason: str) -> None:
        self.statistics.update_failure += 1
        self.statistics.update_attempt += 1
        # A socket that is not there yet is asked again and again: said once.
        if self.statistics.errors.get(name) != reason:
            self.statistics.errors[name] = reason
            _log.warning("sds_disconnected", source=self.source, name=name, reason=reason)


def _import_cryptography() -> None:
    try:
        import cryptography.x509  # noqa: F401
    except ImportError:
        # Each secret is then rejected with that reason.
        _log.warning("secrets are not read", reason="the package cryptography is not installed")
