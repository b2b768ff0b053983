"""The client of a trial: learns clusters and endpoints by xDS as a sidecar does, picks with the table that the data
side uses, and speaks mesh mTLS with the server name and ALPN that CDS asks for.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from eastgate.fastpath.reason import LABELS, Reason
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.mesh.ca import PeerError, WorkloadCertificate, check_peer, client_context
from eastgate.proxy.compile.cluster_tables import compile_table
from eastgate.proxy.errors import TrialError
from eastgate.xds.ads import AdsClient
from eastgate.xds.node import NodeIdentity
from eastgate.xds.resources import Assignment, Cluster, Snapshot
from eastgate.xds.store import Store
from envoy_data_plane.envoy.config.cluster.v3 import Cluster as ClusterPb
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import UpstreamTlsContext

from .ends import Traffic

# Istio's own ALPN would begin a private conversation in front of the payload.
NEVER_OFFERED = "istio-peer-exchange"
CONNECT_S = 5.0
CLIENTS = 12


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """What CDS demands of connections to endpoints that speak mesh mTLS."""

    server_name: str
    alpn: tuple[str, ...]
    peer_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """A cluster as the client uses it."""

    cluster: Cluster
    assignment: Assignment
    table: ClusterTable
    tls: TlsSettings | None


def tls_settings(cluster: Cluster) -> TlsSettings | None:
    """The TLS context of a cluster for endpoints of tlsMode istio; None when it has none."""
    message = ClusterPb.parse(cluster.raw)
    sockets = [one.transport_socket for one in message.transport_socket_matches] or [message.transport_socket]
    for one in sockets:
        packed = one.typed_config if one else None
        if packed is None or not packed.type_url.endswith(".UpstreamTlsContext"):
            continue
        context = UpstreamTlsContext.parse(packed.value)
        common = context.common_tls_context
        names: list[str] = []
        if common and common.combined_validation_context:
            validation = common.combined_validation_context.default_validation_context
            names = [one.exact or "" for one in validation.match_subject_alt_names] if validation else []
        alpn = tuple(one for one in (common.alpn_protocols if common else ()) if one != NEVER_OFFERED)
        return TlsSettings(context.sni, alpn, tuple(filter(None, names)))
    return None


class MeshClient:
    """One sidecar node without a proxy: the connections are its own. Owner: the event loop; connections use threads."""

    def __init__(self, discovery: str, node: NodeIdentity, certificate: WorkloadCertificate) -> None:
        self._certificate = certificate
        self._client = AdsClient([discovery], node, Store(router=False), on_snapshot=self._on_snapshot)
        self._changed = asyncio.Condition()
        self._running: asyncio.Task[None] | None = None
        self._contexts: dict[tuple[str, ...], ssl.SSLContext] = {}
        self.snapshot = Snapshot()

    async def start(self) -> None:
        """Connect, and stay connected."""
        self._running = asyncio.ensure_future(self._client.run())

    async def stop(self) -> None:
        await self._client.close()
        if self._running is not None:
            await self._running

    async def _on_snapshot(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        async with self._changed:
            self._changed.notify_all()

    async def wait(self, accept: Callable[[Snapshot], bool], what: str, timeout_s: float = 20.0) -> None:
        """Until a snapshot is as wanted. Raises TrialError that says what did not come."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: accept(self.snapshot))
        except TimeoutError:
            raise TrialError(f"client: {what} did not come within {timeout_s:g} s") from None

    def route(self, listener: str, default: str) -> str:
        """The cluster to which a listener's only chain leads; `default` where there is no such listener."""
        found = self.snapshot.listeners.get(listener)
        chains = found.filter_chains if found else ()
        return chains[0].clusters[0][0] if chains and chains[0].clusters else default

    def target(self, name: str) -> Target:
        """The cluster, compiled. Raises TrialError when the control plane did not send it."""
        cluster = self.snapshot.clusters.get(name)
        assignment = self.snapshot.assignments.get(name)
        if cluster is None or assignment is None:
            raise TrialError(f"client: the control plane sent no cluster {name}")
        return Target(cluster, assignment, compile_table(cluster, assignment, None), tls_settings(cluster))

    async def connect(self, target: Target, count: int, progress: Callable[[int], None]) -> Traffic:
        """Open `count` connections and read their answers; `progress` hears, from any thread, of each some dozens.

        Some clients connect side by side, each with a table of its own and one connection at a time, as pods with a
        sidecar each would: least request then sees equal load, and shares are those that the table states.
        """
        context = self._context(target.tls)
        loop = asyncio.get_running_loop()
        left = _Countdown(count)
        total = Traffic()
        with ThreadPoolExecutor(CLIENTS, thread_name_prefix="client") as pool:
            tables = [compile_table(target.cluster, target.assignment, None) for _ in range(CLIENTS)]
            clients = [replace(target, table=table) for table in tables]
            runs = [loop.run_in_executor(pool, _run, client, context, left, progress) for client in clients]
            for finished in await asyncio.gather(*runs):
                total.add(finished)
        return total

    def _context(self, tls: TlsSettings | None) -> ssl.SSLContext | None:
        if tls is None:
            return None
        if tls.alpn not in self._contexts:
            self._contexts[tls.alpn] = client_context(self._certificate, tls.alpn)
        return self._contexts[tls.alpn]


class _Countdown:
    """Hands out a number of turns to threads."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._lock = threading.Lock()

    def take(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0


PROGRESS_EACH = 25


def _run(target: Target, context: ssl.SSLContext | None, left: _Countdown, progress: Callable[[int], None]) -> Traffic:
    traffic, done = Traffic(), 0
    while left.take():
        _connect(target, context, traffic)
        done += 1
        if done % PROGRESS_EACH == 0:
            progress(PROGRESS_EACH)
    progress(done % PROGRESS_EACH)
    return traffic


def _connect(target: Target, context: ssl.SSLContext | None, traffic: Traffic) -> None:
    """One connection: pick, connect, shake hands, read to the end."""
    picked = target.table.pick()
    if picked < 0:
        traffic.errors[f"no endpoint: {LABELS[Reason(-picked)] if -picked in LABELS else -picked}"] += 1
        return
    address = target.table.address(picked)
    host, _, port = address.rpartition(":")
    target.table.hold(picked)
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_S) as plain:
            traffic.endpoints[address] += 1
            traffic.answers[_answer(plain, target.tls, context)] += 1
    except PeerError:
        traffic.errors["wrong peer"] += 1
    except ssl.SSLError as error:
        traffic.errors[f"TLS: {error.reason or 'closed'}"] += 1
    except OSError as error:
        traffic.errors[type(error).__name__] += 1
    finally:
        target.table.drop(picked)


def _answer(plain: socket.socket, tls: TlsSettings | None, context: ssl.SSLContext | None) -> str:
    if tls is None or context is None:
        return _read(plain)
    with context.wrap_socket(plain, server_hostname=tls.server_name) as secured:
        check_peer(secured, tls.peer_names)
        return _read(secured)


def _read(connection: socket.socket) -> str:
    text = bytearray()
    while data := connection.recv(4096):
        text += data
    if not text:
        raise ConnectionResetError("closed without an answer")
    return text.decode()
