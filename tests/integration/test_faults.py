"""Descriptors that run out, peers that vanish or reset, a control thread that stalls: who is connected stays served.

How little open connections notice is measured by `make bench-faults`; here it is held that nothing is lost, spins,
grows or goes uncounted.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryResponse
from envoy_data_plane.google.protobuf import Any as PackedAny

from ..support import hardship, messages
from ..support.encoded import assignment, endpoint
from ..support.gateway_process import StallableGateway
from ..support.hardship import DEAF, FLOOD, RoughEndpoints
from ..support.hellos import client_hello
from ..support.recordings import EDS
from ..support.replay_ads import ReplayThread
from ..support.tls_echo import Endpoint
from ..support.waiting import until

NAME, BIG = messages.sni("echo"), messages.sni("big")
PUSHED_ENDPOINTS = 100_000
HELLO_TIMEOUT_S = 1.0
# A worker that spins takes all of a CPU; one that looks for a descriptor ten times a second next to nothing.
SPINNING = 0.3
MEGABYTE = 1_000_000
# What 64 senders to an endpoint that never reads could make a proxy hold that buffers: 64 KiB each is 4 MB.
# A sanitizer keeps what was freed, up to 256 MB of it.
GROWTH_KB = 300_000 if "libasan" in os.environ.get("LD_PRELOAD", "") else 3000


class Client:
    """An open connection that asks and is answered."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._peer = socket.create_connection(address, 10)
        self._peer.sendall(client_hello(NAME))
        self.asked = 0
        self.ask()

    def ask(self) -> None:
        self._peer.sendall(b"WHO\n")
        answer = b""
        while not answer.endswith(b"\n"):
            got = self._peer.recv(1000)
            assert got, f"cut after {self.asked} answers"
            answer += got
        assert answer.startswith(b"127.0.0.1")
        self.asked += 1

    def ask_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.ask()
            time.sleep(0.01)

    def close(self) -> None:
        self._peer.close()


class Place:
    """A gateway with one friendly service and those of RoughEndpoints."""

    def __init__(self, stack: ExitStack, workers: int) -> None:
        self.workers = workers
        self.rough = stack.enter_context(RoughEndpoints())
        self.endpoint = Endpoint(("127.0.0.1", 0), tls=None)
        stack.callback(self.endpoint.close)
        services = {name: [messages.At(address)] for name, address in self.rough.addresses.items()}
        services |= {NAME: [messages.At(self.endpoint.address)], BIG: []}
        listener = messages.listener([messages.chain(name) for name in services], hello_timeout_s=HELLO_TIMEOUT_S)
        self.control = stack.enter_context(ReplayThread(messages.resources({**services}, listeners=[listener])))
        self.gateway = stack.enter_context(StallableGateway(self.control.address, "--workers", str(workers)))
        self.gateway.wait_ready()
        self.address = self.gateway.bound_address(messages.LISTENER)
        self.client = Client(self.address)
        stack.callback(self.client.close)

    def counters(self) -> dict[str, int]:
        return self.gateway.stats(f"listener.{messages.LISTENER}.")

    def refused(self, reason: str) -> int:
        return self.counters()[f"refused.{reason}"]

    def cluster(self, name: str) -> dict[str, int]:
        return self.gateway.stats(f"cluster.{name}.")

    def settled(self) -> None:
        """Only the open connection is left, and it is served; so is a new one."""

        def open_now() -> int:
            counters = self.counters()
            return counters["downstream_cx_active"] + counters["downstream_pre_cx_active"]

        hardship.wait_quiet(open_now, 1)
        for name in (FLOOD, DEAF, hardship.RESETTING):
            counters = self.cluster(name)
            assert counters["upstream_cx_active"] == counters["upstream_rq_pending_active"] == 0, name
        self.client.ask()
        Client(self.address).close()

    def cpu_share(self, seconds: float) -> float:
        """How much of one CPU the gateway takes while nobody asks it for anything."""
        begun, before = time.monotonic(), self.gateway.cpu_s()
        time.sleep(seconds)
        return (self.gateway.cpu_s() - before) / (time.monotonic() - begun)


@pytest.fixture(scope="module", params=[0, 1, 4])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(stack, request.param)


def test_without_descriptors_accepting_pauses_without_spinning_and_resumes(place: Place) -> None:
    late: list[socket.socket] = []
    before = place.refused("limit")
    with hardship.descriptors_exhausted(place.gateway.pid, place.address):
        place.client.ask_for(0.2)
        assert place.cpu_share(1.0) < SPINNING
        # More than every queue of a worker holds descriptors for, so at least one of these has to wait.
        late += [hardship.connect(place.address, client_hello(NAME) + b"WHO\n") for _ in range(40)]
        place.client.ask()
    for peer in late:
        peer.settimeout(10)
        assert peer.recv(1) == b"1", "who waited is served"
        peer.close()
    # Counted once for each look that found none: some every ACCEPT_RETRY_MS, and not once a turn.
    assert 0 < place.refused("limit") - before < 1000
    place.settled()


def test_clients_beyond_a_full_backlog_cost_nobody_else(place: Place) -> None:
    overflows = listen_overflows()
    with hardship.backlog_full(place.gateway.pid, place.address, queues=max(1, place.workers)):
        until(lambda: listen_overflows() > overflows, "a queue is full")
        place.client.ask_for(0.2)
        assert place.cpu_share(1.0) < SPINNING
    place.settled()


def listen_overflows() -> int:
    """Handshakes that the kernel dropped because a listener's queue was full."""
    with open("/proc/net/netstat") as file:
        names, values = [line.split() for line in file if line.startswith("TcpExt:")]
    return int(values[names.index("ListenOverflows")])


def test_slow_readers_hold_up_their_own_endpoint_only(place: Place) -> None:
    before = place.gateway.resident_kb()
    with hardship.slow_readers(place.address):
        place.client.ask_for(1.0)
        assert place.cluster(FLOOD)["upstream_cx_active"] == 64
    assert place.gateway.resident_kb() - before < GROWTH_KB
    place.settled()


def test_slow_hellos_are_refused_by_name_when_their_time_is_over(place: Place) -> None:
    before = place.refused("hello_timeout")
    with hardship.slow_hellos(place.address, clients=200):
        place.client.ask_for(0.3)
        until(lambda: place.refused("hello_timeout") - before == 200, "all are refused")
        place.client.ask()
    place.settled()


def test_peers_that_vanish_stay_bounded_and_end_when_they_are_heard_of(place: Place) -> None:
    before = place.gateway.resident_kb()
    with hardship.silent_peers(place.address, clients=100):
        place.client.ask_for(1.0)
        assert place.cluster(FLOOD)["upstream_cx_active"] == 100
        assert place.cpu_share(0.5) < SPINNING + 100 * 0.002, "waiting for those who vanished spins"
    assert place.gateway.resident_kb() - before < GROWTH_KB
    place.settled()


def test_resets_in_every_state_are_counted_and_leave_nothing(place: Place) -> None:
    before = place.counters()
    with hardship.resets_in_every_state(place.address) as done:
        place.client.ask_for(1.0)
    place.settled()
    after = place.counters()
    counted = {name: after[name] - before[name] for name in after}
    # The connection that settled() makes comes on top.
    assert counted["eastgate.accepted_total"] == done[0] + 1
    by_state = done[0] // 5
    # A client that resets may do so before its first byte was looked at.
    assert counted["refused.idle_probe"] + counted["refused.truncated_hello"] >= 2 * by_state
    known = ("idle_probe", "truncated_hello", "client_gone")
    assert all(not counted[f"refused.{name}"] for name in REASONS if name not in known), counted


REASONS = (
    *(
        "not_tls",
        "hello_timeout",
        "malformed_hello",
        "no_sni",
        "unknown_server_name",
        "alpn_mismatch",
        "unknown_cluster",
    ),
    *("unknown_cluster", "no_endpoints", "none_healthy", "overflow", "limit", "policy", "connect_failed"),
    *("connect_timeout", "drained"),
)


def test_endpoint_that_never_reads_stops_its_senders_and_nobody_else(place: Place) -> None:
    before = place.gateway.resident_kb()
    with hardship.endpoint_never_reads(place.address, place.rough) as sent:
        place.client.ask_for(0.7)
        until(lambda: stands_still(sent), "the senders are stopped")
        assert place.cpu_share(0.5) < SPINNING
        assert place.cluster(DEAF)["upstream_cx_active"] == 64
    assert place.gateway.resident_kb() - before < GROWTH_KB
    place.settled()


def stands_still(sent: list[int]) -> bool:
    before = sent[0]
    time.sleep(0.3)
    return sent[0] == before > 64 * 65536


def test_stall_of_the_control_thread_is_not_noticed_by_connections(place: Place) -> None:
    asked = place.client.asked
    is_over = place.gateway.stall()
    if place.workers:
        # Ten answers while the control thread is in pure Python; new connections as well.
        for _ in range(10):
            place.client.ask()
        Client(place.address).close()
        assert not is_over(), "the stall ended before anything could be seen"
    until(is_over, "the stall is over")
    place.client.ask()
    assert place.client.asked > asked
    place.settled()


def test_collection_of_a_big_heap_is_not_noticed_by_connections(place: Place) -> None:
    until(place.gateway.collect(), "the heap is made")
    asked = place.client.asked
    is_over = place.gateway.collect()
    while not is_over():
        place.client.ask()
    place.client.ask()
    assert place.client.asked > asked
    place.settled()


def test_push_of_100_000_endpoints_cuts_nothing(place: Place) -> None:
    payload = assignment([endpoint(1 + index) for index in range(PUSHED_ENDPOINTS)], name=BIG)
    packed = PackedAny(type_url=EDS, value=payload)
    place.control.send_raw(bytes(DiscoveryResponse(version_info="big", type_url=EDS, nonce="big", resources=[packed])))
    while place.cluster(BIG)["membership_total"] != PUSHED_ENDPOINTS:
        place.client.ask()
    place.settled()
