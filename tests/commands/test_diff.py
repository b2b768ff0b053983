"""`eastgate diff`: which configurations are meant, what is printed, and what cannot be compared."""

import json
from pathlib import Path

import pytest
from eastgate.commands.cli import OWN_ERRORS, eastgate
from eastgate.proxy.disk.replay import Wanted, moment
from eastgate.proxy.disk.sides import parsed

from ..support import dumps
from ..xds.istiod import CDS, EDS, LDS, chain, cluster, endpoint, listener, locality_endpoints, response
from ..xds.istiod import assignment as assigned
from .test_replay import Live


def diff(*arguments: str) -> int:
    """Run the command here; return its exit code. Raises what it raises."""
    with pytest.raises(SystemExit) as end:
        eastgate.main(["diff", *arguments], standalone_mode=False)
    return int(end.value.code or 0)


A = "outbound_.80_._.a.svc"


async def journal(folder: Path) -> str:
    """Pushes: clusters, endpoints 1 and 2, listener, endpoint 2 alone, a rejected one."""
    live = Live(folder)
    await live.push(response(CDS, "1", "1", [cluster(A)]))
    for number, addresses in ((2, ("1.1.1.1", "2.2.2.2")), (3, ()), (4, ("2.2.2.2",))):
        if addresses:
            members = [endpoint(one) for one in addresses]
            await live.push(response(EDS, str(number), str(number), [assigned(A, [locality_endpoints("r", members)])]))
        else:
            await live.push(response(LDS, str(number), str(number), [listener("l", [chain(A)])]))
    bad = assigned(A, [locality_endpoints("r", [endpoint("3.3.3.3")], priority=200)])
    await live.push(response(EDS, "5", "5", [bad]))
    live.recorder.close()
    return str(folder)


async def test_doctor_finds_what_a_journal_says_was_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = await journal(tmp_path)
    with pytest.raises(SystemExit):
        eastgate.main(["doctor", "--dump", path, "--json"], standalone_mode=False)
    rejected = [one for one in json.loads(capsys.readouterr().out)["findings"] if one["rule"] == "rejected-resource"]
    assert [(one["cluster"], "priority" in one["evidence"]) for one in rejected] == [(A, True)]
    with pytest.raises(SystemExit):
        eastgate.main(["doctor", "--dump", f"{path}@4", "--json"], standalone_mode=False)
    assert "rejected-resource" not in capsys.readouterr().out


async def test_two_pushes_of_a_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = await journal(tmp_path)
    assert diff(f"{path}@2", f"{path}@4") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"from {path}, push 2 of ")
    assert lines[1].startswith(f"to   {path}, push 4 of ")
    assert lines[3:] == [
        f"{A}: 50.0 points of its connections move; 1.1.1.1:8080 removed, it had 50 %; 2.2.2.2:8080 50 % -> 100 %",
        f"listener l: chain {A} added, to {A}",
    ]


async def test_push_by_itself_is_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = await journal(tmp_path)
    assert diff(f"{path}@4", "--cluster", A, "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["before"] == f"{path}, before push 4"
    (one,) = document["clusters"]
    assert (one["name"], one["kind"], one["moved_points"]) == (A, "changed", 50.0)
    assert [(each["address"], each["points"]) for each in one["endpoints"]] == [
        ("1.1.1.1:8080", -50.0),
        ("2.2.2.2:8080", 50.0),
    ]
    # The last push, which was rejected, did nothing.
    assert diff(path) == 0
    printed = capsys.readouterr().out
    assert "rejected: EDS" in printed
    assert printed.endswith("nothing that decides where connections go\n")


async def test_time_names_a_push_too(tmp_path: Path) -> None:
    path = await journal(tmp_path)
    assert parsed(f"{path}@7") == (path, Wanted(number=7))
    assert parsed(f"{path}@2026-03-04T09:12:01Z") == (path, Wanted(at=moment("2026-03-04T09:12:01Z")))
    assert parsed(path) == (path, None)
    odd = tmp_path / "a@1"
    odd.write_text("{}")
    assert parsed(str(odd)) == (str(odd), None)


def test_two_dumps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [
        dumps.write(
            tmp_path,
            dumps.config_dump(
                [dumps.cluster()], [dumps.assignment(dumps.locality("r", [dumps.endpoint(one) for one in addresses]))]
            ),
            f"{number}.json",
        )
        for number, addresses in enumerate((("10.0.0.1:80",), ("10.0.0.1:80", "10.0.0.2:80")))
    ]
    assert diff(*paths) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[3] == (
        f"{dumps.NAME}: 50.0 points of its connections move; 10.0.0.1:80 100 % -> 50 %; 10.0.0.2:80 added with 50 %"
    )
    assert diff(paths[0], paths[0]) == 0


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("{journal}@99", "{journal}", "no push 99: it holds 1 to 5"),
        ("{journal}@soon", "{journal}", "expected PATH@PUSH or PATH@TIME"),
        ("{dump}", "", r"Name a second file, a push \(JOURNAL@17\), or live"),
        ("{dump}", "{none}", "No such file"),
        ("{dump}@3", "", "is not a journal"),
        ("{none}@3", "", "cannot be read: No such file"),
    ],
)
async def test_what_cannot_be_compared_is_one_sentence(tmp_path: Path, before: str, after: str, said: str) -> None:
    (tmp_path / "journal").mkdir()
    paths = {
        "journal": await journal(tmp_path / "journal"),
        "dump": dumps.write(tmp_path, dumps.config_dump([], [])),
        "none": str(tmp_path / "none"),
    }
    with pytest.raises(OWN_ERRORS, match=said) as raised:
        diff(before.format(**paths), after.format(**paths))
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)


async def test_unknown_cluster_is_refused(tmp_path: Path) -> None:
    path = await journal(tmp_path)
    with pytest.raises(OWN_ERRORS, match="--cluster x: neither side has such a cluster"):
        diff(path, f"{path}@1", "--cluster", "x")
