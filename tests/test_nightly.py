"""Parts of the nightly run leave their figures, and are not run twice at one commit."""

import json
import sys
from pathlib import Path

import pytest

from . import nightly

SAID = """\
== six soaks of 300.0 s, asan build
......                                                                   [100%]
6 passed, 2 skipped in 1811.35s (0:30:11)
3 passed in 4.05s
| target, 600 s each | executions | edges | features | inputs |
| --- | --- | --- | --- | --- |
| client_hello | 41,360,871 | 172 | 493 | 139 |
"""


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The parts that were run, in order; "broken" fails. Results go to a file of the test."""
    run: list[str] = []

    def fake(name: str) -> str:
        run.append(name)
        return "" if name == "broken" else "1 passed"

    known = {name: nightly.Part(name, (name,)) for name in ("one", "broken", "two")}
    monkeypatch.setattr(nightly, "PARTS", known)
    monkeypatch.setattr(nightly, "RESULT", tmp_path / "nightly.json")
    monkeypatch.setattr(nightly, "run", fake)
    monkeypatch.setattr(nightly, "commit", lambda: "abc")
    return run


def main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["nightly", *arguments])
    return nightly.main()


def test_figures_are_what_tests_and_fuzzers_end_with() -> None:
    assert nightly.figures(SAID) == "6 passed, 2 skipped; 3 passed; client_hello: 41,360,871 executions"
    assert nightly.figures("make: Nothing to be done") == ""


def test_failed_part_is_not_recorded_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch, parts: list[str]) -> None:
    assert main(monkeypatch) == 1
    assert parts == ["one", "broken", "two"]
    found = json.loads(nightly.RESULT.read_text())["parts"]
    assert list(found) == ["one", "two"]
    assert (found["two"]["figures"], found["two"]["commit"]) == ("1 passed", "abc")


def test_what_has_passed_at_this_commit_is_not_run_again(monkeypatch: pytest.MonkeyPatch, parts: list[str]) -> None:
    main(monkeypatch)
    main(monkeypatch)
    assert parts == ["one", "broken", "two", "broken"]
    main(monkeypatch, "--again", "one")
    monkeypatch.setattr(nightly, "commit", lambda: "def")
    main(monkeypatch, "two")
    assert parts[4:] == ["one", "two"]


def test_changed_files_are_no_commit(monkeypatch: pytest.MonkeyPatch, parts: list[str]) -> None:
    monkeypatch.setattr(nightly, "commit", lambda: "abc+")
    main(monkeypatch, "one")
    main(monkeypatch, "one")
    assert parts == ["one", "one"]


def test_results_that_are_not_committed_yet_are_no_difference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nightly, "ROOT", tmp_path)
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    nightly.git("init", "--quiet")
    (tmp_path / "Makefile").write_text("all:\n")
    nightly.git("add", ".")
    nightly.git(*who, "commit", "--quiet", "--message=first")
    clean = nightly.commit()
    assert clean == nightly.git("rev-parse", "--short=9", "HEAD")
    (tmp_path / "bench" / "results").mkdir(parents=True)
    (tmp_path / "bench" / "results" / "nightly.json").write_text("{}")
    assert nightly.commit() == clean
    (tmp_path / "Makefile").write_text("all: some\n")
    assert nightly.commit() == f"{clean}+"


def test_part_that_does_nothing_has_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nightly, "LOGS", tmp_path)
    monkeypatch.setattr(nightly, "PARTS", {"idle": nightly.Part("nothing", ("--version",))})
    assert nightly.run("idle") == ""
