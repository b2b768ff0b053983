"""A gateway with few descriptors: limits from the machine, a reserve that holds, and endpoints that are not blamed."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import HealthCheck, HealthCheckTcpHealthCheck

from ..support import messages
from ..support.gateway_process import ConfinedGateway
from ..support.hellos import client_hello
from ..support.recordings import CDS
from ..support.replay_ads import ReplayThread
from ..support.tls_echo import Endpoint, TestCa
from ..support.waiting import until

NAME = messages.sni("echo")
DESCRIPTORS = 300
FEW = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({DESCRIPTORS}, {DESCRIPTORS}))"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint(("127.0.0.1", 0), tls=TestCa().server_context("127.0.0.1"))
    yield made
    made.close()


@contextmanager
def gateway(endpoint: Endpoint, *flags: str) -> Iterator[ConfinedGateway]:
    resources = messages.resources({NAME: [messages.At(endpoint.address)]})
    cluster = Cluster().parse(resources[CDS][NAME])
    cluster.health_checks = [
        HealthCheck(
            timeout=timedelta(seconds=5),
            interval=timedelta(milliseconds=20),
            no_traffic_interval=timedelta(milliseconds=20),
            unhealthy_interval=timedelta(milliseconds=20),
            unhealthy_threshold=1,
            healthy_threshold=1,
            tcp_health_check=HealthCheckTcpHealthCheck(),
        )
    ]
    resources[CDS] = {**resources[CDS], NAME: bytes(cluster)}
    server = ReplayThread(resources)
    try:
        with ConfinedGateway(server.address, FEW, "--workers", "1", *flags) as made:
            made.wait_ready()
            yield made
    finally:
        server.close()


def flood(stack: ExitStack, address: tuple[str, int], count: int, said: bytes) -> None:
    """So many clients who say this and stay."""
    for _ in range(count):
        peer = stack.enter_context(socket.socket())
        peer.settimeout(10)
        # Who is refused is reset.
        with suppress(OSError):
            peer.connect(address)
            peer.sendall(said)


def test_connections_come_from_the_descriptors_and_leave_some(endpoint: Endpoint) -> None:
    with gateway(endpoint) as proxy, ExitStack() as stack:
        limits = proxy.json("/server_info")["eastgate"]["limits"]
        assert (limits["descriptors"], limits["from"]) == (DESCRIPTORS, "descriptors")
        proxy.wait_logged(f" info limits max_connections={limits['max_connections']} max_silent_connections=")
        flood(stack, proxy.bound_address(messages.LISTENER), 2 * limits["max_connections"], client_hello(NAME))
        refused = f"listener.{messages.LISTENER}.refused.limit"
        until(lambda: proxy.stat(refused) == limits["max_connections"], "those beyond are refused by name")
        assert proxy.stat(f"cluster.{NAME}.upstream_cx_connect_fail") == 0
        checks = proxy.stat(f"cluster.{NAME}.health_check.success")
        # The reserve: probes, checks and admin go on.
        until(lambda: proxy.stat(f"cluster.{NAME}.health_check.success") > checks, "checks go on")
        assert proxy.stat(f"cluster.{NAME}.health_check.failure") == 0
        assert len(os.listdir(f"/proc/{proxy.pid}/fd")) < DESCRIPTORS


def test_more_by_hand_is_told_and_no_endpoint_is_blamed(endpoint: Endpoint) -> None:
    with gateway(endpoint, "--max-connections", "1000") as proxy, ExitStack() as stack:
        until(lambda: "max_connections is more than this machine allows" in proxy.stderr.replace('"', ""), "it is told")
        # Before they are all taken: its connection stays.
        assert proxy.stat(f"cluster.{NAME}.membership_healthy") == 1
        # Each takes one descriptor, until there is none left.
        flood(stack, proxy.bound_address(messages.LISTENER), DESCRIPTORS, b"")
        until(lambda: "health checks cannot be made" in proxy.stderr, "checks lack descriptors")
    # Ended: what was counted is in its last words, and none of them blames the endpoint.
    assert "health check failed" not in proxy.stderr
