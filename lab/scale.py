"""What N gateways cost one istiod: CPU to bring each up to date and to push to it, bytes, memory, how late the last is.

`python -m lab scale [GATEWAYS...]` on a lab that is up. Each gateway is a stream over a connection of its own that asks
for what eastgate asks for and acknowledges it, all in one process: to istiod each is a proxy like any other.
"""

import asyncio
import json
import random
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

import grpc
import grpc.aio
from eastgate.xds.backoff import Backoff
from eastgate.xds.node import NodeIdentity
from eastgate.xds.subscription import Request, SotwSubscriptions

from .ads import CDS, CLUSTER_TYPE, EDS, EDS_TYPE, LDS, NAME, VALUE, first
from .churn import (
    API,
    MARKER,
    PORTS,
    WHERE,
    Api,
    Process,
    addresses,
    endpoint,
    enter_network,
    entry,
    gateway_node,
    host,
    varint,
)
from .errors import LabError
from .istio import NAMESPACE as ISTIO
from .istio import plain_discovery
from .lab import Lab
from .objects import namespace
from .settings import GKE
from .shell import say

SERVICES, ENDPOINTS = 100, 10
PUSHES = 20
# istiod's debounce is over, and what it pushes has arrived.
BETWEEN_S = 1.0
ANSWER_S = 300.0
TYPES = ((CDS, True), (EDS, False), (LDS, True))
# Of its own for each stream: gRPC would share one connection among all that ask the same address.
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]


@dataclass(frozen=True, slots=True)
class Scale:
    """With so many gateways. ``all_s``: until all that came at once were up to date; ``refused``: how often one of them
    was told to come again; ``connect_ms``: istiod's CPU for each; ``push_ms``: its CPU for one changed endpoint, all
    gateways together; ``push_bytes``: of one push to one gateway; ``first_ms``, ``last_ms``: from the change to the
    first gateway and the last, medians over pushes; ``rss_mib``: istiod's memory after them.
    """

    gateways: int
    all_s: float
    refused: int
    connect_ms: float
    first_bytes: int
    push_ms: float
    push_bytes: int
    first_ms: float
    last_ms: float
    rss_mib: float

    def line(self) -> str:
        return (
            f"{self.gateways} gateways: up to date after {self.all_s:.1f} s, {self.refused} times told to come again; "
            f"{self.connect_ms:.1f} ms of istiod's CPU and {self.first_bytes} bytes for each; {self.push_ms:.1f} ms a "
            f"push to all, {self.push_bytes} bytes each; first after {self.first_ms:.0f} ms, last after "
            f"{self.last_ms:.0f} ms; istiod {self.rss_mib:.0f} MiB"
        )


def assignments_of(resources: Sequence[bytes]) -> tuple[str, ...]:
    """Names of the clusters whose endpoints come by EDS, by their Anys."""
    clusters = [first(packed, VALUE, b"") for packed in resources]
    return tuple(sorted(first(raw, NAME, b"").decode() for raw in clusters if first(raw, CLUSTER_TYPE, 0) == EDS_TYPE))


class Gateway:
    """One stream. ``received``: bytes so far; ``refused``: how often it ended before all was there."""

    def __init__(self, node: NodeIdentity, channel: grpc.aio.Channel) -> None:
        self.received = self.refused = 0
        self.complete = asyncio.Event()
        self._node = node
        self._open = channel.stream_stream(SotwSubscriptions.method)
        self._call: Any = None
        self._names: tuple[str, ...] = ()
        self._seen: set[str] = set()
        self._wanted = b""
        self._came = asyncio.Event()
        self._at = 0.0

    async def run(self) -> None:
        """Ask and acknowledge. Who comes when many do is turned away by istiod, and comes again, as proxies do."""
        backoff = Backoff(random.Random())
        while True:
            self.received, self._seen, self._call = 0, set(), self._open()
            try:
                await self._talk()
            except grpc.RpcError:
                if self.complete.is_set():
                    raise
            self.refused += 1
            await asyncio.sleep(backoff.next_delay_s())

    async def _talk(self) -> None:
        reader = SotwSubscriptions(TYPES)
        await self._call.write(Request(CDS).encode(self._node.message))
        async for payload in self._call:
            self.received += len(payload)
            response = reader.read(payload)
            if response.type_url == CDS:
                self._names = assignments_of(response.resources)
            names = self._names if response.type_url == EDS else ()
            await self._call.write(Request(response.type_url, response.version, response.nonce, names).encode())
            if response.type_url not in self._seen:
                self._seen.add(response.type_url)
                await self._next()
            if self._wanted and response.type_url == EDS and self._wanted in payload:
                self._at = time.monotonic()
                self._came.set()

    async def _next(self) -> None:
        missing = next((kind for kind, _ in TYPES if kind not in self._seen), None)
        if missing is None:
            self.complete.set()
        else:
            await self._call.write(Request(missing, names=self._names if missing == EDS else ()).encode())

    def expect(self, port: int) -> None:
        """From now on an assignment with this port is waited for."""
        self._wanted = b"\x18" + varint(port)
        self._came.clear()

    async def came(self) -> float:
        await self._came.wait()
        return self._at


@asynccontextmanager
async def connected(address: str, count: int) -> AsyncIterator[list[Gateway]]:
    """So many gateways, each up to date. Raises LabError."""
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        found, tasks = [], []
        for number in range(count):
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options=OWN_CONNECTION))
            node = gateway_node(f"scale-{number}", f"10.250.{number >> 8 & 255}.{number & 255}")
            found.append(Gateway(node, channel))
            tasks.append(group.create_task(found[-1].run()))
        await all_of([one.complete.wait() for one in found], f"{count} gateways are up to date")
        yield found
        for task in tasks:
            task.cancel()


async def all_of(waits: Sequence[Any], what: str) -> list[Any]:
    try:
        async with asyncio.timeout(ANSWER_S):
            return list(await asyncio.gather(*waits))
    except TimeoutError:
        raise LabError(f"not within {ANSWER_S:g} s: {what}") from None


def measured(api: Api, address: str, istiod: Process, count: int) -> Scale:
    """Raises LabError."""
    try:
        return asyncio.run(_measured(api, address, istiod, count))
    except ExceptionGroup as found:
        # A stream that ended takes all others along.
        [first_one, *_] = found.exceptions
        raise LabError(f"{count} gateways at {address}: {first_one}") from None


async def _measured(api: Api, address: str, istiod: Process, count: int) -> Scale:
    begin_s, began = istiod.cpu_s(), time.monotonic()
    async with connected(address, count) as streams:
        connected_s, all_s = istiod.cpu_s(), time.monotonic() - began
        first_bytes = statistics.median(one.received for one in streams)
        await asyncio.sleep(BETWEEN_S)
        before, idle_s = [one.received for one in streams], istiod.cpu_s()
        firsts, lasts = [], []
        for number in range(PUSHES):
            port = PORTS[(number + 1) % 2]
            for one in streams:
                one.expect(port)
            changed = time.monotonic()
            await asyncio.to_thread(api, "PATCH", f"{API}/marker", {"spec": {"endpoints": [answering(port)]}})
            came = await all_of([one.came() for one in streams], f"push {number + 1} is with {count} gateways")
            firsts.append((min(came) - changed) * 1000)
            lasts.append((max(came) - changed) * 1000)
            await asyncio.sleep(BETWEEN_S)
        pushed = statistics.median(one.received - was for one, was in zip(streams, before, strict=True))
        return Scale(
            gateways=count,
            all_s=all_s,
            refused=sum(one.refused for one in streams),
            connect_ms=(connected_s - begin_s) * 1000 / count,
            first_bytes=int(first_bytes),
            push_ms=(istiod.cpu_s() - idle_s) * 1000 / PUSHES,
            push_bytes=int(pushed / PUSHES),
            first_ms=statistics.median(firsts),
            last_ms=statistics.median(lasts),
            rss_mib=istiod.rss_mib(),
        )


def answering(port: int) -> dict[str, Any]:
    return endpoint(GKE.node_ip, port, GKE.network)


def scales(lab: Lab, counts: Sequence[int]) -> Iterator[Scale]:
    """Measure; the lab is left as it was. Raises LabError."""
    kubectl, node = lab.kubectl[GKE.name], lab.nodes[GKE.name]
    address = plain_discovery(kubectl)
    pod = kubectl.pods(ISTIO, {"app": "istiod"})[0]["status"]["podIP"]
    istiod = Process(node, "pilot-discovery", pod)
    enter_network(node)
    api = Api(node.folder, GKE)
    kubectl.apply(namespace(WHERE))
    try:
        rng = random.Random(1)
        objects = [
            entry(host(number), [endpoint(one, 9090, GKE.network) for one in addresses(rng, ENDPOINTS)])
            for number in range(SERVICES)
        ]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda one: api("POST", API, one), [*objects, entry(MARKER, [answering(PORTS[0])])]))
        for count in counts:
            # Each begins with the marker where it is.
            api("PATCH", f"{API}/marker", {"spec": {"endpoints": [answering(PORTS[0])]}})
            time.sleep(3 * BETWEEN_S)
            yield measured(api, address, istiod, count)
    finally:
        kubectl("delete", "namespace", WHERE, "--wait=true", timeout_s=300)


def main(lab: Lab, counts: Sequence[int]) -> None:
    """Measure and tell; the last line is JSON."""
    say(f"== {SERVICES} services with {ENDPOINTS} endpoints each, {PUSHES} pushes")
    found = []
    for one in scales(lab, counts):
        say(one.line())
        found.append(one)
    say(json.dumps([asdict(one) for one in found]))
