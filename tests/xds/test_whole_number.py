"""Whole numbers in texts from outside."""

import pytest
from eastgate.xds.whole_number import PORT, UINT32, whole_number


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("15443", 15443), ("65535", 65535), ("00080", 80)])
def test_decimal_digits_are_a_number(text: str, number: int) -> None:
    assert whole_number(text, PORT) == number


@pytest.mark.parametrize("text", ["", "65536", "99999", "-1", "+1", " 1", "1\n", "1_0", "²", "٣", "1" * 5000, "0" * 6])
def test_anything_else_is_none(text: str) -> None:
    assert whole_number(text, PORT) is None


def test_the_bound_is_the_callers() -> None:
    assert whole_number("4294967295", UINT32) == 4294967295
    assert whole_number("4294967296", UINT32) is None
