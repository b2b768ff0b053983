"""Regular expressions that are no more than literals and wildcards, as istiod writes them for peers and names."""

import re

ANY_BYTE = 256
ANY_BYTES = 257
# A group that may be missing doubles them.
MOST_ALTERNATIVES = 64
LONGEST = 1024

# (X), (X|Y), (X|) and (X)?: groups without a group in them, and not repeated.
GROUP = re.compile(r"(?<!\\)\(((?:[^()\\]|\\.)*)\)(\??)(?![*+?{])")
BAR = re.compile(r"(?<!\\)\|")
PIECE = re.compile(r"\.\*|\.\+|\.|\\([^0-9A-Za-z\s])|([^\\.+*?()\[\]{}|^$])")
OPEN = re.compile(r"(?<!\\)\(")

Pattern = tuple[int, ...]


def pattern_alternatives(expression: str) -> tuple[Pattern, ...] | None:
    """Patterns of which a whole text must have one: bytes, ANY_BYTE and ANY_BYTES. None for what is more than that.

    Example: `a.+(b|)` gives two: a, ANY_BYTE, ANY_BYTES, and the same with b behind it.
    """
    if len(expression) > LONGEST or not expression.isascii():
        return None
    texts = [expression]
    while any(OPEN.search(text) for text in texts):
        expanded = []
        for text in texts:
            group = GROUP.search(text)
            if group is None:
                return None
            branches = [*BAR.split(group[1]), *([""] if group[2] else [])]
            expanded += [text[: group.start()] + branch + text[group.end() :] for branch in branches]
        if len(expanded) > MOST_ALTERNATIVES:
            return None
        texts = expanded
    patterns = [_pattern(text) for text in texts]
    found = [pattern for pattern in patterns if pattern is not None]
    return tuple(dict.fromkeys(found)) if len(found) == len(patterns) else None


def _pattern(text: str) -> Pattern | None:
    found: list[int] = []
    at = 0
    while at < len(text):
        piece = PIECE.match(text, at)
        if piece is None or text[piece.end() : piece.end() + 1] in ("*", "+", "?", "{"):
            return None
        if piece[0] == ".*":
            found.append(ANY_BYTES)
        elif piece[0] == ".+":
            found += [ANY_BYTE, ANY_BYTES]
        elif piece[0] == ".":
            found.append(ANY_BYTE)
        else:
            found.append(ord(piece[1] or piece[2]))
        at = piece.end()
    return tuple(found)
