"""Durations are counted under the same names, in the same buckets and as often as by real Envoy."""

import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from ..support import messages
from ..support.gateway_process import Eastgate, Envoy, ProxyProcess
from ..support.hellos import client_hello
from ..support.replay_ads import ReplayThread
from ..support.tls_echo import Endpoint, TestCa
from ..support.waiting import until
from .test_statistics import connect

SERVED, REFUSING = messages.sni("echo"), messages.sni("refusing")
ANSWERED, REFUSED, UNKNOWN, ATTEMPTS = 5, 3, 2, 2
# name -> (bounds, how many in all)
Found = dict[str, tuple[tuple[float, ...], int]]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint(("127.0.0.1", 0), tls=TestCa().server_context("127.0.0.1"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def refusing() -> Iterator[tuple[str, int]]:
    """An address where nobody listens, and nobody else will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()


def flushed_often(bootstrap: dict[str, Any]) -> None:
    # Envoy merges what its workers counted when it flushes.
    bootstrap["stats_flush_interval"] = "0.1s"


def histograms(proxy: ProxyProcess) -> Found:
    """Of the listener and the clusters under test."""
    found: Found = {}
    for stat in proxy.json("/stats?format=json&usedonly&histogram_buckets=cumulative&filter=_ms$")["stats"]:
        for one in stat.get("histograms", ()):
            part, _, short = one["name"].rpartition(".")
            if part in (f"cluster.{SERVED}", f"cluster.{REFUSING}"):
                name = one["name"]
            elif part.startswith("listener.") and "admin" not in part:
                name = f"listener.{short}"
            else:
                continue
            cells = one["buckets"]
            found[name] = (tuple(cell["upper_bound"] for cell in cells), cells[-1]["cumulative"])
    return found


def counted(proxy: ProxyProcess) -> Found:
    address = proxy.wait_ready().bound_address(messages.LISTENER)
    for name, count in ((SERVED, ANSWERED), (REFUSING, REFUSED), ("unknown.test", UNKNOWN)):
        for _ in range(count):
            connect(address, name).close()
    # One that says nothing is no connection of the listener's yet.
    with socket.create_connection(address, 10) as half:
        half.sendall(client_hello(SERVED)[:10])
    found: list[Found] = []

    def complete() -> bool:
        found.append(histograms(proxy))
        return found[-1].get("listener.downstream_cx_length_ms", ((), 0))[1] == ANSWERED + REFUSED

    until(complete, "all connections are in the histograms")
    return found[-1]


def test_buckets_and_counts_are_envoys(endpoint: Endpoint, refusing: tuple[str, int]) -> None:
    chains = [messages.chain(name, max_connect_attempts=ATTEMPTS) for name in (SERVED, REFUSING)]
    endpoints = {SERVED: [messages.At(endpoint.address)], REFUSING: [messages.At(refusing)]}
    server = ReplayThread(messages.resources(endpoints, listeners=[messages.listener(chains)]))
    try:
        found = []
        for start in (Eastgate, partial(Envoy, change=flushed_often)):
            with start(server.address) as proxy:
                found.append(counted(proxy))
        ours, envoys = found
        assert ours == envoys
        assert {name: count for name, (_, count) in ours.items()} == {
            "listener.downstream_cx_length_ms": ANSWERED + REFUSED,
            f"cluster.{SERVED}.upstream_cx_connect_ms": ANSWERED,
            f"cluster.{SERVED}.upstream_cx_length_ms": ANSWERED,
            # Whatever was begun lasted; only what was connected took its time to.
            f"cluster.{REFUSING}.upstream_cx_length_ms": REFUSED * ATTEMPTS,
        }
    finally:
        server.close()
