"""Read vector files, have each vector answered, and say how it went. Rules stand in product.py and reference.py."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import mesh, product, product_tables, reference
from .outcome import NoRuleError, Outcome


class UnreadableError(Exception):
    """A file that holds no vectors; the message is one line."""


@dataclass
class Report:
    """Outcomes by vector name, and what nobody has a rule for."""

    outcomes: list[tuple[dict[str, Any], Outcome]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        """Number of vectors with a mismatch."""
        return sum(1 for _, outcome in self.outcomes if outcome.mismatches)


def load(path: str) -> list[dict[str, Any]]:
    """Vectors of a file."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnreadableError(f"{path}: {' '.join(str(error).split())}") from error
    vectors = document.get("vectors") if isinstance(document, dict) else None
    if not isinstance(vectors, list) or not all(isinstance(v, dict) for v in vectors):
        raise UnreadableError(f"{path}: no list of vectors")
    inputs = {name_of(vector): vector.get("input") for vector in vectors}
    for given in inputs.values():
        # A vector may take the mesh of another by name.
        if isinstance(given, dict) and isinstance(given.get("as"), str):
            given["as"] = inputs.get(given["as"])
    return vectors


def group_of(vector: dict[str, Any]) -> str:
    """Group of a vector; files of other conventions call it kind."""
    return str(vector.get("group") or vector.get("kind") or "unnamed")


def name_of(vector: dict[str, Any]) -> str:
    """Name of a vector for people."""
    return str(vector.get("name") or vector.get("id") or "unnamed")


def answer(vector: dict[str, Any]) -> Outcome:
    """The product's answer where it has the rule; what it leaves open (the order of picks) is the oracle's."""
    group = group_of(vector)
    rule = product.ANSWERS.get(group) or product_tables.ANSWERS.get(group) or mesh.ANSWERS.get(group)
    if rule is None:
        return reference.answer(vector)
    try:
        outcome = rule(vector)
    except NoRuleError:
        return reference.answer(vector)
    if not outcome.compared or group_of(vector) in {"locality", "eds", "health"}:
        # Sequences by seed, flags by name and the bookkeeping of updates are Envoy's inside: the oracle adds them.
        rest = reference.answer(vector)
        outcome.mismatches += rest.mismatches
        outcome.answered_by = "product+oracle" if outcome.compared else "oracle"
    return outcome


def run(paths: list[str], groups: set[str] | None = None) -> Report:
    """Answer every vector of the files that is in `groups`. A vector that cannot be read as its group fails."""
    report = Report()
    for path in paths:
        for vector in load(path):
            group = group_of(vector)
            if groups is not None and group not in groups:
                continue
            try:
                outcome = answer(vector)
            except NoRuleError:
                report.skipped[group] += 1
                continue
            except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
                outcome = Outcome("nobody", [f"malformed vector: {type(error).__name__}: {error}"])
            report.outcomes.append((vector, outcome))
    return report
