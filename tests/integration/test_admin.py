"""The admin interface of a running gateway, bad resources, a lost control plane, and the ways in which it ends."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support import messages
from ..support.gateway_process import ProxyProcess, start
from ..support.hellos import client_hello
from ..support.recordings import EDS, LDS, Resources
from ..support.replay_ads import ReplayThread
from ..support.tls_echo import Endpoint, TestCa
from ..support.waiting import until

NAME = messages.sni("echo")


class Mesh:
    """A control plane, a gateway and one TLS endpoint, all on loopback."""

    def __init__(self, drain_time_s: float = 0.0) -> None:
        self.ca = TestCa()
        self.endpoint = Endpoint(("127.0.0.1", 0), tls=self.ca.server_context("127.0.0.1"))
        self.good = messages.resources({NAME: [messages.At(self.endpoint.address)]})
        self.server = ReplayThread(self.good)
        self.gateway: ProxyProcess = start("eastgate", self.server.address, drain_time_s=drain_time_s)
        self.gateway.wait_ready()
        self.address = self.gateway.bound_address(messages.LISTENER)

    def with_changed(self, type_url: str, **named: bytes) -> Resources:
        return {**self.good, type_url: {**self.good[type_url], **named}}

    def connect(self) -> socket.socket:
        peer = socket.create_connection(self.address, 10)
        peer.settimeout(10)
        return peer

    def answers(self) -> bool:
        """Whether a TLS server's first record comes back through the gateway."""
        with self.connect() as peer:
            peer.sendall(client_hello(NAME))
            return peer.recv(1) == b"\x16"

    def close(self) -> None:
        if self.gateway.running:
            assert self.gateway.stop() == 0
        self.server.close()
        self.endpoint.close()


@pytest.fixture(params=[0, 1, 4], autouse=True)
def workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How every gateway of a test runs."""
    monkeypatch.setenv("EASTGATE_WORKERS", str(request.param))
    number: int = request.param
    return number


@pytest.fixture
def mesh(workers: int) -> Iterator[Mesh]:
    made = Mesh()
    yield made
    made.close()


def test_pages_answer_in_envoys_shapes(mesh: Mesh) -> None:
    gateway = mesh.gateway
    assert gateway.get("/ready") == (200, "LIVE\n")
    (cluster,) = gateway.json("/clusters?format=json")["cluster_statuses"]
    (host,) = cluster["host_statuses"]
    assert (cluster["name"], host["eastgate_share"], host["health_status"]) == (
        NAME,
        1.0,
        {"eds_health_status": "HEALTHY"},
    )
    assert f"{NAME}::" in gateway.get("/clusters")[1]
    kinds = [section["@type"].rpartition(".")[2] for section in gateway.json("/config_dump?include_eds")["configs"]]
    assert {"BootstrapConfigDump", "ClustersConfigDump", "EndpointsConfigDump", "ListenersConfigDump"} <= set(kinds)
    (only,) = gateway.json("/config_dump?mask=dynamic_listeners")["configs"]
    assert only["dynamic_listeners"][0]["name"] == messages.LISTENER
    assert gateway.json("/server_info")["state"] == "LIVE"
    assert gateway.get("/nothing")[0] == 404
    assert gateway.get("/config_dump?resource=nothing")[0] == 404


def test_readiness_questions_of_pilot_agent_are_answered_raw(mesh: Mesh) -> None:
    first = r"/stats?usedonly&filter=^(cluster_manager\.cds|listener_manager\.lds)\.(update_success|update_rejected)$"
    status, body = mesh.gateway.get(first)
    assert (status, body) == (200, "cluster_manager.cds.update_success: 1\nlistener_manager.lds.update_success: 1\n")
    second = r"/stats?usedonly&filter=^(server\.state|listener_manager\.workers_started)"
    assert mesh.gateway.get(second) == (200, "listener_manager.workers_started: 1\nserver.state: 0\n")
    assert mesh.gateway.get("/stats?filter=(")[0] == 400


def test_prometheus_shows_refusals_by_reason(mesh: Mesh) -> None:
    with mesh.connect() as peer:
        peer.sendall(client_hello(NAME.replace("echo", "ecko")))
        with pytest.raises(ConnectionResetError):
            peer.recv(1)
    _, body = mesh.gateway.get("/stats/prometheus")
    labels = f'listener_address="{messages.LISTENER}",reason="unknown_server_name"'
    assert f"eastgate_refused_connections_total{{{labels}}} 1\n" in body
    until(lambda: mesh.gateway.json("/refusals")["refusals"], "the refusal is shown")
    (refusal,) = mesh.gateway.json("/refusals")["refusals"]
    assert (refusal["reason"], refusal["nearest_server_name"]) == ("unknown_server_name", NAME)


def test_admin_answers_neither_other_hosts_nor_pages_nor_get_for_changes(mesh: Mesh) -> None:
    assert mesh.gateway.get("/ready", headers={"Host": "rebound.example"})[0] == 403
    assert mesh.gateway.get("/ready", headers={"Origin": "https://evil.example"})[0] == 403
    assert mesh.gateway.get("/drain_listeners")[0] == 405
    assert mesh.gateway.get("/logging?level=loud", method="POST")[0] == 400


def test_levels_of_envoy_are_taken_and_its_loggers_named(mesh: Mesh) -> None:
    for asked, level in (
        ("level=trace", "debug"),
        ("level=warn", "warning"),
        ("eastgate=off", "critical"),
        ("level=info", "info"),
    ):
        assert mesh.gateway.get(f"/logging?{asked}", method="POST") == (200, f"active loggers:\n  eastgate: {level}\n")
    for asked in ("http=debug", "paths=source/common/http/*:debug"):
        status, text = mesh.gateway.get(f"/logging?{asked}", method="POST")
        assert (status, text.count("\n")) == (400, 1)
        assert "no logger" in text


def test_stats_can_be_asked_for_by_type(mesh: Mesh) -> None:
    assert "upstream_cx_total" in mesh.gateway.get("/stats?type=Counters")[1]
    assert "upstream_cx_total" not in mesh.gateway.get("/stats?type=Gauges")[1]
    assert "downstream_cx_length_ms: " in mesh.gateway.get("/stats?type=Histograms&histogram_buckets=disjoint")[1]
    assert mesh.gateway.get("/stats?histogram_buckets=none_such")[0] == 400
    assert "upstream_cx_total" not in mesh.gateway.get("/stats?type=Histograms")[1]
    assert mesh.gateway.get("/stats?type=histograms")[0] == 400
    assert mesh.gateway.get("/stats/prometheus?type=x")[0] == 400


@pytest.mark.parametrize("bad", ["EDS", "LDS"])
def test_bad_resource_is_rejected_by_name_and_the_last_good_serves(mesh: Mesh, bad: str) -> None:
    other = messages.sni("other")
    if bad == "EDS":
        broken = mesh.with_changed(EDS, **{NAME: mesh.good[EDS][NAME] + b"\x12\x7f"})
    else:
        listener = mesh.good[LDS][messages.LISTENER]
        broken = mesh.with_changed(LDS, **{messages.LISTENER: listener + b"\x1a\x7f"})
    mesh.server.push(broken)
    mesh.server.wait_nacks(1)
    assert any((NAME if bad == "EDS" else messages.LISTENER) in str(nack) for nack in mesh.server.nacks)
    assert mesh.answers()
    mesh.server.push(messages.resources({NAME: [messages.At(mesh.endpoint.address)], other: []}))
    assert mesh.answers()


def test_lost_control_plane_changes_nothing_but_a_gauge(mesh: Mesh) -> None:
    mesh.server.stop()
    until(lambda: mesh.gateway.stat("control_plane.connected_state") == 0, "the loss is shown")
    assert mesh.answers()
    assert mesh.gateway.is_ready()
    mesh.server.start()
    until(lambda: mesh.gateway.stat("control_plane.connected_state") == 1, "the stream is back")
    assert mesh.answers()


def test_nobody_is_asked_for_the_address_of_admin(mesh: Mesh) -> None:
    """The loop would begin four threads to ask, and keep them; nor are the tables of IDNA loaded."""
    folder = Path(f"/proc/{mesh.gateway.pid}")
    assert "libuv-worker" not in {(task / "comm").read_text().strip() for task in (folder / "task").iterdir()}
    assert "unicodedata" not in (folder / "maps").read_text()


def test_sigterm_drains_and_open_connections_finish() -> None:
    mesh = Mesh(drain_time_s=1.0)
    peer = mesh.connect()
    tls = mesh.ca.client_context().wrap_socket(peer, server_hostname=NAME)
    mesh.gateway.signal(signal.SIGTERM)
    until(lambda: mesh.gateway.get("/ready") == (503, "DRAINING\n"), "draining is shown")
    assert mesh.answers(), "the window still accepts"

    def refused() -> bool:
        try:
            mesh.connect().close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:
            # It came while the socket was being closed.
            return False
        return False

    until(refused, "listening ends with the window")
    tls.sendall(b"WHO\n")
    assert tls.recv(100).startswith(b"127.0.0.1")
    tls.close()
    assert mesh.gateway.wait() == 0
    mesh.close()


def test_second_signal_ends_at_once() -> None:
    mesh = Mesh(drain_time_s=600.0)
    assert mesh.answers()
    mesh.gateway.signal(signal.SIGINT)
    until(lambda: mesh.gateway.get("/ready")[0] == 503, "draining is shown")
    mesh.gateway.wait_logged("draining, a second signal stops at once signal=SIGINT")
    mesh.gateway.signal(signal.SIGINT)
    assert mesh.gateway.wait() == 0
    mesh.close()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGPIPE])
def test_signals_that_envoy_lives_through_end_nothing(mesh: Mesh, number: signal.Signals) -> None:
    mesh.gateway.signal(number)
    # Handled by the thread that answers.
    assert mesh.gateway.is_ready()
    assert mesh.gateway.running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_a_gateway_to_which_nobody_has_come(number: signal.Signals) -> None:
    mesh = Mesh(drain_time_s=600.0)
    mesh.gateway.signal(number)
    assert mesh.gateway.wait() == 0
    assert "stopping, nothing is open" in mesh.gateway.stderr
    mesh.close()


def test_drain_listeners_closes_the_port_and_keeps_the_process(mesh: Mesh) -> None:
    assert mesh.gateway.get("/drain_listeners", method="POST") == (200, "OK\n")
    with pytest.raises(ConnectionRefusedError):
        mesh.connect()
    assert mesh.gateway.running
    assert mesh.gateway.get("/drain_listeners", method="POST") == (200, "OK\n")


def test_ledger_names_versions_and_reasons_by_resource(mesh: Mesh) -> None:
    gateway = mesh.gateway
    document = gateway.json("/debug/xds")
    assert {one["type"]: (one["name"], one["state"]) for one in document["resources"]} == {
        "CDS": (NAME, "ACKED"),
        "EDS": (NAME, "ACKED"),
        "LDS": (messages.LISTENER, "ACKED"),
    }
    accepted = document["resources"][1]["accepted"]
    assert document["stream"]["connected"] is True
    assert document["stream"]["types"]["EDS"]["nonce"] == accepted["nonce"] != ""
    bad = messages.assignment(NAME, [messages.At(mesh.endpoint.address, priority=200)])
    mesh.server.push(mesh.with_changed(EDS, **{NAME: bad}))
    mesh.server.wait_nacks(1)
    gateway.wait_stat("eastgate.xds.eds.nacked", 1)
    (line,) = gateway.json("/debug/xds?type=eds&state=nacked")["resources"]
    # What serves is still the version before.
    assert line["accepted"] == {**accepted, "age_s": line["accepted"]["age_s"], "at": line["accepted"]["at"]}
    assert line["rejected"]["version"] != accepted["version"]
    assert line["rejected"]["reason"] in mesh.server.nacks[0].reason
    status, text = gateway.get("/debug/xds?format=text")
    assert status == 200
    assert "EDS: 1 nacked" in text
    assert any(row.split()[:3] == ["EDS", "NACKED", NAME] for row in text.splitlines())
    assert 'eastgate_xds_resources{type="EDS",state="nacked"} 1' in gateway.get("/stats/prometheus")[1]
    assert gateway.stat("eastgate.xds.eds.rejections") == 1
    assert gateway.get("/debug/xds?type=vhds")[0] == 400
    assert mesh.answers()


def test_pages_of_the_process_have_envoys_shapes(mesh: Mesh) -> None:
    assert int(mesh.gateway.json("/memory")["total_physical_bytes"]) > 1 << 20
    assert mesh.gateway.json("/runtime") == {"entries": {}, "layers": []}
    assert mesh.gateway.json("/init_dump") == {}
    assert mesh.gateway.get("/hot_restart_version") == (200, "disabled\n")
    assert mesh.gateway.get("/reopen_logs", method="POST") == (200, "OK\n")
    assert mesh.gateway.json("/debug/workers")["stuck"] == []


@pytest.mark.parametrize(
    "path", ["/contention", "/heap_dump", "/memory/tcmalloc", "/stats/recentlookups", "/reset_counters", "/tap"]
)
def test_what_is_not_there_says_why_in_one_line(mesh: Mesh, path: str) -> None:
    status, text = mesh.gateway.get(path, method="POST")
    assert (status, text.count("\n")) == (501, 1)
    assert "eastgate" in text


def test_the_page_finds_what_doctor_finds_where_nothing_ever_came() -> None:
    gateway = start("eastgate", "127.0.0.1:1")
    try:
        until(lambda: "UNAVAILABLE" in gateway.json("/debug/xds")["stream"]["last_error"], "it is refused")
        (finding,) = gateway.json("/ui/findings")["findings"]
        assert (finding["rule"], finding["severity"], finding["now"]) == ("never-configured", "error", 1.0)
    finally:
        gateway.stop()
