"""The ADS stream to istiod: connect, ask, apply, publish, acknowledge, reconnect. All rules of the protocol stand in
subscription.py (state of the world) and delta_subscription.py, all rules of acceptance in store.py; this module moves
bytes between them.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import field
from functools import partial
from typing import Any, Literal

from grpc import aio

from .backoff import Backoff
from .channel import ChannelFactory, plaintext
from .decode import CDS, EDS, LDS, RDS, SDS, SHORT_NAMES
from .delta_subscription import DeltaRequest, DeltaSubscriptions
from .errors import XdsError, own_fault
from .ledger import Ledger
from .log import Log
from .node import NodeIdentity
from .record import record
from .resources import Rejection, Snapshot
from .response import Response
from .store import Applied, Store
from .stream import StreamEndedError, converse, write
from .subscription import Request, SotwSubscriptions

Protocol = Literal["sotw", "delta"]
_TYPES = ((CDS, True), (EDS, False), (LDS, True), (RDS, False), (SDS, False))

# How long a stream may be silent at its beginning: istiod answers the first request at once, or refuses the stream.
_ANSWER_TIMEOUT_S = 30.0
# Timers of an event loop hold no century.
_LONGEST_SLEEP_S = 86_400.0
# What the loop may be busy with one response before others run.
_SLICE_S = 0.001

_log = Log("xds")

# May return (or await to) errors naming resources of this response that could not be compiled: they are rejected, and
# their last good version is back in the store.
OnSnapshot = Callable[[Snapshot], Awaitable[Iterable[XdsError] | None] | Iterable[XdsError] | None]


@record(frozen=False)
class TypeStatistics:
    """Counters of one type URL, with Envoy's meaning, and what came last; ``updated_s``: loop time of a success.

    ``applied``: whether any response was, be it in part. ``durations_ms``: how many successes took so many whole
    milliseconds, until they served.
    """

    update_attempt: int = 0
    update_success: int = 0
    update_rejected: int = 0
    update_failure: int = 0
    version: str = ""
    nonce: str = ""
    updated_s: float = 0.0
    applied: bool = False
    durations_ms: Counter[int] = field(default_factory=Counter)


@record
class Push:
    """One response, as it came, and what was answered. ``reason``: that of a NACK, empty for an ACK."""

    type_url: str
    version: str
    nonce: str
    protocol: Protocol
    payload: bytes
    reason: str
    rejected: tuple[Rejection, ...]


class AdsClient:
    """Keeps `store` in step with an istiod over one ADS stream. Made and run on one event loop.

    ``addresses``: tried in turn, each `host:port` or `unix:path`. ``protocol``: the variant of the stream.
    ``on_snapshot`` is called whenever the generation has moved, and awaited if it returns an awaitable, before the
    response that moved it is acknowledged. ``on_push`` is called for every response, once the store holds what came of
    it; it must not wait. A lost stream changes nothing but `connected`; a network failure is logged
    in one line and never raised.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        node: NodeIdentity,
        store: Store,
        *,
        protocol: Protocol = "sotw",
        on_snapshot: OnSnapshot | None = None,
        on_push: Callable[[Push], None] | None = None,
        open_channel: ChannelFactory = plaintext,
        metadata: Callable[[str], Sequence[tuple[str, str]]] = lambda _: (),
        backoff: Backoff | None = None,
        answer_timeout_s: float = _ANSWER_TIMEOUT_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not addresses:
            raise XdsError("discovery", "", "no address of an istiod")
        self.node = node
        self.store = store
        self.connected = False
        self.address = ""
        self.last_error = ""
        self.connects = 0
        self.changed_s = 0.0
        """Loop time of the last change of `connected`; 0 before the first."""
        self.ledger = Ledger()
        self.statistics = {type_url: TypeStatistics() for type_url, _ in _TYPES}
        self._addresses = tuple(addresses)
        self.protocol: Protocol = protocol
        self._on_snapshot = on_snapshot
        self._on_push = on_push
        self._open_channel = open_channel
        self._metadata = metadata
        self._backoff = backoff or Backoff(random.Random())
        self._answer_timeout_s = answer_timeout_s
        self._sleep = sleep
        variant = DeltaSubscriptions if protocol == "delta" else SotwSubscriptions
        self._subscriptions: DeltaSubscriptions | SotwSubscriptions = variant(_TYPES)
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        # The call of the stream that is up, and whose turn it is to change the store, publish and write.
        self._call: Any = None
        self._turn = asyncio.Lock()
        self._deadline_moved = asyncio.Event()

    async def run(self) -> None:
        """Stay connected until close() is called or the caller cancels. Run it in a task of the caller's group."""
        if self._closing:
            return
        async with asyncio.TaskGroup() as group:
            self._task = group.create_task(self._serve())

    async def close(self) -> None:
        """End the stream and wait until run() has nothing left to do. A second call does nothing."""
        self._closing = True
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait([task])

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stay_connected())
            group.create_task(self._watch_deadlines())

    async def _watch_deadlines(self) -> None:
        """End what has a time to end, with and without a stream: a server that is gone is what a ttl is for."""
        loop = asyncio.get_running_loop()
        while True:
            self._deadline_moved.clear()
            deadline_s = self.store.seconds_to_deadline
            waiting = None if deadline_s is None else loop.call_later(min(deadline_s, _LONGEST_SLEEP_S), self._wake)
            try:
                await self._deadline_moved.wait()
            finally:
                if waiting is not None:
                    waiting.cancel()
            async with self._turn:
                try:
                    await self._expire()
                except Exception as error:  # noqa: BLE001 - nothing of ours ends what serves
                    own_fault(error)

    def _wake(self) -> None:
        self._deadline_moved.set()

    async def _expire(self) -> None:
        applied = self.store.expire()
        if not applied.changed:
            return
        for sentence in applied.ended:
            _log.warning("ads_ended", reason=sentence)
        revoked = self.store.revoke(await self._publish())
        if revoked.reason:
            _log.warning("ads_ended_not_published", reason=revoked.reason)
        if self._call is not None:
            try:
                await self._send(self._call, self._wants())
            except (aio.AioRpcError, asyncio.InvalidStateError, TimeoutError):
                # The stream is over, and whoever reads from it says so; the next one asks for what is wanted then.
                self._call = None

    async def _stay_connected(self) -> None:
        while True:
            for address in self._addresses:
                if await self._one_stream(address):
                    self._backoff.reset()
                    break
            await self._sleep(self._backoff.next_delay_s())

    async def _one_stream(self, address: str) -> bool:
        """Serve one stream until it ends; return whether istiod answered on it."""
        metadata: list[tuple[str, str]] = []

        def open_channel() -> aio.Channel:
            metadata.extend(self._metadata(address))
            return self._open_channel(address)

        reason = await converse(open_channel, self._subscriptions.method, partial(self._talk, address), metadata)
        answered = self.connected
        if answered:
            self.connected, self.changed_s = False, asyncio.get_running_loop().time()
        self._lost(address, reason)
        return answered

    async def _talk(self, address: str, call: Any) -> None:
        silence = asyncio.get_running_loop().call_later(self._answer_timeout_s, self._silent, call, address)
        try:
            async with self._turn:
                await self._send(call, self._restart(), first=True)
                self._call = call
            while (payload := await call.read()) is not aio.EOF:
                silence.cancel()
                if not self.connected:
                    self._connected(address)
                async with self._turn:
                    await self._send(call, await self._take(payload))
                self._wake()
        except asyncio.CancelledError:
            # So does a read end after the call was cancelled for its silence; we ourselves may be cancelled too.
            task = asyncio.current_task()
            if not call.cancelled() or (task is not None and task.cancelling()):
                raise
            raise StreamEndedError(f"no answer within {self._answer_timeout_s:g} s") from None
        finally:
            self._call = None
            silence.cancel()

    def _connected(self, address: str) -> None:
        self.connected = True
        self.address, self.last_error = address, ""
        self.connects += 1
        self.changed_s = asyncio.get_running_loop().time()
        _log.info("ads_connected", address=address, node=self.node.id)

    def _silent(self, call: Any, address: str) -> None:
        """Give up a stream without an answer, unless its server may have nothing to say.

        That is so where the first request named the version that the server has too: istiod sends it again, and
        go-control-plane's cache waits for the next one.
        """
        if self.statistics[CDS].version and self.protocol == "sotw":
            self._connected(address)
        else:
            call.cancel()

    def _lost(self, address: str, reason: str) -> None:
        self.last_error = reason
        for statistics in self.statistics.values():
            statistics.update_failure += 1
            statistics.update_attempt += 1
        _log.warning("ads_disconnected", address=address, reason=reason)

    def _restart(self) -> Sequence[Request | DeltaRequest]:
        return self._subscriptions.restart({type_url: self.store.names(type_url) for type_url, _ in _TYPES})

    async def _send(self, call: Any, requests: Iterable[Request | DeltaRequest], *, first: bool = False) -> None:
        for request in requests:
            node = self.node.message if first else None
            first = False
            await write(call, request.encode(node))

    async def _take(self, payload: bytes) -> Sequence[Request | DeltaRequest]:
        """Apply one response and publish; return the requests that answer it."""
        response = self._subscriptions.read(payload)
        type_url, version = response.type_url, response.version
        if type_url not in self._subscriptions:
            _log.warning("ads_unexpected_type", type_url=type_url)
            return []
        statistics = self.statistics[type_url]
        statistics.update_attempt += 1
        statistics.nonce = response.nonce
        began_s = asyncio.get_running_loop().time()
        applied = await self._apply(response)
        reason, rejected = applied.reason, applied.rejected
        if applied.changed:
            # Publish before ACK: istiod may withdraw old endpoints once it has seen the ACK.
            revoked = self.store.revoke(await self._publish())
            reason = "; ".join(part for part in (reason, revoked.reason) if part)
            rejected += revoked.rejected
        now_s = asyncio.get_running_loop().time()
        if reason:
            statistics.update_rejected += 1
            _log.warning("ads_nack", type=SHORT_NAMES[type_url], version=version, reason=reason)
        else:
            statistics.update_success += 1
            statistics.version = version
            statistics.updated_s = now_s
            statistics.durations_ms[int((now_s - began_s) * 1000)] += 1
        taken = set(applied.accepted).difference(one.name for one in rejected)
        statistics.applied = statistics.applied or not reason or bool(taken)
        self._note(response, payload, reason, applied.accepted, rejected, now_s)
        requests: list[Request | DeltaRequest] = []
        requests += self._subscriptions.answer(type_url, version, reason, [one.name for one in rejected])
        requests += self._wants()
        requests += self._subscriptions.release()
        return requests

    def _wants(self) -> list[Request | DeltaRequest]:
        """Requests that say what of the wanted names is news."""
        return [
            *self._subscriptions.want(EDS, self.store.wanted_assignments),
            *self._subscriptions.want(RDS, self.store.wanted_routes),
            *self._subscriptions.want(SDS, self.store.secrets.wanted()),
        ]

    def _note(
        self,
        response: Response,
        payload: bytes,
        reason: str,
        accepted: Iterable[str],
        rejected: tuple[Rejection, ...],
        now_s: float,
    ) -> None:
        self.ledger.note(
            response.type_url,
            response.version,
            response.nonce,
            now_s,
            accepted=accepted,
            rejected=rejected,
            versions=response.versions,
        )
        self.ledger.forget(self.store.snapshot)
        # A push of secrets is nobody else's business: what gets hold of pushes writes them to disk.
        if self._on_push is not None and response.type_url != SDS:
            self._on_push(
                Push(response.type_url, response.version, response.nonce, self.protocol, payload, reason, rejected)
            )

    async def _apply(self, response: Response) -> Applied:
        """Apply in slices, so that a large push does not hold up whoever else uses this loop."""
        clock = asyncio.get_running_loop().time
        steps = self.store.steps(response)
        slice_end = clock() + _SLICE_S
        while True:
            try:
                next(steps)
            except StopIteration as end:
                applied: Applied = end.value
                return applied
            if clock() >= slice_end:
                await asyncio.sleep(0)
                slice_end = clock() + _SLICE_S

    async def _publish(self) -> Iterable[XdsError]:
        if self._on_snapshot is None:
            return ()
        try:
            result = self._on_snapshot(self.store.snapshot)
            if isinstance(result, Awaitable):
                result = await result
        except Exception as error:  # noqa: BLE001 - nothing of ours ends what serves
            reason = own_fault(error, part="publish")
            return [XdsError(SHORT_NAMES[type_url], name, reason) for type_url, name in self.store.replaced]
        return result or ()
