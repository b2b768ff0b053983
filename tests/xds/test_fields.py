"""Ranges of numbers and durations."""

import pytest
from eastgate.xds.fields import (
    LONGEST_S,
    SHORTEST_S,
    checked_text,
    checked_texts,
    clamped,
    number,
    percent,
    printable,
    runtime_double,
    seconds,
    type_name,
)


def test_absent_fields_take_the_default() -> None:
    assert seconds({}, "wait", 5.0) == 5.0
    assert number({}, "count", 3) == 3


def test_seconds() -> None:
    assert seconds({"wait": "1.500s"}, "wait", 0.0) == 1.5
    assert seconds({"wait": "0s"}, "wait", 1.0) == 0.0
    with pytest.raises(ValueError, match=r"wait is -0\.000000001s, must be at least 0s"):
        seconds({"wait": "-0.000000001s"}, "wait", 0.0)
    with pytest.raises(ValueError, match="wait is 0s, must be above 0s"):
        seconds({"wait": "0s"}, "wait", 0.0, positive=True)


def test_numbers() -> None:
    assert number({"count": 0}, "count", 3) == 0
    with pytest.raises(ValueError, match="count is 1, must be at least 2"):
        number({"count": 1}, "count", 3, low=2)
    with pytest.raises(ValueError, match="count is 9, must be at most 8"):
        number({"count": 9}, "count", 3, high=8)


def test_type_name() -> None:
    assert type_name({"@type": "type.googleapis.com/a.B"}) == "a.B"
    assert type_name({}) == ""


def test_seconds_end_where_timers_do() -> None:
    assert seconds({"wait": "4294967.000s"}, "wait", 0.0) == LONGEST_S
    assert seconds({"wait": "4294967.001s"}, "wait", 0.0) == LONGEST_S
    assert round(LONGEST_S * 1000) < 2**32
    # What is shorter than a millisecond does not become "never".
    assert seconds({"wait": "0.000000001s"}, "wait", 0.0) == SHORTEST_S


def test_clamped() -> None:
    assert clamped({}, "count", low=1, high=9) is None
    assert [clamped({"count": value}, "count", low=1, high=9) for value in (0, 1, 9, 10)] == [1, 1, 9, 9]


def test_percents_and_doubles_are_numbers() -> None:
    assert percent({}, "part", 7.0, where="x") == 7.0
    assert percent({"part": {}}, "part", 7.0, where="x") == 0.0
    for value in (float("nan"), float("inf"), -1e-9, 100.0000001):
        with pytest.raises(ValueError, match=r"x\.part is .*, must be 0 to 100"):
            percent({"part": {"value": value}}, "part", 0.0, where="x")
    assert runtime_double({"bias": {"default_value": 1e308}}, "bias", 1.0) == 1e308
    for value in (float("nan"), float("-inf")):
        with pytest.raises(ValueError, match="must be a finite number"):
            runtime_double({"bias": {"default_value": value}}, "bias", 1.0)


@pytest.mark.parametrize("bad", ["\0", "\n", "\x7f", "\x85", "\u2028"])
def test_text_without_control_characters(bad: str) -> None:
    assert checked_text("name", "ä b\xa0") == "ä b\xa0"
    with pytest.raises(ValueError, match=r"name a.*b holds control characters"):
        checked_text("name", f"a{bad}b")
    with pytest.raises(ValueError, match=r"hosts .* holds"):
        checked_texts({"hosts": ["a", bad]}, "name", "hosts")
    assert printable(f"a{bad}") == "a" + ascii(bad)[1:-1]
