"""A fault in any part of the control side: connections live, new ones go by last good, and the fault is told.

One gateway takes every fault, one after the other, and works as if nothing had been after each.
"""

import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from eastgate.proxy.control_errors import Part
from eastgate.xds.message import encode
from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterRoundRobinLbConfig,
    ClusterSlowStartConfig,
    OutlierDetection,
)
from envoy_data_plane.envoy.config.core.v3 import HealthCheck, HealthCheckTcpHealthCheck
from envoy_data_plane.envoy.config.listener.v3 import FilterChain

from ..support import messages
from ..support.gateway_process import FaultyGateway
from ..support.hellos import client_hello
from ..support.recordings import CDS, EDS, LDS
from ..support.replay_ads import ReplayThread
from ..support.tls_echo import Endpoint
from ..support.waiting import until

PROXY = "eastgate.proxy"
FAULTS = [
    (Part.STREAM, "eastgate.xds.ads:AdsClient._take"),
    (Part.STREAM, "eastgate.xds.store:Store.steps"),
    (Part.DECODE, "eastgate.xds.store:Store._decode"),
    (Part.COMPILE, f"{PROXY}.compile.cluster_tables:compile_table"),
    (Part.COMPILE, f"{PROXY}.compile.listener_tables:chain_spec"),
    (Part.PUBLISH, f"{PROXY}.compile.cluster_views:ClusterViews.publish"),
    (Part.PUBLISH, f"{PROXY}.compile.compiler:Compiler._publish"),
    (Part.PUBLISH, f"{PROXY}.listeners:Listeners._settle"),
    (Part.DNS, f"{PROXY}.serving:routed_dns_clusters"),
    (Part.DNS, f"{PROXY}.membership.dns_clusters:DnsClusters._answered"),
    (Part.HEALTH, f"{PROXY}.membership.health_checks:HealthChecks._note"),
    (Part.HEALTH, f"{PROXY}.membership.health_checks:HealthChecks._follow"),
    (Part.HEALTH, f"{PROXY}.membership.health_checks:HealthChecks.retain"),
    (Part.OUTLIER, f"{PROXY}.membership.ejections:Ejections._judge"),
    (Part.OUTLIER, f"{PROXY}.membership.ejections:Ejections._update"),
    (Part.SLOW_START, f"{PROXY}.compile.compiler:follow"),
    (Part.SLOW_START, f"{PROXY}.membership.slow_start:SlowStarts.published"),
    (Part.EVENTS, f"{PROXY}.admin.refusals:Refusals.add"),
    (Part.EVENTS, f"{PROXY}.drain:Drain.tick"),
    (Part.ADMIN, f"{PROXY}.admin.certs:certs_json"),
    (Part.ADMIN, f"{PROXY}.admin.dumps:cluster_status"),
    (Part.DISK, f"{PROXY}.disk.recorder:Recorder.record"),
    (Part.DISK, f"{PROXY}.disk.journal:JournalWriter.push"),
    (Part.DISK, f"{PROXY}.disk.line_writer:LineWriter._write"),
    (Part.DISK, f"{PROXY}.disk.state_file:StateFile.save"),
    (Part.OTHER, f"{PROXY}.disk.access_log:AccessLog.reopen"),
]
NAME, OTHER, NAMED = messages.sni("echo"), messages.sni("other"), messages.sni("named")


def cluster(name: str, version: int) -> bytes:
    """One with everything that has a part of its own; each version differs."""
    made = Cluster.parse(
        messages.cluster(
            name,
            connect_timeout_s=5 + version / 100,
            outlier_detection=OutlierDetection(interval=timedelta(milliseconds=50)),
        )
    )
    made.health_checks = [
        HealthCheck(
            timeout=timedelta(seconds=5),
            interval=timedelta(milliseconds=50),
            no_traffic_interval=timedelta(milliseconds=50),
            healthy_threshold=1,
            unhealthy_threshold=1,
            tcp_health_check=HealthCheckTcpHealthCheck(),
        )
    ]
    made.round_robin_lb_config = ClusterRoundRobinLbConfig(
        slow_start_config=ClusterSlowStartConfig(slow_start_window=timedelta(seconds=60))
    )
    return bytes(made)


def named_cluster(address: tuple[str, int], version: int) -> bytes:
    """One whose endpoint goes by a name; each version differs."""
    return encode(
        "envoy.config.cluster.v3.Cluster",
        {
            "name": NAMED,
            "type": "STRICT_DNS",
            "connect_timeout": f"{5 + version / 100}s",
            "dns_lookup_family": "V4_ONLY",
            "dns_refresh_rate": "0.05s",
            "load_assignment": messages.assignment(NAMED, [messages.At(("localhost", address[1]))]),
        },
    )


class Place:
    """A gateway with one service, and a connection to it that stays open. ``version``: of what is pushed."""

    def __init__(self, stack: ExitStack, folder: Path, workers: int) -> None:
        self.version = 0
        self.endpoint = Endpoint(("127.0.0.1", 0), tls=None)
        stack.callback(self.endpoint.close)
        self.control = stack.enter_context(ReplayThread(self.resources()))
        self.gateway = stack.enter_context(
            FaultyGateway(
                self.control.address,
                folder / "raising",
                [path for _, path in FAULTS],
                *("--workers", str(workers), "--state-dir", str(folder / "state"), "--record", str(folder / "journal")),
                *("--access-log", str(folder / "access.log")),
            )
        )
        self.gateway.wait_ready()
        self.address = self.gateway.bound_address(messages.LISTENER)
        self.peer = stack.enter_context(socket.create_connection(self.address, 10))
        self.peer.sendall(client_hello(NAME))

    def resources(self) -> dict[str, dict[str, bytes]]:
        ends = [messages.At(self.endpoint.address)] * (1 + self.version % 2)
        names = [NAME, OTHER] if self.version else [NAME]
        return {
            CDS: {NAMED: named_cluster(self.endpoint.address, self.version)}
            | {name: cluster(name, self.version) for name in names},
            EDS: {name: messages.assignment(name, ends) for name in names},
            LDS: {messages.LISTENER: messages.listener([self.chain(name) for name in [*names, NAMED]])},
        }

    def chain(self, name: str) -> FilterChain:
        return messages.chain(name, idle_timeout_s=100.0 + self.version)

    def push(self) -> None:
        """Another version of everything, whatever becomes of it."""
        self.version += 1
        for type_url, found in self.resources().items():
            self.control.push_some(type_url, found, wait=False)

    def ask(self, peer: socket.socket) -> bool:
        """Whether who is connected is answered."""
        peer.sendall(b"WHO\n")
        answer = b""
        while not answer.endswith(b"\n"):
            got = peer.recv(1000)
            if not got:
                return False
            answer += got
        return answer.startswith(self.endpoint.name.encode())

    def answers(self, name: str) -> bool:
        """Whether a new connection is."""
        with socket.create_connection(self.address, 10) as peer:
            peer.settimeout(10)
            peer.sendall(client_hello(name))
            try:
                return self.ask(peer)
            except ConnectionError:
                return False

    def faults(self, part: Part) -> int:
        return self.gateway.stat(f"eastgate.control_errors.{part}")


@pytest.fixture(scope="module", params=[0, 2])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("faults")
        (folder / "journal").mkdir()
        yield Place(stack, folder, request.param)


@pytest.mark.parametrize(("part", "fault"), FAULTS)
def test_fault_costs_its_step_and_is_told(place: Place, part: Part, fault: str) -> None:
    gateway = place.gateway
    before, told = place.faults(part), len(gateway.lines)
    gateway.have_raise(fault)
    place.push()
    # For those who are told of connections that were refused, for a callback of the loop, and for the pages.
    place.answers("unknown.example")
    gateway.signal(signal.SIGUSR1)

    def happened() -> bool:
        gateway.get("/certs")
        gateway.get("/clusters")
        return place.faults(part) > before

    try:
        until(happened, f"a fault of {part} is counted")
        assert place.ask(place.peer), "who is connected stays so"
        assert place.answers(NAME), "who comes is served"
        document = gateway.json("/debug/xds")["control_errors"]
        shown = [one for one in document if one["part"] == part and one["cause"] == "LookupError: injected"]
        assert shown
        assert gateway.get("/debug/xds?format=text")[1].count(f"fault of {part}") >= len(shown)
        line = re.compile(rf'error fault of the control side.* part={part} .*cause="LookupError: injected"')
        assert any(line.search(text) for text in list(gateway.lines)[told:]) or shown[-1]["times"] > 1
    finally:
        gateway.have_raise()
    place.push()
    until(lambda: place.answers(OTHER), "what is pushed afterwards is served")
    assert place.ask(place.peer)
    assert place.answers(NAME)
