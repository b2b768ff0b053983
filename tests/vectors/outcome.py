"""What answering one vector gave. Knows no rules."""

from dataclasses import dataclass, field
from typing import Any


class NoRuleError(Exception):
    """The one who was asked has no rule for this vector."""


@dataclass
class Outcome:
    """Answers compared with expectations: who gave them and which were wrong."""

    answered_by: str
    mismatches: list[str] = field(default_factory=list)
    compared: int = 0

    def expect(self, what: str, expected: Any, answer: Any) -> None:
        """Compare one answer; 1.0 and 1 are equal, lists and tuples too."""
        self.compared += 1
        if _plain(expected) != _plain(answer):
            self.mismatches.append(f"{what}: expected {expected!r}, got {answer!r}")

    def expect_close(self, what: str, expected: float, answer: float, tolerance: float) -> None:
        """Compare one number within a tolerance."""
        self.compared += 1
        if abs(expected - answer) > tolerance:
            self.mismatches.append(f"{what}: expected {expected!r} within {tolerance}, got {answer!r}")


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
