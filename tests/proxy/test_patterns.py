"""Expressions from outside: RE2's dialect, linear time, and one line for what is none."""

import pytest
from eastgate.proxy.patterns import MAX_CHARACTERS, Pattern, PatternError, has_alternatives, is_beside
from hypothesis import example, given
from hypothesis import strategies as some

# Expressions in which what is anchored, and where, matters.
PARTS = (
    "^",
    "$",
    "|",
    "(",
    ")",
    "[",
    "]",
    "[^a]",
    "a",
    "b",
    ".",
    "\\.",
    "*",
    "\\b",
    "\\A",
    "\\z",
    "(?i)",
    "(?:",
    "\\Q",
    "é",
)
EXPRESSIONS = some.lists(some.sampled_from(PARTS), max_size=8).map("".join)
NAMES = some.text("ab.|é", max_size=4)


def test_finds_parts_and_matches_wholes() -> None:
    pattern = Pattern(r"^(cluster_manager\.cds|é+)$")
    assert pattern.found_in("cluster_manager.cds")
    assert pattern.found_in("éé")
    assert not pattern.found_in("cluster_manager_cds")
    assert Pattern("b").found_in("abc")
    assert not Pattern("b").matches("abc")
    assert Pattern(".*").matches("\ud800 no UTF-8 at all"[1:])


# Nested and ambiguous repetition: exponential for whatever goes back.
@pytest.mark.parametrize("text", [r"(.*.*.*.*.*.*.*.*)*!", r"(a*)*b", r"(x+x+)+y", r"^(([a-z])+.)+[A-Z]([a-z])+$"])
def test_no_expression_takes_long(text: str) -> None:
    assert not Pattern(text).found_in("a" * 200_000 + "x" * 200_000)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(", "missing )"),
        ("\n(", r"missing ): \n("),
        (r"(?=a)", "invalid perl operator"),
        (r"(a)\1", "invalid escape"),
        ("((a{1000}){1000}){1000}", "repetition size"),
        ("a" * (MAX_CHARACTERS + 1), "characters"),
        ("\udcff", "no text"),
    ],
)
def test_what_is_none_is_one_line(text: str, reason: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PatternError) as caught:
        Pattern(text)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@given(EXPRESSIONS, NAMES, some.lists(NAMES, min_size=1, max_size=4))
@example("^(b|a)", "b.", ["a"])
@example("^[](]|b", "a.", ["b"])
@example("^a|b", "a", ["b"])
@example("\\Ab", "", ["a", "b"])
def test_of_many_texts_none_is_missed(text: str, begin: str, ends: list[str]) -> None:
    try:
        pattern = Pattern(text)
    except PatternError:
        return
    if any(pattern.found_in(begin + end) for end in ends):
        assert pattern.may_be_found_in(begin, ends)


def test_texts_that_begin_otherwise_are_not_looked_at() -> None:
    asked = Pattern(r"^(server\.state|listener_manager\.workers_started)")
    assert not asked.may_be_found_in("cluster.", ["server.state"])
    assert not asked.may_be_found_in("tcp.", ["server.state"])
    assert asked.may_be_found_in("server.", ["state"])
    # By its end, all at once.
    asked = Pattern("downstream_cx_active$")
    assert not asked.may_be_found_in("cluster.a.", ["cx_active", "downstream_cx_active_"])
    assert asked.may_be_found_in("listener.a.", ["cx_total", "downstream_cx_active"])


@pytest.mark.parametrize(
    ("text", "several"),
    [
        ("a|b", True),
        ("^(a|b)", False),
        (r"a\|b", False),
        ("[|]", False),
        ("(a)|(b)", True),
        ("[](]|b", True),
        (r"\(a|b", True),
    ],
)
def test_alternatives_of_a_whole_expression(text: str, several: bool) -> None:
    assert has_alternatives(text) is several


@pytest.mark.parametrize(
    ("begin", "least", "greatest", "beside"),
    [
        (b"cluster.", b"listener", b"server", True),
        (b"tcp.", b"listener", b"server", True),
        (b"lis", b"listener", b"server", False),
        (b"listener.a", b"listener", b"listener", False),
        # What begins no text of them may still be a whole one.
        (b"cluster.", b"c", b"cl", False),
        (b"tcp.", b"", b"server", False),
    ],
)
def test_what_is_beside_a_range(begin: bytes, least: bytes, greatest: bytes, beside: bool) -> None:
    assert is_beside(begin, least, greatest) is beside
