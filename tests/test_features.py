"""docs/features.md and the acceptance tests name the same features; no feature is without a test of its name."""

import ast
import re
from pathlib import Path

from .insight.test_findings import CLEAN, SEEDED

TESTS = Path(__file__).parent
TABLE = (TESTS.parent / "docs" / "features.md").read_text()
NAMED = re.findall(r"^\| `([^`]+)` \|", TABLE, re.MULTILINE)
# What `eastgate doctor` is to find, one seeded dump each; two more look at several clusters or at a gateway's own.
SOWN = {
    "no-outlier-detection",
    "ejection-cap",
    "empty-locality",
    "partial-distribute",
    "locality-weights-ignored",
    "single-gateway",
    "duplicate-address",
    "zero-weight",
    "priority-gap",
    "gateway-hostname",
}


def features_of(text: str) -> dict[str, list[str]]:
    """Names of the tests of a file by the feature that they are marked with."""
    found: dict[str, list[str]] = {}
    for one in ast.parse(text).body:
        if not isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) or not one.name.startswith("test_"):
            continue
        for mark in one.decorator_list:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.acceptance":
                (feature,) = (ast.literal_eval(word.value) for word in mark.keywords if word.arg == "feature")
                found.setdefault(feature, []).append(one.name)
    return found


def marked() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for file in TESTS.rglob("test_*.py"):
        for feature, names in features_of(file.read_text()).items():
            found.setdefault(feature, []).extend(names)
    return found


def test_every_feature_has_a_test_of_its_name() -> None:
    assert len(NAMED) == len(set(NAMED)) == 10
    assert set(marked()) == set(NAMED)


def test_a_feature_without_a_test_is_seen() -> None:
    text = "@pytest.mark.acceptance(feature='gone')\n{}def test_it() -> None: ...\ndef test_other() -> None: ..."
    assert features_of(text.format("")) == features_of(text.format("async ")) == {"gone": ["test_it"]}
    assert features_of(text.partition("\n")[2].format("")) == {}


def test_dumps_are_seeded_for_what_doctor_is_to_find() -> None:
    assert {name.strip() for name in SEEDED} >= SOWN
    assert len(CLEAN) >= 3
