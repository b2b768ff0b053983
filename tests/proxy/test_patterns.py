"""Expressions from outside: RE2's dialect, linear time, and one line for what is none."""

import pytest
from eastgate.proxy.patterns import MAX_CHARACTERS, Pattern, PatternError


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
