"""What a sidecar does when what it lives on fails: agent, istiod, certificate. The rows of docs/operations.md.

`eastgate-envoy` in a pod in small, with pilot-agent's sockets; behind it an endpoint that takes mesh mTLS alone and
answers each line with the serial number of the certificate that it was shown.
"""

import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from eastgate.xds.message import encode, read

from ..support import messages
from ..support.accepting import Accepting
from ..support.authority import Authority, Identity
from ..support.pilot_agent import InEnvoysPlace, Pod
from ..support.recordings import CDS, EDS, LDS
from ..support.secrets import AgentThread, Keyed, ca_secret, tls_secret
from ..support.waiting import until
from ..xds.test_secret_refs import WORKLOAD
from ..xds.test_secret_refs import socket as transport_socket

NAME = "outbound|80||echo.test.svc.cluster.local"
ROOT = Authority("root")
CLIENT, SERVER = "spiffe://cluster.local/ns/a/sa/client", "spiffe://cluster.local/ns/a/sa/server"
TIMEOUT_S = 10.0
# As istiod has them.
PARAMETERS = {"tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"}}
PAST = timedelta(hours=-1)


class Endpoint(Accepting):
    """Demands a certificate of the root that is valid now."""

    def __init__(self, folder: Path) -> None:
        own = ROOT.issue(SERVER)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.load_verify_locations(cadata=ROOT.pem.decode())
        (folder / "chain.pem").write_bytes(own.chain)
        (folder / "key.pem").write_bytes(own.key)
        self._context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
        # Whoever resumes a session shows no certificate.
        self._context.num_tickets = 0
        super().__init__()

    def _serve(self, accepted: socket.socket) -> None:
        with accepted, suppress(OSError), self._context.wrap_socket(accepted, server_side=True) as tls:
            serial = str((tls.getpeercert() or {})["serialNumber"])
            while tls.recv(4096):
                tls.sendall(serial.encode() + b"\n")


def serial_of(identity: Identity) -> str:
    return f"{x509.load_pem_x509_certificate(identity.chain).serial_number:X}"


def secret(identity: Identity) -> bytes:
    return tls_secret("default", Keyed(identity.chain, identity.key))


def ask(client: socket.socket) -> str:
    """What the endpoint says to this connection; empty when it is refused."""
    try:
        client.sendall(b"whom do you see?\n")
        return client.recv(4096).decode().strip().lstrip("0")
    except OSError:
        return ""


@dataclass
class World:
    """A pod with its proxy, and the certificate that it began with."""

    pod: Pod
    proxy: InEnvoysPlace
    first: Identity

    @property
    def address(self) -> tuple[str, int]:
        return self.proxy.bound_address(messages.LISTENER)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, TIMEOUT_S)

    def seen(self) -> str:
        """What a new connection is answered."""
        try:
            with self.connect() as client:
                return ask(client)
        except OSError:
            return ""

    def ready(self) -> bool:
        return self.proxy.get("/ready")[0] == 200

    def served_by(self, identity: Identity) -> bool:
        return self.seen() == serial_of(identity).lstrip("0")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with closing(Endpoint(tmp_path)) as endpoint:
        first = ROOT.issue(CLIENT)
        found = messages.resources({NAME: [messages.At(endpoint.address)]})
        cluster = read("envoy.config.cluster.v3.Cluster", found[CDS][NAME])
        cluster["transport_socket"] = transport_socket("UpstreamTlsContext", **PARAMETERS, **WORKLOAD)
        resources = {
            CDS: {NAME: encode("envoy.config.cluster.v3.Cluster", cluster)},
            EDS: found[EDS],
            LDS: {messages.LISTENER: messages.listener([messages.plain_chain(NAME)], tls_inspector=False)},
        }
        secrets = {"default": secret(first), "ROOTCA": ca_secret("ROOTCA", ROOT.pem)}
        with Pod(tmp_path, resources, secrets) as pod, pod.proxy() as proxy:
            proxy.wait_ready()
            made = World(pod, proxy, first)
            until(lambda: made.served_by(first), "the endpoint is reached")
            yield made


def test_sds_socket_that_is_gone_costs_freshness_alone(world: World) -> None:
    with world.connect() as held:
        assert ask(held) != ""
        path, gone = world.pod.sds.agent.path, world.pod.sds
        # The fixture closes what stands there.
        world.pod.sds = AgentThread(f"{path}-other", {})
        gone.close()
        Path(path).unlink(missing_ok=True)
        until(lambda: "sds_disconnected" in world.proxy.stderr, "the stream is missed")
        assert world.served_by(world.first)
        assert world.ready()
        second = ROOT.issue(CLIENT)
        world.pod.sds.close()
        world.pod.sds = AgentThread(path, {"default": secret(second), "ROOTCA": ca_secret("ROOTCA", ROOT.pem)})
        until(lambda: world.served_by(second), "the socket is back, with another certificate")
        assert ask(held) == serial_of(world.first).lstrip("0")


def test_istiod_that_is_gone_costs_freshness_alone(world: World) -> None:
    with world.connect() as held:
        world.pod.ads.stop()
        until(lambda: world.proxy.stat("control_plane.connected_state") == 0, "the stream is missed")
        assert world.served_by(world.first)
        assert ask(held) != ""
        assert world.ready()
        second = ROOT.issue(CLIENT)
        world.pod.sds.rotate("default", secret(second))
        until(lambda: world.served_by(second), "certificates go on being renewed")


def test_expired_certificate_is_not_taken(world: World) -> None:
    """Whoever hands it out is behind: the one before it serves on, and the agent is told why."""
    world.pod.sds.rotate("default", secret(ROOT.issue(CLIENT, starts=2 * PAST, ends=PAST)))
    until(lambda: world.pod.sds.agent.nacks, "it is refused")
    assert "SDS default rejected: its certificate expired at" in world.pod.sds.agent.nacks[0]
    assert world.served_by(world.first)
    assert world.ready()


def certificate_events(world: World) -> list[str]:
    """What became of certificates, the oldest first."""
    return [one["after"] for one in world.proxy.json("/events")["events"] if one["kind"] == "certificate"]


def test_certificate_that_nobody_renews_is_refused_by_peers_and_cuts_nothing(world: World) -> None:
    """The agent has no istiod, or its token is refused."""
    short = ROOT.issue(CLIENT, ends=timedelta(seconds=4))
    world.pod.sds.rotate("default", secret(short))
    until(lambda: world.served_by(short), "it is shown")
    with world.connect() as held:
        assert ask(held) == serial_of(short).lstrip("0")
        until(lambda: world.seen() == "", "new connections are refused by the endpoint")
        assert ask(held) == serial_of(short).lstrip("0")
        assert world.ready()
        own = [one for entry in world.proxy.json("/certs")["certificates"] for one in entry["cert_chain"]]
        assert "0" in {one["days_until_expiration"] for one in own}
        until(lambda: certificate_events(world)[-1:] == ["expired"], "it is told")
        second = ROOT.issue(CLIENT)
        world.pod.sds.rotate("default", secret(second))
        until(lambda: world.served_by(second), "with a valid one they are served")
