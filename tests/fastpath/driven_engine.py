"""Drive an Engine from a test: real sockets on loopback, a deadline instead of sleeps."""

import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import NamedTuple

import pytest
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.fastpath.loop.engine import Engine
from eastgate.fastpath.match.chains import ISTIO_ALPN, ChainSpec
from eastgate.fastpath.match.route_table import RouteTable
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.xds.columns import Columns, EndpointRow, Family, Health, Locality, LocalityEntry, columns_of
from eastgate.xds.resources import Hashing

from ..support import hellos

SERVICE = "outbound_.80_._.echo.default.svc.cluster.local"
DEADLINE_S = 10.0
# What the fixture closed_port gives: each call another address that refuses.
ClosedPort = Callable[[], tuple[str, int]]
# How a Gateway runs its engine unless it is told; see the fixture workers.
WORKERS = 0


def with_workers(*counts: int) -> pytest.MarkDecorator:
    """For pytestmark: every test of the module with so many threads, 0 being a hosted loop."""
    return pytest.mark.parametrize("workers", counts, indirect=True, ids=lambda count: f"workers={count}")


def client_hello(server_name: str | None = SERVICE, alpn: Sequence[str] = ("istio",)) -> bytes:
    """The first flight of a client of SERVICE."""
    return hellos.client_hello(server_name, alpn)


def columns(*addresses: tuple[str, int], health: tuple[int, ...] = ()) -> Columns:
    """Endpoints of one locality at priority 0, weight 1; a host with a slash is the path of a Unix socket."""
    place = Locality("r1", "z1")
    rows = [
        EndpointRow(*_packed(host), port, health=status, locality=place)
        for (host, port), status in zip(addresses, health or [Health.HEALTHY] * len(addresses), strict=True)
    ]
    return columns_of(rows, [LocalityEntry(place, 0, 1)])


def _packed(host: str) -> tuple[Family, bytes]:
    if "/" in host:
        return Family.UNIX, host.encode()
    if ":" in host:
        return Family.IPV6, socket.inet_pton(socket.AF_INET6, host)
    return Family.IPV4, socket.inet_aton(host)


class Gateway:
    """An engine with one AUTO_PASSTHROUGH listener whose one service goes to the given endpoints."""

    def __init__(
        self,
        *endpoints: tuple[str, int],
        host: str = "127.0.0.1",
        workers: int | None = None,
        event_capacity: int = 4096,
        busy_poll_us: int = 0,
        max_connections: int = 1_000_000,
        max_silent: int = 1_000_000,
        **listen: object,
    ) -> None:
        self.slots = ClusterSlots(64)
        self.slot = self.slots.acquire(SERVICE)
        self.workers = WORKERS if workers is None else workers
        self.engine = Engine(
            self.slots,
            seed=1,
            workers=self.workers,
            event_capacity=event_capacity,
            busy_poll_us=busy_poll_us,
            max_connections=max_connections,
            max_silent=max_silent,
        )
        self.engine.record_events(True)
        self.table = ClusterTable.compile(columns(*endpoints))
        self.slots.publish(self.slot, self.table)
        self.routes = self.route_to(self.slot)
        self.listener = self.engine.listen(host, 0, routes=self.routes, **listen)  # type: ignore[arg-type]
        self.address = self.engine.bound_address(self.listener)
        self._events: list = []

    def route_to(self, slot: int, **chain: object) -> RouteTable:
        return RouteTable.compile(
            [
                ChainSpec(
                    name=SERVICE,
                    server_names=(SERVICE,),
                    application_protocols=ISTIO_ALPN,
                    targets=((slot, 1),),
                    **chain,  # type: ignore[arg-type]
                )
            ]
        )

    def turn(self, wait_s: float = 0.02) -> None:
        select.select([self.engine.fileno()], [], [], wait_s)
        self.engine.turn()
        self._events += self.engine.take_events()

    @property
    def events(self) -> list:
        """All that were taken, up to now."""
        self._events += self.engine.take_events()
        return self._events

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, "the engine did not get there in time"
            self.turn()

    def connect(self, data: bytes = b"") -> socket.socket:
        peer = socket.create_connection(self.address)
        peer.setblocking(False)
        if data:
            peer.sendall(data)
        return peer

    def receive(self, peer: socket.socket, count: int) -> bytes:
        """Exactly `count` bytes, or fewer at the end of the stream."""
        got = bytearray()
        ended = False

        def enough() -> bool:
            nonlocal ended
            try:
                while len(got) < count:
                    chunk = peer.recv(min(count - len(got), 1 << 20))
                    if not chunk:
                        ended = True
                        break
                    got.extend(chunk)
            except BlockingIOError:
                pass
            return ended or len(got) >= count

        self.until(enough)
        return bytes(got)

    def end_of(self, peer: socket.socket) -> str:
        """How the gateway ends a connection without a byte: FIN or RST."""
        try:
            return "FIN" if self.receive(peer, 1) == b"" else "bytes"
        except ConnectionResetError:
            return "RST"

    def refused(self, reason: int) -> int:
        return self.engine.listener_counters(self.listener).refused[reason]

    def close(self) -> None:
        self.engine.close()


def gateway_to(
    *addresses: tuple[str, int],
    policy: str = "ROUND_ROBIN",
    hashing: Hashing | None = None,
    slot: Mapping[str, int] = MappingProxyType({}),
    **settings: object,
) -> Gateway:
    """A gateway whose service is these endpoints by this policy, with these settings of its slot."""
    gateway = Gateway(*addresses, **settings)  # type: ignore[arg-type]
    gateway.table = ClusterTable.compile(columns(*addresses), policy=policy, hashing=hashing)
    gateway.slots.publish(gateway.slot, gateway.table, **slot)  # type: ignore[arg-type]
    return gateway


@contextmanager
def upstream(family: int = socket.AF_INET, host: str = "127.0.0.1", backlog: int = 16) -> Iterator[socket.socket]:
    """A listening endpoint that the test accepts from by hand."""
    with socket.socket(family) as server:
        server.bind((host, 0) if family != socket.AF_UNIX else host)
        server.listen(backlog)
        server.settimeout(DEADLINE_S)
        yield server


def accept(server: socket.socket) -> socket.socket:
    peer, _ = server.accept()
    peer.setblocking(False)
    return peer


def accepted(gateway: Gateway, server: socket.socket) -> socket.socket:
    """Upstream end of the next connection; it comes with the first bytes, not before."""
    server.setblocking(False)
    ends: list[socket.socket] = []

    def arrived() -> bool:
        try:
            ends.append(accept(server))
        except BlockingIOError:
            return False
        return True

    gateway.until(arrived)
    return ends[0]


def established(gateway: Gateway, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """A relayed connection: (downstream end, upstream end), the hello already read upstream."""
    hello = client_hello()
    client = gateway.connect(hello)
    endpoint = accepted(gateway, server)
    assert gateway.receive(endpoint, len(hello)) == hello
    return client, endpoint


def has_bytes(peer: socket.socket) -> bool:
    """Whether something has come, which stays unread."""
    try:
        return bool(peer.recv(1, socket.MSG_PEEK))
    except (BlockingIOError, ConnectionResetError):
        return False


class Relay(NamedTuple):
    """An open connection of a gateway, and where the next ones arrive."""

    gateway: Gateway
    server: socket.socket
    client: socket.socket
    endpoint: socket.socket


@contextmanager
def relaying(backlog: int = 16) -> Iterator[Relay]:
    """A hosted engine with one relay, that goes on whatever is published for those who come now."""
    with upstream(backlog=backlog) as server:
        gateway = Gateway(server.getsockname())
        try:
            client, endpoint = established(gateway, server)
            with client, endpoint:
                yield Relay(gateway, server, client, endpoint)
        finally:
            gateway.close()
