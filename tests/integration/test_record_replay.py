"""A gateway that records, and what its journal says afterwards: the endpoints of each push, as the gateway had them."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eastgate.proxy.app import STREAM_PREFIXES

from ..support import messages
from ..support.gateway_process import Eastgate, run_command
from ..support.replay_ads import ReplayThread

A, B = messages.sni("a"), messages.sni("b")


@pytest.fixture
def server() -> Iterator[ReplayThread]:
    with ReplayThread(messages.resources({A: [messages.At(("127.0.0.1", 1))]})) as made:
        yield made


def printed(*arguments: str) -> Any:
    run = run_command(*arguments, "--json")
    assert (run.returncode, run.stderr) == (0, "")
    return json.loads(run.stdout)


@pytest.mark.parametrize("protocol", ["sotw", "delta"])
def test_replayed_endpoints_are_those_that_the_gateway_had(server: ReplayThread, tmp_path: Path, protocol: str) -> None:
    folder = tmp_path / "journal"
    live = []
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
            live.append((count, printed("endpoints", "--admin", gateway.admin)))
        assert gateway.stat("eastgate.journal.lost") == gateway.stat("eastgate.journal.failed") == 0
    (file,) = folder.iterdir()
    assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(file.stat().st_mode)) == (0o700, 0o600)
    for count, rows in live:
        assert printed("replay", str(folder), "--push", str(count)) == rows
    assert len({json.dumps(rows) for _, rows in live}) == 3
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
