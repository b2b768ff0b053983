"""What every parser of peeked bytes promises: growing prefixes lead to one answer, and waiting is bounded."""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar


class Parsed(Protocol):
    @property
    def status(self) -> str: ...
    @property
    def needed(self) -> int: ...


P = TypeVar("P", bound=Parsed)


def check_prefixes(parse: Callable[[bytes], P], data: bytes, *, limit: int, lengths: Iterable[int] | None = None) -> P:
    """Parse growing prefixes of `data` and return the last answer.

    Once decided, an answer never changes; while undecided, `needed` is more than what is there, within the limit, never
    falls, and is never more than where the answer came.
    """
    decided, asked = None, 0
    last = parse(data)
    for length in [*(range(len(data)) if lengths is None else sorted(set(lengths))), len(data)]:
        parsed = parse(data[:length])
        if decided is not None:
            assert parsed == decided, f"prefix of {length} bytes changes the answer"
        elif parsed.status == "need_more":
            assert length < parsed.needed <= limit
            assert parsed.needed >= asked
            asked = parsed.needed
            if last.status == "complete":
                assert parsed.needed <= len(data)
        else:
            decided = parsed
            if parsed.status in ("complete", "bad_sni"):
                assert asked <= length
    return last
