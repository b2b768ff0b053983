"""What a comparison with Envoy comes to: shares that are too far apart are named and end with exit code 1."""

import pytest
from eastgate.proxy.errors import ExpectationError
from eastgate.trial.compare_report import POINTS, Row, check


def row(address: str, envoy: float, eastgate: float) -> Row:
    return Row(address, 0, "r/z", "HEALTHY", envoy, envoy, eastgate)


def test_shares_two_points_apart_are_the_same() -> None:
    assert POINTS == 2
    check([row("10.0.0.1:80", 0.70, 0.715), row("10.0.0.2:80", 0.30, 0.285)])
    check([])


@pytest.mark.parametrize("sign", [1, -1])
def test_a_share_more_than_two_points_off_is_named_and_others_are_not(sign: int) -> None:
    off = [row("10.0.0.1:80", 0.5, 0.5 + sign * 0.021), row("10.0.0.2:80", 0.5, 0.5)]
    with pytest.raises(ExpectationError) as error:
        check(off)
    assert error.value.exit_code == 1
    assert str(error.value) == "shares differ by more than 2 points: 10.0.0.1:80"
