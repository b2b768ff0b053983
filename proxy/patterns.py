"""Regular expressions that come from outside, in RE2: Envoy's own dialect, and no text makes one take long."""

from collections.abc import Sequence
from contextlib import suppress

# pilot-agent's longest takes some hundred characters; of one that is compiled RE2 takes up to MAX_MEMORY_BYTES.
MAX_CHARACTERS = 8192
MAX_MEMORY_BYTES = 4 << 20

# So much of the least and the greatest text that matches is looked at.
RANGE_BYTES = 32


class PatternError(ValueError):
    """Why a text is no expression, in one line."""


class Pattern:
    """An expression. Raises PatternError for a text that is none."""

    def __init__(self, text: str) -> None:
        # Late: the library costs 3 MB, and few proxies are ever asked with an expression.
        import re2

        if len(text) > MAX_CHARACTERS:
            raise PatternError(f"it has {len(text)} characters, more than {MAX_CHARACTERS}")
        options = re2.Options()
        # What is wrong goes to whoever asked, not to stderr.
        options.log_errors = False
        options.max_mem = MAX_MEMORY_BYTES
        options.never_capture = True
        try:
            # Bytes take a fifth of the time of texts, and mean the same: both are UTF-8 to RE2.
            self._compiled = re2.compile(text.encode(), options=options)
        except re2.error as error:
            reason = error.args[0].decode("utf-8", "backslashreplace") if error.args else "it is none"
            raise PatternError(reason.encode("unicode_escape").decode()) from None
        except UnicodeError:
            raise PatternError("it is no text") from None
        self._range = self._in_lines = None
        # Others may mean another place where several texts are one.
        if not any(said in text for said in ("\\A", "\\z", "\\Q")) and "(?" not in text.replace("(?:", ""):
            # It may become too large for the library, which then has to look at each text by itself.
            with suppress(re2.error):
                self._in_lines = re2.compile(f"(?m:{text})".encode(), options=options)
                if text.startswith("^") and not has_alternatives(text):
                    self._range = self._compiled.possiblematchrange(RANGE_BYTES)
        # The library keeps the last 128 for whoever compiles the same again, with all their memory.
        re2.purge()

    def found_in(self, text: str) -> bool:
        """Whether some part of the text matches."""
        return self._compiled.search(text.encode("utf-8", "surrogateescape")) is not None

    def may_be_found_in(self, begin: str, ends: Sequence[str]) -> bool:
        """False: no text that begins so, with one of these ends, has a part that matches. One question for many."""
        if self._in_lines is None:
            return True
        if self._range is not None and is_beside(begin.encode("utf-8", "surrogateescape"), *self._range):
            return False
        lines = begin + f"\n{begin}".join(ends)
        return self._in_lines.search(lines.encode("utf-8", "surrogateescape")) is not None

    def matches(self, text: str) -> bool:
        """Whether the whole text matches."""
        return self._compiled.fullmatch(text.encode("utf-8", "surrogateescape")) is not None


def has_alternatives(text: str) -> bool:
    """Whether an expression is one of several as a whole: `a|b`, and not `(a|b)`. True when in doubt."""
    if any(said in text for said in ("[]", "[^]", "[:")):
        return True
    depth, in_class, escaped = 0, False, False
    for letter in text:
        if escaped or letter == "\\":
            escaped = not escaped
        elif in_class or letter == "[":
            in_class = letter != "]"
        elif letter in "()":
            depth += 1 if letter == "(" else -1
        elif letter == "|" and depth == 0:
            return True
    return False


def is_beside(begin: bytes, least: bytes, greatest: bytes) -> bool:
    """Whether nothing between these bounds is the beginning of a text that begins so.

    Between `listener_manager` and `server.state` nothing begins `cluster.` (all less) or `tcp.` (all greater).
    """
    if begin < least and not least.startswith(begin):
        return True
    differs = next((at for at, (one, other) in enumerate(zip(begin, greatest, strict=False)) if one != other), None)
    return differs is not None and begin[differs] > greatest[differs] and begin[:differs] < least
