"""docs/reliability.md and docs/operations.md name tests and targets: all of them exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "reliability.md"
TEXT = DOCUMENT.read_text()
FAILURES = (ROOT / "docs" / "operations.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/.:]+)`", TEXT + FAILURES)))
TARGETS = sorted(set(re.findall(r"`make ([\w-]+)", TEXT + FAILURES)))
MAKEFILE = (ROOT / "Makefile").read_text()


def is_there(named: str) -> bool:
    """Whether a file, or a test function in it, exists."""
    path, _, function = named.partition("::")
    if not (ROOT / path).exists():
        return False
    return (
        not function or re.search(rf"^(async )?def {function}\(", (ROOT / path).read_text(), re.MULTILINE) is not None
    )


@pytest.mark.parametrize("named", NAMED)
def test_named_test_exists(named: str) -> None:
    assert is_there(named), f"a document names {named}"


@pytest.mark.parametrize("target", TARGETS)
def test_named_target_exists(target: str) -> None:
    # A rule may have several targets, and name a pattern behind them.
    rules = re.findall(r"^([\w./ %$()-]+?):(?!=)", MAKEFILE.replace("\\\n", " "), re.MULTILINE)
    assert target in {word for rule in rules for word in rule.split()}


def test_every_promise_names_a_test() -> None:
    rows = TEXT.partition("## Promises")[2].partition("\n## ")[0].splitlines()
    promises = [row for row in rows if row.startswith("| ") and not row.startswith("| promise")]
    assert len(promises) >= 10
    assert [row for row in promises if "`tests/" not in row and "`make " not in row] == []


def test_every_failure_names_a_test() -> None:
    rows = [row for row in FAILURES.splitlines() if row.startswith("| ") and not row.startswith("| what fails")]
    assert len(rows) >= 8
    assert [row for row in rows if "`tests/" not in row] == []


def test_what_is_gone_is_noticed() -> None:
    assert is_there("tests/test_reliability.py::test_what_is_gone_is_noticed")
    assert not is_there("tests/test_reliability.py::test_gone")
    assert not is_there("tests/gone/test_nothing.py")
