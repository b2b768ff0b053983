"""Acceptance: one of three endpoints is ejected, an event says what that moves, and counters are the client's tally.

The only one here is dead: until it is ejected each connection goes on to the other cluster, and counters say so.
"""

import json
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from ..support import messages
from ..support.gateway_process import Eastgate, run_command
from ..support.hellos import client_hello
from ..support.outlier_mesh import outlier_detection
from ..support.recordings import CDS, Resources
from ..support.replay_ads import ReplayThread
from ..support.switched_endpoints import SwitchedEndpoints
from ..support.waiting import until

NAME = messages.sni("web")
REFUSED = -1
LOCAL, REMOTE = range(3), 3
HERE, THERE = 0, 1
EJECTED_AFTER = 5
EJECTING = {
    "consecutive_5xx": EJECTED_AFTER,
    "interval": 0.3,
    "base_ejection_time": 1,
    "max_ejection_percent": 100,
}


class Client:
    """Connects one after the other, and keeps count of who answered."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self.tally: Counter[int] = Counter()

    def connect(self) -> int:
        with socket.create_connection(self._address, 10) as peer:
            peer.settimeout(10)
            try:
                peer.sendall(client_hello(NAME))
                answer = peer.recv(1)
            except ConnectionResetError:
                answer = b""
        met = answer[0] if answer else REFUSED
        self.tally[met] += 1
        return met


@contextmanager
def serving(resources: Resources, workers: str) -> Iterator[Eastgate]:
    """A gateway that has these, and is ready."""
    with closing(ReplayThread(resources)) as server, Eastgate(server.address, "--workers", workers) as running:
        running.wait_ready()
        yield running


@pytest.fixture(params=["0", "2"], ids=["hosted", "threads"])
def gateway(request: pytest.FixtureRequest) -> Iterator[tuple[Eastgate, SwitchedEndpoints]]:
    with closing(SwitchedEndpoints(4)) as endpoints:
        at = [messages.At(endpoints.address(number), priority=int(number == REMOTE)) for number in range(4)]
        chains = [messages.chain(NAME, max_connect_attempts=1)]
        resources = messages.resources({NAME: at}, listeners=[messages.listener(chains)])
        ejecting = {"consecutive_5xx": 1, "interval": 0.3, "base_ejection_time": 600, "max_ejection_percent": 100}
        resources[CDS][NAME] = messages.cluster(NAME, outlier_detection=outlier_detection(ejecting))
        with serving(resources, request.param) as running:
            yield running, endpoints


def counted(gateway: Eastgate, what: str) -> dict[str, int]:
    """By priority."""
    stats = gateway.stats(f"cluster.{NAME}.priority.")
    ours = {name: value for name, value in stats.items() if name.endswith(f".eastgate.{what}")}
    return {name.partition(".")[0]: value for name, value in ours.items()}


@pytest.mark.acceptance(feature="spill")
def test_spill_is_an_event_and_counters_are_the_clients_tally(gateway: tuple[Eastgate, SwitchedEndpoints]) -> None:
    running, endpoints = gateway
    client = Client(running.bound_address(messages.LISTENER))
    for _ in range(30):
        client.connect()
    assert set(client.tally) == set(LOCAL)
    assert counted(running, "load") == {"0": 100, "1": 0}
    endpoints.switch(1, on=False)
    while client.connect() != REFUSED:
        pass
    until(lambda: running.json("/events?kind=loads")["events"], "the spill is told")
    (event,) = running.json("/events?kind=loads")["events"]
    # 140 % x 2 / 3 = 93.
    assert (event["before"], event["after"]) == ([100, 0], [93, 7])
    assert event["cause"].startswith("{}:{} ejected".format(*endpoints.address(1)))
    assert counted(running, "load") == {"0": 93, "1": 7}
    for _ in range(200):
        client.connect()
    # Nobody met the ejected one again.
    assert client.tally[REFUSED] == 1
    assert client.tally[REMOTE] > 0
    local, remote = sum(client.tally[number] for number in LOCAL), client.tally[REMOTE]
    assert counted(running, "connections") == {"0": local, "1": remote}
    assert counted(running, "failures") == {"0": 1, "1": 0}
    # One byte from each endpoint.
    until(lambda: counted(running, "received_bytes") == {"0": local, "1": remote}, "all bytes are counted")


@pytest.fixture(params=["0", "2"], ids=["hosted", "threads"])
def two_clusters(request: pytest.FixtureRequest) -> Iterator[tuple[Eastgate, SwitchedEndpoints]]:
    """A service with one pod here, and behind the other cluster's gateway; as many attempts as there are by default."""
    with closing(SwitchedEndpoints(2)) as endpoints:
        at = [messages.At(endpoints.address(number), priority=number) for number in range(2)]
        resources = messages.resources({NAME: at})
        resources[CDS][NAME] = messages.cluster(NAME, outlier_detection=outlier_detection(EJECTING))
        with serving(resources, request.param) as running:
            yield running, endpoints


def test_a_dead_pod_costs_no_connection_before_it_is_ejected_while_another_cluster_has_one(
    two_clusters: tuple[Eastgate, SwitchedEndpoints],
) -> None:
    running, endpoints = two_clusters
    client = Client(running.bound_address(messages.LISTENER))
    assert [client.connect() for _ in range(10)] == [HERE] * 10
    endpoints.switch(HERE, on=False)
    # The last of these ejects it.
    assert [client.connect() for _ in range(EJECTED_AFTER)] == [THERE] * EJECTED_AFTER
    until(lambda: counted(running, "load") == {"0": 0, "1": 100}, "it is ejected")
    assert [client.connect() for _ in range(10)] == [THERE] * 10
    # What happened while the loads said 100 and 0 is told as it was.
    expected = {"0": 10, "1": EJECTED_AFTER + 10}
    assert counted(running, "connections") == expected
    assert counted(running, "failures") == {"0": EJECTED_AFTER, "1": 0}
    assert not any(
        value for name, value in running.stats(f"listener.{messages.LISTENER}.").items() if name.startswith("refused.")
    )
    run = run_command("explain", NAME, "--admin", running.admin, "--json")
    assert run.returncode == 0, run.stderr
    told = {one["priority"]: (one["connects"], one["failures"]) for one in json.loads(run.stdout)["so_far"]}
    assert told == {0: (10 + EJECTED_AFTER, EJECTED_AFTER), 1: (EJECTED_AFTER + 10, 0)}
    endpoints.switch(HERE, on=True)
    until(lambda: counted(running, "load") == {"0": 100, "1": 0}, "it is back")
    assert client.connect() == HERE
