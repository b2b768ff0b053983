"""Prefixes of addresses, which lie in each other, as intervals, which lie side by side."""

from collections.abc import Iterable
from typing import TypeVar

Answer = TypeVar("Answer")


def intervals(
    bits: int, prefixes: Iterable[tuple[int, int, Answer]], fallback: Answer
) -> tuple[list[int], list[Answer]]:
    """First numbers and answers of intervals that cover 0 to 2**bits - 1, ascending.

    ``prefixes``: (length, first number, answer), no two alike. A number has the answer of the longest prefix around
    it, or ``fallback``.

    Example: in 4 bits, (1, 8, "upper half") and (3, 8, "eighth") give [0, 8, 10], [fallback, "eighth", "upper half"].
    """
    starts, answers = [0], [fallback]

    def begin(at: int, answer: Answer) -> None:
        if starts[-1] == at:
            del starts[-1], answers[-1]
        if not answers or answers[-1] != answer:
            starts.append(at)
            answers.append(answer)

    # Those that are open, the innermost last.
    around = [(1 << bits, fallback)]
    for length, first, answer in sorted(prefixes, key=lambda prefix: (prefix[1], prefix[0])):
        while around[-1][0] <= first:
            end, _ = around.pop()
            begin(end, around[-1][1])
        begin(first, answer)
        around.append((first + (1 << bits - length), answer))
    while len(around) > 1:
        end, _ = around.pop()
        if end < 1 << bits:
            begin(end, around[-1][1])
    return starts, answers
