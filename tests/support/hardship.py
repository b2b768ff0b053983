"""Limits and peers that make life hard for a proxy. Each hardship is a context manager: it lasts until it is left.

What a hardship needs of a proxy: its address, and clusters that lead to `RoughEndpoints`. All of it is on loopback and
needs no privilege.
"""

import ctypes
import os
import resource
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, MutableSequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Self

from .hellos import client_hello
from .messages import sni
from .waiting import until

Address = tuple[str, int]

TICK_S = 0.005
# FLOOD sends 400 kB/s to each of its clients: more than they take, not so much that the machine is what is measured.
FLOOD_S, FLOOD_BYTES = 0.01, bytes(4096)
BLOCK = bytes(65536)
SPARE_DESCRIPTORS = 20
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
# One instruction of classic BPF: return 0, keep nothing of any packet.
DROP_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0)

FLOOD, DEAF, RESETTING = (sni(name) for name in ("flood", "deaf", "resetting"))
"""Services of RoughEndpoints: sends without end; accepts and never reads; resets at the first byte."""


def open_descriptors(pid: int) -> list[int]:
    return sorted(int(name) for name in os.listdir(f"/proc/{pid}/fd"))


def reset(peer: socket.socket) -> None:
    """Close with RST instead of FIN."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def fall_silent(peer: socket.socket) -> None:
    """From now on nothing that comes in is taken, acknowledged or reset: as if the cable were cut."""
    # The kernel copies the program during the call.
    program = bytearray(DROP_ALL)
    where = struct.pack("HP", 1, _address_of(program))
    peer.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, where)


def _address_of(buffer: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def hear_again(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


def begin_connect(address: Address) -> socket.socket:
    """A client whose handshake goes on by itself."""
    peer = socket.socket()
    peer.setblocking(False)
    peer.connect_ex(address)
    return peer


def connect(address: Address, data: bytes = b"", *, buffer_bytes: int = 0) -> socket.socket:
    """A client that is connected and has sent `data`; non-blocking."""
    peer = socket.socket()
    if buffer_bytes:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    peer.settimeout(10)
    peer.connect(address)
    if data:
        peer.sendall(data)
    peer.setblocking(False)
    return peer


class RoughEndpoints:
    """Endpoints of FLOOD, DEAF and RESETTING on one thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ, "wake")
        self.addresses: dict[str, Address] = {}
        self.accepted: dict[str, int] = {}
        self._listening: list[socket.socket] = []
        self._open: set[socket.socket] = set()
        self._flooded: set[socket.socket] = set()
        self._deaf: list[socket.socket] = []
        for name in (FLOOD, DEAF, RESETTING):
            listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
            listening.setblocking(False)
            self.addresses[name] = listening.getsockname()
            self.accepted[name] = 0
            self._listening.append(listening)
            self._selector.register(listening, selectors.EVENT_READ, name)
        self._thread = threading.Thread(target=self._run, daemon=True, name="rough-endpoints")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._wake.close()
        self._thread.join(10)
        for one in (*self._listening, *self._open, self._woken):
            one.close()
        self._selector.close()

    def _run(self) -> None:
        next_flood = 0.0
        while True:
            if (now := time.monotonic()) >= next_flood:
                next_flood = now + FLOOD_S
                for peer in list(self._flooded):
                    self._flood(peer)
            for key, _ in self._selector.select(max(0.0, next_flood - time.monotonic()) if self._flooded else None):
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                if key.data == "wake":
                    return
                if ready in self._listening:
                    self._accept(ready, key.data)
                else:
                    self._drop(ready, with_reset=True)

    def _accept(self, listening: socket.socket, name: str) -> None:
        with suppress(OSError):
            peer, _ = listening.accept()
            peer.setblocking(False)
            self.accepted[name] += 1
            self._open.add(peer)
            if name == FLOOD:
                self._flooded.add(peer)
            elif name == DEAF:
                self._deaf.append(peer)
            else:
                self._selector.register(peer, selectors.EVENT_READ, name)

    def _flood(self, peer: socket.socket) -> None:
        try:
            peer.send(FLOOD_BYTES)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(peer)

    def _drop(self, peer: socket.socket, *, with_reset: bool = False) -> None:
        self._open.discard(peer)
        self._flooded.discard(peer)
        if with_reset:
            self._selector.unregister(peer)
            reset(peer)
        else:
            peer.close()

    def let_go(self) -> None:
        """End what DEAF holds."""
        while self._deaf:
            peer = self._deaf.pop()
            self._open.discard(peer)
            reset(peer)


@contextmanager
def repeated(turn: Callable[[], None]) -> Iterator[None]:
    """Take such turns on a thread, a TICK_S apart. What a turn raises is raised here in the end."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(TICK_S):
            turn()

    with ThreadPoolExecutor(1, thread_name_prefix="hardship") as thread:
        turns = thread.submit(run)
        try:
            yield
        finally:
            over.set()
        turns.result(10)


@contextmanager
def held(
    peers: MutableSequence[socket.socket], end: Callable[[socket.socket], None] = reset
) -> Iterator[MutableSequence[socket.socket]]:
    try:
        yield peers
    finally:
        for peer in peers:
            with suppress(OSError):
                end(peer)


@contextmanager
def descriptors_exhausted(pid: int, address: Address, *, clients: int = 4 * SPARE_DESCRIPTORS) -> Iterator[None]:
    """The process has no descriptor left, and clients wait that it cannot accept. Nor can its admin server."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with held([]) as peers:
        limit = open_descriptors(pid)[-1] + 1 + SPARE_DESCRIPTORS
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
        try:
            for _ in range(clients):
                peers.append(begin_connect(address))
            until(lambda: len(open_descriptors(pid)) == limit, "every descriptor is taken")
            yield
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def backlog_limit() -> int:
    """The longest queue of clients that the kernel keeps for a listener."""
    with open("/proc/sys/net/core/somaxconn") as file:
        return int(file.read())


@contextmanager
def backlog_full(pid: int, address: Address, *, queues: int = 1) -> Iterator[None]:
    """Nothing can be accepted, and more clients knock than the kernel's queues hold: the last ones get no handshake."""
    # They are dealt out to the queues by hash; the fullest gets its fill before all of them do.
    with descriptors_exhausted(pid, address, clients=queues * min(backlog_limit(), 4096) + 200):
        yield


@contextmanager
def slow_readers(address: Address, *, clients: int = 64) -> Iterator[None]:
    """Clients of a fast endpoint that take a little now and then."""
    with held([connect(address, client_hello(FLOOD), buffer_bytes=4096) for _ in range(clients)]) as peers:

        def turn() -> None:
            for peer in peers:
                with suppress(BlockingIOError):
                    assert peer.recv(512), "the proxy ended a connection to a slow reader"

        with repeated(turn):
            yield


@contextmanager
def slow_hellos(address: Address, *, clients: int = 500) -> Iterator[None]:
    """Clients that send their hello byte by byte and do not finish."""
    hello = client_hello(FLOOD)
    with held([connect(address) for _ in range(clients)]) as peers:
        waiting = deque((peer, 0) for peer in peers)

        def turn() -> None:
            for _ in range(10):
                peer, at = waiting.popleft()
                if at < len(hello) - 1:
                    # Refused meanwhile: that may be.
                    with suppress(ConnectionError):
                        peer.send(hello[at : at + 1])
                    at += 1
                waiting.append((peer, at))

        with repeated(turn):
            yield


@contextmanager
def silent_peers(address: Address, *, clients: int = 200) -> Iterator[None]:
    """Clients that got their first bytes and vanished without FIN or RST, while their endpoints go on sending."""

    def end(peer: socket.socket) -> None:
        hear_again(peer)
        reset(peer)

    peers = [connect(address, client_hello(FLOOD), buffer_bytes=4096) for _ in range(clients)]
    for peer in peers:
        peer.setblocking(True)
        peer.settimeout(10)
        assert peer.recv(1)
        fall_silent(peer)
    with held(peers, end):
        yield


@contextmanager
def resets_in_every_state(address: Address) -> Iterator[list[int]]:
    """Clients that reset before, in, and after their hello, and while bytes flow; and an endpoint that resets.

    Yields a list whose only entry counts them.
    """
    flood, resetting = client_hello(FLOOD), client_hello(RESETTING)
    done = [0]
    flowing: deque[socket.socket] = deque()
    ended: deque[socket.socket] = deque()

    def turn() -> None:
        reset(connect(address))
        reset(connect(address, flood[:100]))
        reset(connect(address, flood))
        flowing.append(connect(address, flood))
        ended.append(connect(address, resetting))
        if len(flowing) > 10:
            reset(flowing.popleft())
            ended.popleft().close()
        done[0] += 5

    with ExitStack() as stack:
        stack.enter_context(held(flowing))
        stack.enter_context(held(ended))
        stack.enter_context(repeated(turn))
        yield done


@contextmanager
def endpoint_never_reads(address: Address, endpoints: RoughEndpoints, *, clients: int = 64) -> Iterator[list[int]]:
    """Clients that send as much as is taken, to an endpoint that accepts and never reads.

    Yields a list whose only entry counts the bytes.
    """
    sent = [0]
    with held([connect(address, client_hello(DEAF)) for _ in range(clients)]) as peers:

        def turn() -> None:
            for peer in peers:
                with suppress(BlockingIOError):
                    sent[0] += peer.send(BLOCK)

        with repeated(turn):
            yield sent
    endpoints.let_go()


def wait_quiet(active: Callable[[], int], expected: int, *, deadline_s: float = 10.0) -> None:
    """Until so many connections are open again."""
    end = time.monotonic() + deadline_s
    while (now := active()) != expected:
        assert time.monotonic() < end, f"{now} connections are open, not {expected}"
        time.sleep(0.02)
