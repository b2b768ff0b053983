"""Regular expressions that come from outside, in RE2: Envoy's own dialect, and no text makes one take long."""

# pilot-agent's longest takes some hundred characters; of one that is compiled RE2 takes up to MAX_MEMORY_BYTES.
MAX_CHARACTERS = 8192
MAX_MEMORY_BYTES = 4 << 20


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
        # The library keeps the last 128 for whoever compiles the same again, with all their memory.
        re2.purge()

    def found_in(self, text: str) -> bool:
        """Whether some part of the text matches."""
        return self._compiled.search(text.encode("utf-8", "surrogateescape")) is not None

    def matches(self, text: str) -> bool:
        """Whether the whole text matches."""
        return self._compiled.fullmatch(text.encode("utf-8", "surrogateescape")) is not None
