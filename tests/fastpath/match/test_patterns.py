import re

import pytest
from eastgate.fastpath.match.patterns import ANY_BYTE, ANY_BYTES, pattern_alternatives


def shown(expression: str) -> list[str] | None:
    """Alternatives with ? for any byte and * for any number of them."""
    found = pattern_alternatives(expression)
    letters = {ANY_BYTE: "?", ANY_BYTES: "*"}
    return None if found is None else ["".join(letters.get(one) or chr(one) for one in pattern) for pattern in found]


@pytest.mark.parametrize(
    ("expression", "patterns"),
    [
        # As istiod writes namespaces, service accounts, any principal, and one that begins with a wildcard.
        (".*/ns/default/.*", ["*/ns/default/*"]),
        (
            "spiffe://.+/ns/a/(.+/|)sa/b(/.+)?",
            [
                "spiffe://?*/ns/a/?*/sa/b/?*",
                "spiffe://?*/ns/a/?*/sa/b",
                "spiffe://?*/ns/a/sa/b/?*",
                "spiffe://?*/ns/a/sa/b",
            ],
        ),
        (".+", ["?*"]),
        ("spiffe://.*/sa/b", ["spiffe://*/sa/b"]),
        ("", [""]),
        ("a.c", ["a?c"]),
        (r"a\.c\(\\\*", ["a.c(\\*"]),
        ("(a|b)c", ["ac", "bc"]),
        ("((a|b)|c)d", ["ad", "cd", "bd"]),
    ],
)
def test_what_is_recognised(expression, patterns):
    assert shown(expression) == patterns


@pytest.mark.parametrize(
    "expression",
    [
        *("a*", "a+", "a?", "a{2}", ".{2}", ".*?", ".+?", ".**", "(a)*", "(a.)*", "(a)+", "(a)??", "(a|)*b", "(a){2}"),
        *("^a", "a$", "a|b", "[a]", "(?i)a", "(?:a)", r"\w", r"\d+", r"\Qa\E", "(a", "a)", "a(b", "\\", "ä"),
        "(a)?" * 7,
        "a" * 1025,
    ],
)
def test_anything_else_is_not(expression):
    assert shown(expression) is None


@pytest.mark.parametrize("expression", [".*/ns/a/.*", "x(.+/|)y(/.+)?", "a.b", ".+", "(a|ab)(c|bc)"])
def test_alternatives_mean_what_the_expression_means(expression):
    found = pattern_alternatives(expression)
    assert found is not None
    letters = {ANY_BYTE: ".", ANY_BYTES: ".*"}
    again = "|".join("".join(letters.get(one) or re.escape(chr(one)) for one in pattern) for pattern in found)
    for text in (
        "",
        "a",
        "ab",
        "abc",
        "abbc",
        "/ns/a/",
        "x/ns/a/y",
        "/ns/ab/",
        "xy",
        "xa/y",
        "x/y",
        "xy/",
        "xy/a",
        "xa/y/a",
    ):
        assert bool(re.fullmatch(expression, text)) == bool(re.fullmatch(again, text)), text
