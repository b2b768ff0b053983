"""`mesh diff` as a check before a merge: exit codes, a table, and who is not compared."""

from pathlib import Path

import pytest

from ..support.gateway_process import run_command

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "docs/examples/two-clusters.yaml").read_text()


def files(tmp_path: Path, old: str, new: str) -> tuple[str, str]:
    names = ("old.yaml", "new.yaml")
    for name, text in zip(names, (old, new), strict=True):
        (tmp_path / name).write_text(text)
    return str(tmp_path / names[0]), str(tmp_path / names[1])


@pytest.fixture
def without_ejection(tmp_path: Path) -> tuple[str, str]:
    """The example without outlier detection, and with it: half of all connections come home."""
    lines = EXAMPLE.splitlines(keepends=True)
    return files(tmp_path, "".join(line for line in lines if "outlierDetection" not in line), EXAMPLE)


@pytest.mark.parametrize(("points", "code"), [("49.9", 1), ("50", 0), ("0", 1)])
def test_more_points_than_are_allowed_are_an_exit_code(
    without_ejection: tuple[str, str], points: str, code: int
) -> None:
    done = run_command("mesh", "diff", *without_ejection, "--fail-over", points)
    assert done.returncode == code
    assert "50.0 points" in done.stdout
    last = done.stderr.splitlines()[-1:]
    assert (f"50.0 points move, and {points} are allowed" in " ".join(last)) is bool(code)


def test_a_table_for_github_has_no_bar_of_its_own_in_a_cell(without_ejection: tuple[str, str]) -> None:
    head, rule, *rows = run_command("mesh", "diff", *without_ejection, "--markdown").stdout.splitlines()
    assert head == "| client | cluster | before | after | moved |"
    assert rule == "|---|---|---|---|---:|"
    assert [row.replace(r"\|", "").count("|") for row in rows] == [6, 6, 6]


def test_who_is_new_is_named_and_nobody_but_new_ones_is_an_error(tmp_path: Path) -> None:
    client = "{name: client, "
    assert client in EXAMPLE
    more = EXAMPLE.replace(
        client, "{name: newcomer, namespace: other, labels: {app: new}, address: 10.10.9.9}\n      - " + client
    )
    done = run_command("mesh", "diff", *files(tmp_path, EXAMPLE, more))
    assert done.returncode == 0
    assert "anthos/other/newcomer was not in" in done.stderr
    alone = run_command("mesh", "diff", *files(tmp_path, EXAMPLE, more), "--client", "anthos/other/newcomer")
    assert alone.returncode == 1
    assert "nothing to compare: no client of" in alone.stderr
