"""Pairs of sidecars beside each other: two real Envoys and two of ours, mesh mTLS between the two of each.

The client's sidecar takes plaintext, chooses an endpoint and speaks mTLS to it; the servers' ends that and passes
plaintext on to the application behind the endpoint. Pairs come twice: one resumes sessions as its proxies do it unless
told otherwise, the other makes a full handshake for every connection.
"""

import asyncio
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eastgate.insight.cluster_model import ClusterModel
from eastgate.mesh.ads_server import AdsServer
from eastgate.mesh.ca import MeshCa
from eastgate.mesh.messages import LDS
from eastgate.mesh.sds_server import SdsServer
from eastgate.mesh.tls_contexts import downstream_socket, upstream_socket
from eastgate.proxy.errors import TrialError

from .child import Child
from .compare import ANNOUNCED, CLIENTS, READY_S, Compared, FixedSource, Measured, launched_envoy
from .compare_model import HOST, SERVER_NAME, distinct, server_resources, sidecar_resources
from .envoy_process import envoy_bootstrap

CLIENT, SERVER = "client", "server"
ACCOUNT = "spiffe://cluster.local/ns/default/sa/"
ASKING = b"?"
ROUNDS = 3
KINDS = ("sessions resumed", "full handshakes")
RESUMED, _ = KINDS


class Pair(Compared):
    """The sidecar of a client and that of the servers, counted as one."""

    def __init__(self, name: str, client: Compared, server: Compared) -> None:
        self.name, self._client, self._server = name, client, server
        self.measured = Measured()

    @property
    def pids(self) -> tuple[int, ...]:
        return (*self._client.pids, *self._server.pids)

    @property
    def port(self) -> int:
        return self._client.port

    def cpu_s(self) -> float:
        return self._client.cpu_s() + self._server.cpu_s()

    def resident_kb(self) -> int:
        return self._client.resident_kb() + self._server.resident_kb()

    def handshakes(self) -> tuple[int, int]:
        """Handshakes that the servers' sidecar has ended, and how many of them were resumed."""
        return self._server.counter(".ssl.handshake"), self._server.counter(".ssl.session_reused")

    async def run(self, hello: bytes, count: int) -> None:
        """`count` connections, some at a time."""
        before = await asyncio.to_thread(self.handshakes)
        await super().run(hello, count)
        every, resumed = await asyncio.to_thread(self.handshakes)
        self.measured.handshakes += every - before[0]
        self.measured.resumed += resumed - before[1]


@dataclass(frozen=True, slots=True)
class Start:
    """How one kind of proxy is started: resources and role in, a running proxy out. ``resumption``: as it likes."""

    name: str
    binary: Path | None
    folder: Path
    resumption: bool

    async def __call__(self, role: str, discovery: str, listeners: int) -> Compared:
        socket = self.folder / role
        return await (
            self._ours(role, discovery, socket, listeners)
            if self.binary is None
            else self._envoy(self.binary, role, discovery, socket, listeners)
        )

    async def _ours(self, role: str, discovery: str, socket: Path, listeners: int) -> Compared:
        arguments = ["sidecar", "--discovery", discovery, "--node-id", node(role)["id"], "--admin", f"{HOST}:0"]
        arguments += ["--sds-socket", str(socket), "--workers", "1", "--drain-time", "0"]
        if not self.resumption:
            arguments += ["--tls-resumption", "off"]
        child = await Child.start(f"eastgate, {role}", "eastgate.commands", arguments)
        line = await child.wait_line(ANNOUNCED, READY_S)
        url = line.rpartition(ANNOUNCED)[2].split()[0]
        return Compared(self.name, child, lambda: url, listeners)

    async def _envoy(self, binary: Path, role: str, discovery: str, socket: Path, listeners: int) -> Compared:
        bootstrap = envoy_bootstrap(discovery, node(role))
        clusters = bootstrap["static_resources"]["clusters"]
        endpoint = {"endpoint": {"address": {"pipe": {"path": str(socket)}}}}
        assigned = {"cluster_name": "sds-grpc", "endpoints": [{"lb_endpoints": [endpoint]}]}
        clusters.append({**clusters[0], "name": "sds-grpc", "load_assignment": assigned})
        return await launched_envoy(binary, bootstrap, self.folder / f"{role}-{self.resumption}", listeners)


def node(role: str) -> dict[str, Any]:
    """A Node."""
    name = f"sidecar~{HOST}~{role}.default~default.svc.cluster.local"
    return {"id": name, "cluster": role, "metadata": {"CLUSTER_ID": "compared"}}


class Pairs:
    """Starts pairs for one cluster. What it starts ends with the stack.

    ``applications``: ports of loopback, in the order of distinct(). ``rsa``: the kind of key in certificates.
    """

    def __init__(
        self,
        model: ClusterModel,
        applications: Sequence[int],
        folder: Path,
        stack: AsyncExitStack,
        *,
        rsa: bool = False,
    ) -> None:
        self._model, self._applications = model, applications
        self._folder, self._stack, self._rsa = folder, stack, rsa

    async def prepare(self) -> None:
        """An SDS server for each role."""
        ca = MeshCa()
        for role in (CLIENT, SERVER):
            certificate = ca.issue(f"{ACCOUNT}{role}", cluster="compared", with_rsa=self._rsa)
            sds = SdsServer(lambda own=certificate: own)  # type: ignore[misc]
            await sds.start(self._folder / role)
            self._stack.push_async_callback(sds.stop)

    async def pair(self, start: Start) -> Pair:
        """A pair that listens. Raises TrialError."""
        server_socket = downstream_socket(["h2", "http/1.1"], ["cluster.local"], resumption=start.resumption)
        server = await self._proxy(start, SERVER, server_resources(self._applications, server_socket))
        ports = [server.ports[str(number)] for number in range(len(self._applications))]
        socket = upstream_socket(SERVER_NAME, ["istio"], [f"{ACCOUNT}{SERVER}"])
        client = await self._proxy(start, CLIENT, sidecar_resources(self._model, self._behind(ports), socket))
        return Pair(start.name, client, server)

    async def plain(self, start: Start) -> Compared:
        """One sidecar, and no TLS on either side."""
        return await self._proxy(start, CLIENT, sidecar_resources(self._model, self._behind(self._applications), None))

    def _behind(self, ports: Sequence[int]) -> list[int]:
        """The port of each endpoint; an address may stand in several localities."""
        port_of = dict(zip(distinct(self._model), ports, strict=True))
        return [port_of[one.plain_address] for one in self._model.endpoints]

    async def _proxy(self, start: Start, role: str, resources: Mapping[str, Mapping[str, bytes]]) -> Compared:
        control = AdsServer(FixedSource(resources))
        discovery = f"{HOST}:{await control.start()}"
        self._stack.push_async_callback(control.stop)
        proxy = await start(role, discovery, len(resources[LDS]))
        self._stack.push_async_callback(proxy.child.stop)
        await proxy.wait()
        return proxy


async def started(pairs: Pairs, start: Start) -> Pair:
    """A pair that has answered."""
    pair = await pairs.pair(start)
    # Lazy set-up of either is nobody's cost per connection.
    await pair.run(ASKING, CLIENTS)
    if pair.measured.errors:
        raise TrialError(f"{start.name}: a connection through both sidecars: {next(iter(pair.measured.errors))}")
    pair.measured = Measured()
    return pair


async def compare_sidecars(
    model: ClusterModel, binary: Path, connections: int, say: Callable[[str], None]
) -> Mapping[str, tuple[Pair, Pair]]:
    """By kind of handshake (KINDS): Envoy's pair and ours, each with its measurements of this many
    connections. Raises TrialError.
    """
    if not model.endpoints:
        raise TrialError(f"{model.name}: no endpoints to compare")
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="compare-")))
        answers = await Child.start("endpoints", "eastgate.trial.answers", [str(len(distinct(model)))])
        stack.push_async_callback(answers.stop)
        pairs = Pairs(model, json.loads(await answers.ask("", READY_S)), folder, stack)
        await pairs.prepare()
        found = {}
        for kind in KINDS:
            say(f"starting two pairs, {kind}")
            starts = [Start(name, program, folder, kind == RESUMED) for name, program in programs(binary).items()]
            envoy, ours = [await started(pairs, one) for one in starts]
            found[kind] = envoy, ours
        for number in range(ROUNDS):
            for kind, both in found.items():
                for one in both if number % 2 else reversed(both):
                    say(f"round {number + 1} of {ROUNDS}, {kind}: {one.name}")
                    await one.run(ASKING, connections // ROUNDS)
    return found


def programs(envoy: Path) -> Mapping[str, Path | None]:
    """What is compared, by name; None is this package."""
    return {"envoy": envoy, "eastgate": None}
