"""Busy polling: it finds what comes soon, stops where nothing does, and is refused where nobody could do it."""

import socket
import time

import pytest
from eastgate.fastpath.loop.cluster_slots import ClusterSlots
from eastgate.fastpath.loop.engine import Engine
from eastgate.fastpath.loop.worker_totals import BusyPolls

from ..driven_engine import DEADLINE_S, SERVICE, Gateway, accept, client_hello, upstream

HELLO = client_hello(SERVICE)


def exchange(gateway: Gateway, server: socket.socket, times: int, pause_s: float, burst: int = 1) -> None:
    """So many times a burst of messages, each of which wakes the worker, and a pause."""
    with gateway.connect(HELLO) as client, accept(server) as endpoint, endpoint.makefile("rb") as arriving:
        assert gateway.receive(endpoint, len(HELLO)) == HELLO
        endpoint.settimeout(DEADLINE_S)
        for _ in range(times):
            for _ in range(burst):
                client.sendall(b"ping")
            assert arriving.read(4 * burst) == burst * b"ping"
            time.sleep(pause_s)


def test_off_unless_asked_for() -> None:
    with upstream() as server:
        gateway = Gateway(server.getsockname(), workers=1)
        exchange(gateway, server, 20, 0)
        assert gateway.engine.busy_polls() == BusyPolls(0, 0, 0)
        gateway.close()


def test_what_comes_soon_is_found_without_sleeping() -> None:
    with upstream() as server:
        gateway = Gateway(server.getsockname(), workers=1, busy_poll_us=1000)
        # On a busy machine asking was in vain and becomes rare. What is asked for then has come already.
        for _ in range(20):
            exchange(gateway, server, 500, 0, burst=20)
            if gateway.engine.busy_polls().found:
                break
        assert gateway.engine.busy_polls().found > 0
        gateway.close()


def test_asking_in_vain_becomes_rare() -> None:
    with upstream() as server:
        gateway = Gateway(server.getsockname(), workers=1, busy_poll_us=1)
        exchange(gateway, server, 300, 0.003)
        assert 0 < sum(gateway.engine.busy_polls()) < 100
        gateway.close()


@pytest.mark.parametrize(("workers", "busy_poll_us"), [(0, 50), (1, 1001), (1, -1)])
def test_impossible_settings_are_refused(workers: int, busy_poll_us: int) -> None:
    with pytest.raises(ValueError, match="busy"):
        Engine(ClusterSlots(1), seed=1, workers=workers, busy_poll_us=busy_poll_us)
