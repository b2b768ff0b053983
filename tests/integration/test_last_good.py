"""Start without a control plane: a gateway that keeps its configuration on disk serves it, marked stale."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support import messages
from ..support.gateway_process import Eastgate
from ..support.hellos import client_hello
from ..support.recordings import LDS
from ..support.replay_ads import ReplayThread
from ..support.tls_echo import Endpoint, TestCa
from ..support.waiting import until

NAME = messages.sni("echo")


class Place:
    """A control plane that can be stopped, one TLS endpoint, and a directory for state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "state"
        self.file = self.folder / "last-good.state"
        self.endpoint = Endpoint(("127.0.0.1", 0), tls=TestCa().server_context("127.0.0.1"))
        self.good = messages.resources({NAME: [messages.At(self.endpoint.address)]})
        self.server = ReplayThread(self.good)

    def gateway(self, *flags: str) -> Eastgate:
        return Eastgate(self.server.address, "--state-dir", str(self.folder), *flags)

    def answers(self, gateway: Eastgate) -> bool:
        with socket.create_connection(gateway.bound_address(messages.LISTENER), 10) as peer:
            peer.settimeout(10)
            peer.sendall(client_hello(NAME))
            return peer.recv(1) == b"\x16"

    def fill(self) -> None:
        """Have a gateway write the file, then stop gateway and control plane."""
        with self.gateway() as gateway:
            gateway.wait_ready()
            until(self.file.exists, "the configuration is saved")
            assert gateway.stat("eastgate.configuration_stale") == 0
        self.server.stop()


@pytest.fixture(params=[0, 1, 4])
def place(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("EASTGATE_WORKERS", str(request.param))
    made = Place(tmp_path)
    yield made
    made.server.close()
    made.endpoint.close()


@pytest.mark.parametrize("protocol", ["sotw", "delta"])
def test_last_good_configuration_is_served_while_nobody_answers_and_replaced_when_one_does(
    place: Place, protocol: str
) -> None:
    place.fill()
    assert stat.S_IMODE(place.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.folder.stat().st_mode) == 0o700
    with place.gateway("--xds-protocol", protocol) as gateway:
        gateway.wait_ready()
        assert place.answers(gateway)
        assert gateway.stat("eastgate.configuration_stale") == 1
        assert gateway.stat("control_plane.connected_state") == 0
        described = gateway.json("/server_info")["eastgate"]["configuration"]
        assert described["stale"] is True
        assert 0 <= described["age_s"] < 600
        assert "eastgate_configuration_stale 1" in gateway.get("/stats/prometheus")[1]
        before = place.file.read_bytes()
        place.server.start()
        gateway.wait_stat("eastgate.configuration_stale", 0)
        assert place.answers(gateway)
        assert gateway.json("/server_info")["eastgate"]["configuration"] == {"stale": False}
        # What vanished meanwhile goes away, on disk too.
        place.server.push({**place.good, LDS: {}})
        until(lambda: place.file.read_bytes() != before, "the change is saved")
        assert gateway.json("/listeners?format=json").get("listener_statuses", []) == []


@pytest.mark.parametrize("protocol", ["sotw", "delta"])
def test_what_vanished_while_the_gateway_was_away_is_not_kept(place: Place, protocol: str) -> None:
    place.fill()
    with place.gateway("--xds-protocol", protocol) as gateway:
        gateway.wait_ready()
        place.server.server.resources = {**messages.resources({}), LDS: {}}
        place.server.start()
        gateway.wait_stat("eastgate.configuration_stale", 0)
        gateway.wait_stat("cluster_manager.active_clusters", 0)
        assert gateway.json("/listeners?format=json").get("listener_statuses", []) == []


def test_damaged_file_is_named_and_moved_aside(place: Place) -> None:
    place.fill()
    content = bytearray(place.file.read_bytes())
    content[-1] ^= 1
    place.file.write_bytes(content)
    with place.gateway() as gateway:
        until(lambda: "state file not served" in gateway.stderr, "the damage is told")
        assert f"path={place.file}" in gateway.stderr
        assert "checksum" in gateway.stderr
        assert gateway.get("/ready")[0] == 503
        assert [one.name for one in place.folder.iterdir()] == ["last-good.state.damaged"]
        place.server.start()
        gateway.wait_ready()
        assert place.answers(gateway)


def test_old_and_foreign_files_are_not_served(place: Place) -> None:
    place.fill()
    with place.gateway("--network", "elsewhere") as gateway:
        until(lambda: "another node" in gateway.stderr, "the difference is told")
        assert gateway.get("/ready")[0] == 503
    modified = place.file.stat().st_mtime - 100
    os.utime(place.file, (modified, modified))
    with place.gateway("--state-max-age", "90") as gateway:
        until(lambda: "more than 90 s" in gateway.stderr, "the age is told")
        assert gateway.get("/ready")[0] == 503
    assert place.file.exists()


def test_directory_that_is_gone_costs_the_file_only(place: Place) -> None:
    place.fill()
    place.server.start()
    with place.gateway() as gateway:
        gateway.wait_ready()
        gateway.wait_stat("eastgate.configuration_stale", 0)
        place.file.rename(place.folder.parent / "kept")
        place.folder.rmdir()
        place.server.push({**place.good, LDS: {}})
        gateway.wait_stat("eastgate.state_save_failed", 1)
        assert gateway.get("/ready")[0] == 200
