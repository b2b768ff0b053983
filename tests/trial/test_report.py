"""What a step's report says of numbers: off by chance, off by more, arithmetic in words."""

import io
from typing import Any

import pytest
from eastgate.trial.ends import Ejection
from eastgate.trial.report import EndpointRow, StepResult, arithmetic, render, summary, tolerance
from rich.console import Console


def result(**changes: Any) -> StepResult:
    fields: dict[str, Any] = {
        "name": "step",
        "why": "Because.",
        "endpoints": (),
        "arithmetic": "",
        "expected": {"gke": 0.3, "anthos": 0.7},
        "observed": {"gke": 300, "anthos": 700},
        "connections": 1000,
        "via_gateway": 300,
        "behind_gateways": 300,
        "errors": {},
    }
    return StepResult(**{**fields, **changes})


def test_expected_shares_are_no_problem() -> None:
    assert result().problems() == []
    assert result().to_json()["ok"]
    assert result().to_json()["observed"] == {"gke": 0.3, "anthos": 0.7}


def test_tolerance_is_five_standard_deviations_and_none_where_all_is_expected() -> None:
    # sqrt(1000 x 0.3 x 0.7) = 14.5 connections
    assert tolerance(0.3, 1000) == pytest.approx(72.46, abs=0.01)
    assert (tolerance(0, 1000), tolerance(1, 1000)) == (0, 0)
    assert result(observed={"gke": 372, "anthos": 628}, via_gateway=372, behind_gateways=372).problems() == []


def test_a_share_that_is_off_is_named() -> None:
    problems = result(observed={"gke": 400, "anthos": 600}, via_gateway=400, behind_gateways=400).problems()
    assert problems == [
        "anthos: 60.0% of 1000, and 70.0% were expected",
        "gke: 40.0% of 1000, and 30.0% were expected",
    ]


def test_one_connection_too_many_is_one_too_many_where_none_is_expected() -> None:
    wrong = result(expected={"anthos": 1.0}, observed={"gke": 1, "anthos": 999}, via_gateway=1, behind_gateways=1)
    assert len(wrong.problems()) == 2


def test_unanswered_connections_are_a_problem_unless_expected() -> None:
    lost = {"observed": {"gke": 0, "anthos": 700}, "via_gateway": 0, "behind_gateways": 0}
    assert "refused: 30.0% of 1000, and 0.0% were expected" in result(**lost).problems()
    assert result(**lost, expected={"anthos": 0.7, "refused": 0.3}).problems() == []


def test_gateways_must_have_routed_what_came_from_another_cluster() -> None:
    assert result(via_gateway=299).problems() == [
        "the gateways routed 299 connections, and 300 answers came from workloads behind a gateway"
    ]


def test_nothing_expected_is_nothing_wrong() -> None:
    assert result(expected={}).problems() == []


def test_arithmetic_in_words() -> None:
    half, whole, empty = (2, 1, 0, 0, 70, 0, 70, False), (1, 1, 0, 0, 30, 0, 100, False), (0, 0, 0, 0, 0, 0, 0, False)
    assert arithmetic([half, empty, whole], 140) == (
        "priority 0: 1/2 x 140 % = 70 % -> 70 % of picks; priority 2: 1/1 healthy -> 30 % of picks"
    )
    assert arithmetic([], 140) == "no endpoints"


def test_people_see_expected_observed_and_why() -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(render(result(arithmetic="priority 0: ..."), 3, 9))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "(3/9) step  ok" in text
    assert "expected  anthos 70.0%  gke 30.0%" in text
    assert "observed  anthos 70.0%  gke 30.0%\n          (1000 connections, 300 through a gateway)\n" in text
    assert "why       Because.\n          priority 0: ...\n" in text
    assert "mTLS" not in text
    assert summary([result(), result(via_gateway=0)]).startswith("1 of 2 steps as expected")


def test_a_gateway_that_routed_another_share_is_named() -> None:
    through = {"gateway-1 of gke": (270, 0.27), "gateway-2 of gke": (30, 0.03)}
    assert result(through=through).problems() == []
    # sqrt(1000 x 0.03 x 0.97) = 5.4 connections
    wrong = result(through={**through, "gateway-2 of gke": (60, 0.03)})
    assert wrong.problems() == ["through gateway-2 of gke: 6.0% of 1000, and 3.0% were expected"]
    assert wrong.to_json()["through"] == {"gateway-1 of gke": 0.27, "gateway-2 of gke": 0.06}


def test_people_see_gateways_and_what_was_ejected() -> None:
    gone = Ejection("ejected", "127.0.0.1:9", "127.0.0.1:9 ejected (consecutive_5xx)", 0.5)
    named = gone.named({"127.0.0.1:9": "gateway-2 of gke"})
    shown = result(through={"gateway-1 of gke": (270, 0.27), "gateway-2 of gke": (30, 0.03)}, ejections=(named,))
    console = Console(file=io.StringIO(), width=80)
    console.print(render(shown, 1, 1))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "through   gateway-1 of gke 27.0%  gateway-2 of gke 3.0%\n" in text
    assert "event     gateway-2 of gke ejected (consecutive_5xx): 50.0% of connections move\n" in text
    (one,) = shown.to_json()["ejections"]
    assert (one["kind"], one["address"], one["moved"]) == ("ejected", "gateway-2 of gke", 0.5)


def test_a_step_fits_in_80_columns() -> None:
    where = "asia-northeast1/asia-northeast1-a"
    row = EndpointRow("127.0.0.1:38771", 1, where, 2, "UNHEALTHY", 1.0, "gateway of anthos")
    shown = result(endpoints=(row,), why="Because " * 30, arithmetic="priority 0: " * 12, handshakes=(1000, 743))
    console = Console(file=io.StringIO(), width=80)
    console.print(render(shown, 10, 10))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 80
    assert "gateway of anthos  asia-northeast1-a         1       2  UNHEALTHY  100.0%" in lines
    assert "mTLS      1000 handshakes at the servers' sidecars, 743 of them resumed" in lines


@pytest.mark.parametrize(
    ("locality", "shown"), [("tokyo-onprem", "tokyo-onprem"), ("r1/r1-z", "r1-z"), ("r1/z1/rack", "r1/z1/rack")]
)
def test_a_zone_that_names_its_region_says_both(locality: str, shown: str) -> None:
    row = EndpointRow("127.0.0.1:1", 0, locality, 1, "HEALTHY", 1.0)
    console = Console(file=io.StringIO(), width=80)
    console.print(render(result(endpoints=(row,)), 1, 1))
    assert console.file.getvalue().splitlines()[2].split()[:2] == ["127.0.0.1:1", shown]  # type: ignore[attr-defined]
