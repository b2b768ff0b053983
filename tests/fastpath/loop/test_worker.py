"""A worker beside other processes: what they hold copies of, and what epoll then reports."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from eastgate.fastpath.loop.worker_totals import StuckWorker
from eastgate.fastpath.reason import Reason

from ..driven_engine import Gateway, accept, client_hello, upstream

HELLO = client_hello()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with upstream() as listening:
        yield listening


@pytest.fixture
def gateway(server: socket.socket) -> Iterator[Gateway]:
    made = Gateway(server.getsockname(), workers=0)
    yield made
    made.close()


@contextmanager
def child(*ours: socket.socket) -> Iterator[None]:
    """A process that holds copies of all descriptors that are open now, but for the ends that the test holds itself."""
    ready, tell = os.pipe()
    number = os.fork()
    if number == 0:
        for peer in ours:
            peer.close()
        os.write(tell, b"!")
        while True:
            signal.pause()
    os.read(ready, 1)
    try:
        yield
    finally:
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)
        os.close(ready)
        os.close(tell)


def established(gateway: Gateway, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    active = gateway.table.state(0)[0]
    client = gateway.connect(HELLO)
    gateway.until(lambda: gateway.table.state(0)[0] > active)
    endpoint = accept(server)
    assert gateway.receive(endpoint, len(HELLO)) == HELLO
    return client, endpoint


def cut(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()


def handled(gateway: Gateway) -> int:
    """Descriptors that several turns found something at."""
    return sum(gateway.engine.turn() for _ in range(20))


@pytest.mark.parametrize("whose", ["client", "endpoint"])
def test_reset_of_a_connection_that_is_gone_reaches_no_other(
    gateway: Gateway, server: socket.socket, whose: str
) -> None:
    client, endpoint = established(gateway, server)
    with child(client, endpoint):
        # Its sockets stay alive in the child; its struct goes to the next connection.
        gateway.engine.close_connections()
        gateway.turn()
        other, other_endpoint = established(gateway, server)
        gateway.until(lambda: not handled(gateway))
        cut(client if whose == "client" else endpoint)
        assert handled(gateway) == 0
        other.sendall(b"alive")
        assert gateway.receive(other_endpoint, 5) == b"alive"
        for peer in (client, endpoint, other, other_endpoint):
            peer.close()
    gateway.until(lambda: len(gateway.events) == 2)
    assert [event.reason for event in gateway.events] == [Reason.DRAINED, Reason.NONE]


def test_end_of_a_refused_connection_reaches_nobody(gateway: Gateway) -> None:
    client = gateway.connect(HELLO[:50])
    gateway.until(lambda: gateway.engine.active_connections() == 1)
    with child(client):
        gateway.engine.close_connections()
        gateway.turn()
        # It lies in the same memory, and has not said anything.
        with gateway.connect() as other:
            gateway.until(lambda: gateway.engine.active_connections() == 1 and not handled(gateway))
            cut(client)
            assert handled(gateway) == 0
            assert gateway.engine.active_connections() == 1
            other.sendall(HELLO)
            gateway.until(lambda: gateway.table.state(0)[0])


def test_listener_that_is_closed_wakes_nobody(gateway: Gateway) -> None:
    address = gateway.address
    with child():
        gateway.engine.stop_accepting(gateway.listener)
        # The child's copy keeps listening: the kernel completes the handshake.
        with socket.create_connection(address):
            assert handled(gateway) == 0


def test_worker_that_sleeps_is_not_stuck(server: socket.socket) -> None:
    gateway = Gateway(server.getsockname(), workers=2)
    gateway.until(lambda: gateway.engine.stuck(0) == [])
    gateway.close()


def test_worker_in_the_middle_of_its_turn_is_named_with_its_thread(server: socket.socket) -> None:
    gateway = Gateway(server.getsockname(), workers=1)
    client, endpoint = established(gateway, server)
    block = bytes(1 << 20)
    found: list[StuckWorker] = []

    def seen() -> bool:
        """While bytes pass, it is in a turn most of the time."""
        for _ in range(100):
            with suppress(BlockingIOError):
                client.send(block)
            found.extend(gateway.engine.stuck(0))
            with suppress(BlockingIOError):
                endpoint.recv(1 << 20)
        return bool(found)

    with client, endpoint:
        gateway.until(seen)
    assert (found[0].worker, str(found[0].thread_id) in os.listdir("/proc/self/task")) == (0, True)
    assert found[0].seconds >= 0
    # None has been at it for an hour.
    assert gateway.engine.stuck(3600) == []
    gateway.close()
