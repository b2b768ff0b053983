"""When memory ends new connections are shed by name, and open ones go on."""

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
from eastgate.fastpath.loop.engine import Engine
from eastgate.fastpath.reason import Reason

from ..driven_engine import Gateway, client_hello

HELLO = client_hello()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(10)
        yield made


@pytest.mark.parametrize("workers", [0, 2])
def test_new_connections_are_shed_and_open_ones_go_on(server: socket.socket, workers: int) -> None:
    gateway = Gateway(server.getsockname(), workers=workers)
    client = gateway.connect(HELLO)
    gateway.until(lambda: gateway.slots.counters(gateway.slot).cx_active == 1)
    endpoint, _ = server.accept()
    gateway.engine.set_overloaded(True)
    with gateway.connect() as shed:
        assert gateway.end_of(shed) == "RST"
    assert (gateway.refused(Reason.OVERLOAD), gateway.refused(Reason.LIMIT)) == (1, 0)
    assert gateway.engine.active_connections() == 1
    client.sendall(b"still here")
    wanted = HELLO + b"still here"
    received = bytearray()

    def arrived() -> bool:
        endpoint.settimeout(0.01)
        with suppress(TimeoutError):
            received.extend(endpoint.recv(4096))
        return bytes(received) == wanted

    gateway.until(arrived)
    gateway.engine.set_overloaded(False)
    with gateway.connect(HELLO):
        gateway.until(lambda: gateway.slots.counters(gateway.slot).cx_total == 2)
    client.close()
    endpoint.close()
    gateway.close()


def test_limit_of_pipes_is_checked(server: socket.socket) -> None:
    gateway = Gateway(server.getsockname())
    for wrong in (-1, 1025):
        with pytest.raises(ValueError, match="max_pipes"):
            Engine(gateway.slots, seed=1, max_pipes=wrong)
    Engine(gateway.slots, seed=1, max_pipes=0).close()
    gateway.close()
