"""Which side ended connections to endpoints: counted as by Envoy, however a connection came to its end."""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress

import pytest
from envoy_data_plane.envoy.config.listener.v3 import FilterChain

from ..support import messages
from ..support.ads_thread import AdsThread
from ..support.gateway_process import ProxyProcess, start
from ..support.hellos import client_hello
from ..support.messages import At
from ..support.waiting import until

# More than one of each, so that who counts none or one too many is found.
TIMES = 3
COUNTERS = [
    f"upstream_cx_destroy{side}{active}" for side in ("", "_local", "_remote") for active in ("", "_with_active_rq")
]
IDLE_S = CONNECT_S = 0.5
RESET = struct.pack("ii", 1, 0)


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    peer.close()


def end_of(peer: socket.socket) -> None:
    """Wait for it; a reset is one too."""
    with suppress(ConnectionResetError):
        while peer.recv(4096):
            pass


def client_first(client: socket.socket, endpoint: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)
    end_of(endpoint)
    endpoint.close()
    end_of(client)


def endpoint_first(client: socket.socket, endpoint: socket.socket) -> None:
    endpoint.shutdown(socket.SHUT_WR)
    end_of(client)
    client.close()
    end_of(endpoint)


def client_resets(client: socket.socket, endpoint: socket.socket) -> None:
    reset(client)
    end_of(endpoint)


def endpoint_resets(client: socket.socket, endpoint: socket.socket) -> None:
    reset(endpoint)
    end_of(client)


def nobody_speaks(client: socket.socket, endpoint: socket.socket) -> None:
    end_of(client)
    end_of(endpoint)


ENDS: dict[str, Callable[[socket.socket, socket.socket], None]] = {
    one.__name__: one for one in (client_first, endpoint_first, client_resets, endpoint_resets, nobody_speaks)
}
REFUSED, SILENT = "refused", "silent"


def chain(name: str) -> FilterChain:
    idle_s = IDLE_S if name == nobody_speaks.__name__ else None
    return messages.chain(messages.sni(name), idle_timeout_s=idle_s, max_connect_attempts=1)


@pytest.fixture
def endpoints() -> Iterator[dict[str, socket.socket]]:
    """By case; a socket without a listen refuses, one whose backlog is full does not answer."""
    with ExitStack() as stack:
        found = {}
        for name in (*ENDS, REFUSED, SILENT):
            server = found[name] = stack.enter_context(socket.socket())
            server.bind(("127.0.0.1", 0))
            server.settimeout(10)
            if name != REFUSED:
                server.listen(0 if name == SILENT else 16)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(found[SILENT].getsockname())
        yield found


def drive(proxy: ProxyProcess, endpoints: dict[str, socket.socket]) -> None:
    address = proxy.wait_ready().bound_address(messages.LISTENER)
    for name, server in endpoints.items():
        hello = client_hello(messages.sni(name))
        for _ in range(TIMES):
            with socket.create_connection(address, 10) as client:
                client.sendall(hello)
                if name not in ENDS:
                    end_of(client)
                    continue
                endpoint, _ = server.accept()
                endpoint.settimeout(10)
                with endpoint:
                    assert endpoint.recv(len(hello), socket.MSG_WAITALL) == hello
                    ENDS[name](client, endpoint)


def counted(kind: str, endpoints: dict[str, socket.socket]) -> dict[str, dict[str, int]]:
    """Counters by case."""
    pods = {messages.sni(name): [At(server.getsockname())] for name, server in endpoints.items()}
    listeners = [messages.listener([chain(name) for name in endpoints])]
    resources = messages.resources(pods, listeners=listeners, connect_timeout_s=CONNECT_S)
    with closing(AdsThread(resources)) as control, start(kind, control.address) as proxy:
        drive(proxy, endpoints)

        def of(name: str) -> dict[str, int]:
            stats = proxy.stats(f"cluster.{messages.sni(name)}.")
            return {counter: stats[counter] for counter in COUNTERS}

        until(lambda: all(of(name)["upstream_cx_destroy"] == TIMES for name in endpoints), "all connections have ended")
        return {name: of(name) for name in endpoints}


def test_who_ended_a_connection_is_counted_as_by_envoy(endpoints: dict[str, socket.socket]) -> None:
    envoys = counted("envoy", endpoints)
    assert counted("eastgate", endpoints) == envoys
    assert {one["upstream_cx_destroy_remote"] for one in envoys.values()} == {0, TIMES}
    assert {one["upstream_cx_destroy_with_active_rq"] for one in envoys.values()} == {0, TIMES}
