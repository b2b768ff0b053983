"""Legs: bytes in their order, whatever the peer marks as urgent."""

import os
import socket
from collections.abc import Iterator

import pytest

from ..driven_engine import Gateway, accept, client_hello, upstream

HELLO = client_hello()
BLOCK = os.urandom(3_000_000)
TAIL = os.urandom(50_000)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with upstream() as listening:
        yield listening


@pytest.fixture(params=["splice", "peek"])
def gateway(server: socket.socket, request: pytest.FixtureRequest) -> Iterator[Gateway]:
    made = Gateway(server.getsockname())
    made.engine.set_splicing(request.param == "splice")
    yield made
    made.close()


def established(gateway: Gateway, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    client = gateway.connect(HELLO)
    gateway.until(lambda: gateway.table.state(0)[0])
    endpoint = accept(server)
    assert gateway.receive(endpoint, len(HELLO)) == HELLO
    return client, endpoint


def pass_on(gateway: Gateway, sender: socket.socket, receiver: socket.socket, data: bytes) -> bytes:
    """Send while the other side reads, so that no queue is full; what has arrived."""
    got = bytearray()
    view = memoryview(data)

    def passed() -> bool:
        nonlocal view
        try:
            while view:
                view = view[sender.send(view) :]
        except BlockingIOError:
            pass
        try:
            while len(got) < len(data):
                got.extend(receiver.recv(1 << 20))
        except BlockingIOError:
            pass
        return len(got) >= len(data)

    gateway.until(passed)
    return bytes(got)


@pytest.mark.parametrize("who", ["client", "endpoint"])
@pytest.mark.parametrize("ends", [True, False])
def test_bytes_behind_an_urgent_one_of_a_bulk_flow_arrive(
    gateway: Gateway, server: socket.socket, who: str, ends: bool
) -> None:
    client, endpoint = established(gateway, server)
    with client, endpoint:
        sender, receiver = (client, endpoint) if who == "client" else (endpoint, client)
        assert pass_on(gateway, sender, receiver, BLOCK) == BLOCK
        sender.send(b"!", socket.MSG_OOB)
        sender.sendall(TAIL)
        if ends:
            sender.shutdown(socket.SHUT_WR)
        assert gateway.receive(receiver, 1 + len(TAIL)) == b"!" + TAIL
        assert not ends or gateway.receive(receiver, 1) == b""


@pytest.mark.parametrize("who", ["client", "endpoint"])
def test_urgent_byte_in_the_queue_of_a_slow_reader_is_passed(gateway: Gateway, server: socket.socket, who: str) -> None:
    """All of it is announced before the pipe gets to the byte."""
    client, endpoint = established(gateway, server)
    with client, endpoint:
        sender, receiver = (client, endpoint) if who == "client" else (endpoint, client)
        sent = bytearray()
        quiet = 0

        def stuck() -> bool:
            nonlocal quiet
            quiet += 1
            try:
                while True:
                    sent.extend(BLOCK[: sender.send(BLOCK)])
                    quiet = 0
            except BlockingIOError:
                return quiet > 10

        gateway.until(stuck)
        sender.setblocking(True)
        room = gateway.receive(receiver, len(sent) - 1_000_000)
        sender.send(b"!", socket.MSG_OOB)
        sender.sendall(TAIL[:10_000])
        rest = gateway.receive(receiver, 1_000_000 + 1 + 10_000)
        assert room + rest == bytes(sent) + b"!" + TAIL[:10_000]


@pytest.mark.parametrize("who", ["client", "endpoint"])
def test_urgent_byte_between_small_messages_stays_in_its_place(
    gateway: Gateway, server: socket.socket, who: str
) -> None:
    client, endpoint = established(gateway, server)
    with client, endpoint:
        sender, receiver = (client, endpoint) if who == "client" else (endpoint, client)
        for word in (b"one", b"two", b"three"):
            sender.send(b"!", socket.MSG_OOB)
            sender.send(word)
            assert gateway.receive(receiver, 1 + len(word)) == b"!" + word


def test_urgent_byte_within_the_hello_is_part_of_it(gateway: Gateway, server: socket.socket) -> None:
    client = gateway.connect(HELLO[:100])
    gateway.turn()
    client.send(HELLO[100:101], socket.MSG_OOB)
    client.send(HELLO[101:])
    gateway.until(lambda: gateway.table.state(0)[0])
    with client, accept(server) as endpoint:
        assert gateway.receive(endpoint, len(HELLO)) == HELLO
