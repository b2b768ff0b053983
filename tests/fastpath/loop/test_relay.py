"""Bulk through pipes: exact both ways, slow readers, half-close, resets; no pipe is used again with bytes in it."""

import hashlib
import os
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..driven_engine import DEADLINE_S, Gateway, accept, client_hello, upstream

HELLO = client_hello()
MEGABYTE = 1 << 20
ROOT = Path(__file__).resolve().parents[3]
BLOCK = os.urandom(MEGABYTE + 4099)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with upstream(backlog=64) as listening:
        yield listening


@pytest.fixture(params=[0, 1, 4], ids=lambda count: f"workers={count}")
def gateway(server: socket.socket, request: pytest.FixtureRequest) -> Iterator[Gateway]:
    made = Gateway(server.getsockname(), workers=request.param)
    yield made
    made.close()


def pipes() -> int:
    """Pipes that this process has open."""
    links = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            continue
    return len({link for link in links if link.startswith("pipe:")})


def established(gateway: Gateway, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    active = gateway.table.state(0)[0]
    client = gateway.connect(HELLO)
    gateway.until(lambda: gateway.table.state(0)[0] > active)
    endpoint = accept(server)
    assert gateway.receive(endpoint, len(HELLO)) == HELLO
    for peer in (client, endpoint):
        peer.settimeout(6 * DEADLINE_S)
    return client, endpoint


class Sender(threading.Thread):
    """Sends `total` bytes and then FIN; `digest` is of what was sent."""

    def __init__(self, peer: socket.socket, total: int) -> None:
        super().__init__(daemon=True)
        self._peer, self._total = peer, total
        self.digest = hashlib.blake2b()

    def run(self) -> None:
        sent = 0
        while sent < self._total:
            at = sent % (len(BLOCK) - 65536)
            piece = BLOCK[at : at + min(self._total - sent, 200_003)]
            self._peer.sendall(piece)
            self.digest.update(piece)
            sent += len(piece)
        self._peer.shutdown(socket.SHUT_WR)


class Receiver(threading.Thread):
    """Reads to the end of the stream, pausing `pause_s` after each `read_size` bytes."""

    def __init__(self, peer: socket.socket, read_size: int = MEGABYTE, pause_s: float = 0.0) -> None:
        super().__init__(daemon=True)
        self._peer, self._size, self._pause_s = peer, read_size, pause_s
        self.count, self.digest = 0, hashlib.blake2b()
        self.error: OSError | None = None

    def run(self) -> None:
        try:
            while piece := self._peer.recv(self._size):
                self.count += len(piece)
                self.digest.update(piece)
                if self._pause_s:
                    time.sleep(self._pause_s)
        except OSError as error:
            self.error = error


def drive(gateway: Gateway, threads: list[threading.Thread]) -> None:
    """Turn the engine until the threads have ended."""
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 6 * DEADLINE_S
    while any(thread.is_alive() for thread in threads):
        assert time.monotonic() < deadline, "the transfer did not end"
        gateway.turn()


def transfer(gateway: Gateway, server: socket.socket, up: int, down: int, **reading: float) -> None:
    client, endpoint = established(gateway, server)
    senders = [Sender(client, up), Sender(endpoint, down)]
    receivers = [Receiver(endpoint, **reading), Receiver(client, **reading)]  # type: ignore[arg-type]
    with client, endpoint:
        drive(gateway, [*senders, *receivers])
    assert [receiver.error for receiver in receivers] == [None, None]
    assert [receiver.count for receiver in receivers] == [up, down]
    assert [sender.digest.digest() for sender in senders] == [receiver.digest.digest() for receiver in receivers]
    gateway.until(lambda: gateway.engine.active_connections() == 0)
    counters = gateway.engine.listener_counters(gateway.listener)
    assert (counters.rx_bytes, counters.tx_bytes) == (up + len(HELLO), down)


@pytest.mark.parametrize("splicing", [True, False])
def test_100_megabytes_each_way_at_once_arrive_byte_exact(
    gateway: Gateway, server: socket.socket, splicing: bool
) -> None:
    gateway.engine.set_splicing(splicing)
    before = pipes()
    transfer(gateway, server, 100 * MEGABYTE + 1, 100 * MEGABYTE + 17)
    # What flows gave back is kept for the next ones.
    assert (pipes() > before) == splicing
    gateway.close()
    assert pipes() == before


def test_slow_readers_get_every_byte(gateway: Gateway, server: socket.socket) -> None:
    transfer(gateway, server, 3 * MEGABYTE, 4 * MEGABYTE, read_size=30_011, pause_s=0.0005)


@pytest.mark.parametrize("sizes", [(40 * MEGABYTE, 1), (1, 40 * MEGABYTE), (16384, 16385)])
def test_half_close_travels_behind_the_last_byte(
    gateway: Gateway, server: socket.socket, sizes: tuple[int, int]
) -> None:
    transfer(gateway, server, *sizes)


def test_flow_that_was_bulk_and_is_small_again_stays_exact(gateway: Gateway, server: socket.socket) -> None:
    client, endpoint = established(gateway, server)
    with client, endpoint:
        for size in (300_000, 10, 5_000_000, 16384, 16383, 32768, 1, 700_000, 3, 3, 3):
            data = BLOCK[:size] * (size // len(BLOCK) + 1)
            sender = threading.Thread(target=client.sendall, args=(data[:size],), daemon=True)
            sender.start()
            endpoint.setblocking(False)
            assert gateway.receive(endpoint, size) == data[:size]
            sender.join()


def stuck_transfer(gateway: Gateway, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """A connection whose reader takes nothing: bytes lie in the queues and in a pipe."""
    client, endpoint = established(gateway, server)
    client.setblocking(False)
    quiet = 0

    def stuck() -> bool:
        nonlocal quiet
        try:
            while True:
                client.send(BLOCK)
                quiet = 0
        except BlockingIOError:
            quiet += 1
        return quiet > 10

    gateway.until(stuck)
    return client, endpoint


def test_pipe_that_holds_bytes_is_closed_with_its_connection_and_never_used_again(
    gateway: Gateway, server: socket.socket
) -> None:
    for _ in range(3):
        client, endpoint = stuck_transfer(gateway, server)
        for peer in (client, endpoint):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
        gateway.until(lambda: gateway.engine.active_connections() == 0)
        # A byte that was left in a pooled pipe would arrive here.
        transfer_after_resets(gateway, server)
        gateway.until(lambda: gateway.engine.active_connections() == 0)


def transfer_after_resets(gateway: Gateway, server: socket.socket) -> None:
    client, endpoint = established(gateway, server)
    sender, receiver = Sender(client, 5 * MEGABYTE), Receiver(endpoint)
    with client, endpoint:
        drive(gateway, [sender, receiver])
    assert sender.digest.digest() == receiver.digest.digest()


@pytest.mark.parametrize("who", ["reader", "writer"])
def test_reset_in_the_middle_of_bulk_reaches_the_other_side_as_reset(
    gateway: Gateway, server: socket.socket, who: str
) -> None:
    client, endpoint = stuck_transfer(gateway, server)
    going, staying = (endpoint, client) if who == "reader" else (client, endpoint)
    going.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    going.close()
    staying.setblocking(False)

    def reset() -> bool:
        try:
            return staying.recv(MEGABYTE) == b"" and pytest.fail("a reset came as an orderly end")
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True

    gateway.until(reset)
    staying.close()
    gateway.until(lambda: gateway.engine.active_connections() == 0)


def test_reset_of_the_writer_ends_the_connection_though_the_reader_never_reads(
    gateway: Gateway, server: socket.socket
) -> None:
    client, endpoint = stuck_transfer(gateway, server)
    with endpoint:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        gateway.until(lambda: gateway.engine.active_connections() == 0)


def test_without_descriptors_for_pipes_bulk_is_copied(gateway: Gateway, server: socket.socket) -> None:
    client, endpoint = established(gateway, server)
    sender, receiver = Sender(client, 20 * MEGABYTE), Receiver(endpoint)
    before = pipes()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = os.open("/dev/null", os.O_RDONLY)
    os.close(highest)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
        with client, endpoint:
            drive(gateway, [sender, receiver])
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert pipes() == before
            assert gateway.engine.pipes_refused() > 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert receiver.count == 20 * MEGABYTE
    assert sender.digest.digest() == receiver.digest.digest()


# In a user namespace of its own even root has an ordinary user's budget of pipe pages, which this uses up first.
SMALL_PIPES = """
import fcntl, os, socket, sys, threading
from tests.fastpath.loop.test_relay import MEGABYTE, Receiver, Sender, drive, established
from tests.fastpath.driven_engine import Gateway

used, size = [], MEGABYTE
while size >= 65536 and len(used) < 400:
    used.append(os.pipe())
    try:
        size = fcntl.fcntl(used[-1][1], fcntl.F_SETPIPE_SZ, MEGABYTE)
    except PermissionError:
        size = fcntl.fcntl(used[-1][1], fcntl.F_GETPIPE_SZ)
with socket.create_server(("127.0.0.1", 0)) as server:
    server.settimeout(10)
    gateway = Gateway(server.getsockname(), workers=1)
    client, endpoint = established(gateway, server)
    sender, receiver = Sender(client, 20 * MEGABYTE), Receiver(endpoint)
    drive(gateway, [sender, receiver])
    print(size, sender.digest.digest() == receiver.digest.digest(), gateway.engine.pipes_refused() > 0)
"""


def test_pipes_that_are_too_small_are_not_used() -> None:
    namespace = ["unshare", "--user", "--map-root-user"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("user namespaces are not allowed here")
    command = [*namespace, sys.executable, "-c", SMALL_PIPES]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    size, exact, refused = run.stdout.split()
    assert int(size) < 65536
    assert (exact, refused) == ("True", "True")


def test_bulk_flows_share_a_turn_with_a_small_one(server: socket.socket) -> None:
    # Hosted, so that turns can be counted: eight flows that always have bytes, one that has a few now and then.
    gateway = Gateway(server.getsockname(), workers=0)
    bulk = [established(gateway, server) for _ in range(8)]
    small_client, small_endpoint = established(gateway, server)
    threads: list[threading.Thread] = []
    for client, endpoint in bulk:
        threads += [Sender(client, 60 * MEGABYTE), Receiver(endpoint)]
    for thread in threads:
        thread.start()
    small_endpoint.setblocking(False)
    gateway.until(lambda: gateway.engine.listener_counters(gateway.listener).rx_bytes > 20 * MEGABYTE)
    asked = 0
    while any(thread.is_alive() for thread in threads):
        small_client.sendall(b"ping")
        # On loopback the bytes are there when send returns: this turn, or the next if its events were full, moves them.
        gateway.engine.turn()
        gateway.engine.turn()
        assert small_endpoint.recv(4) == b"ping"
        asked += 1
    assert asked > 10
    for client, endpoint in [*bulk, (small_client, small_endpoint)]:
        client.close()
        endpoint.close()
    gateway.close()
