"""Ranges of numbers and durations."""

import pytest
from eastgate.xds.fields import number, seconds, type_name


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
