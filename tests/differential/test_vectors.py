"""Every vector, answered by the product where it has the rule, and by the oracle; and the runner's own manners."""

import json
from pathlib import Path
from typing import Any

import pytest

from ..vectors import mesh, product, product_tables, reference
from ..vectors.__main__ import main
from ..vectors.outcome import NoRuleError
from ..vectors.run import answer, load, name_of

FILE = Path(__file__).parents[1] / "data" / "vectors" / "envoy.json"
VECTORS = load(str(FILE))
ISTIO = load(str(FILE.with_name("istio-locality.json")))
REQUIRED = {
    "priority",
    "priority_docs",
    "choose_priority",
    "panic",
    "health",
    "locality",
    "locality_docs",
    "filter_chain",
    "eds",
    "weighted_clusters",
    "outlier",
    "hash",
    "ring_hash",
    "maglev",
    "bounded_load",
    "random",
    "zone",
}


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["group"] in reference.ANSWERS], ids=name_of)
def test_vector_holds(vector: dict[str, Any]) -> None:
    assert answer(vector).mismatches == []


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["group"] in reference.ANSWERS], ids=name_of)
def test_oracle_alone_agrees(vector: dict[str, Any]) -> None:
    outcome = reference.answer(vector)
    assert outcome.compared
    assert outcome.mismatches == []


def test_product_answers_every_required_group() -> None:
    # The order of picks is the oracle's: the product has panic of round robin, and the weights of slow start.
    rules = product.ANSWERS | product_tables.ANSWERS
    assert set(rules) == REQUIRED | {"round_robin", "slow_start"}
    (panic,) = [vector for vector in VECTORS if vector["name"] == "round_robin/fail_traffic_on_panic"]
    assert product.ANSWERS["round_robin"](panic).compared
    weights = [vector for vector in VECTORS if vector["group"] == "slow_start" and "window_ms" in vector["input"]]
    assert len(weights) == 5
    assert all(product.ANSWERS["slow_start"](vector).compared for vector in weights)
    unanswered = []
    for vector in VECTORS:
        if vector["group"] in REQUIRED:
            try:
                if not rules[vector["group"]](vector).compared:
                    unanswered.append(vector["name"])
            except NoRuleError:
                unanswered.append(vector["name"])
    # Both ask for the order of Envoy's locality scheduler and for nothing else.
    assert unanswered == ["locality/weighted_all_chosen"]


@pytest.mark.parametrize("vector", ISTIO, ids=name_of)
def test_mesh_answers_istios_vector(vector: dict[str, Any]) -> None:
    outcome = mesh.ANSWERS[vector["kind"]](vector)
    assert outcome.compared
    assert outcome.mismatches == []


def test_wrong_expectation_fails_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vector = next(v for v in VECTORS if v["group"] == "panic")
    wrong = {**vector, "name": "panic/planted", "expect": {"raw_predicate": False, "in_panic": False}}
    file = tmp_path / "planted.json"
    file.write_text(json.dumps({"vectors": [vector, wrong]}))
    assert main([str(file)]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert sum("panic/planted" in line for line in printed) == 1
    assert printed[-1] == "1 passed, 1 failed"


def test_malformed_vector_fails_and_does_not_stop_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "malformed.json"
    file.write_text(json.dumps({"vectors": [{"group": "panic", "name": "panic/bare"}, {"group": "moon", "name": "m"}]}))
    assert main([str(file)]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert "skipped, no rule: moon (1)" in printed
    assert printed[-1] == "0 passed, 1 failed"


@pytest.mark.parametrize("content", [None, "{", "[]", '{"vectors": [1]}'])
def test_unreadable_file_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    file = tmp_path / "vectors.json"
    if content is not None:
        file.write_text(content)
    assert main([str(file)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_groups_and_names_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--group", "eds,panic", "-v", str(FILE)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 10
    assert "passed  panic/isolated_6_2_0_50  (product)" in printed
