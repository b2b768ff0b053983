"""Delays grow, are jittered, end at the longest, and begin anew after success."""

import random
import re
from pathlib import Path

import pytest
from eastgate.xds.backoff import FIRST_S, LONGEST_S, Backoff

DOCS = Path(__file__).parents[2] / "docs"


def test_delays_double_up_to_the_longest_within_their_jitter() -> None:
    backoff = Backoff(random.Random(7))
    delays = [backoff.next_delay_s() for _ in range(9)]
    for delay, interval in zip(delays, (0.5, 1, 2, 4, 6, 6, 6, 6, 6), strict=True):
        assert interval / 2 <= delay <= interval


def test_reset_begins_anew() -> None:
    backoff = Backoff(random.Random(7))
    for _ in range(5):
        backoff.next_delay_s()
    backoff.reset()
    assert backoff.next_delay_s() <= 0.5


def test_seed_decides() -> None:
    assert Backoff(random.Random(1)).next_delay_s() == Backoff(random.Random(1)).next_delay_s()


@pytest.mark.parametrize("page", ["control-plane.md", "xds-support.md"])
def test_documents_say_the_same_times(page: str) -> None:
    text = " ".join((DOCS / page).read_text().split())
    assert re.findall(r"([\d.]+ s growing to [\d.]+ s)", text) == [f"{FIRST_S:g} s growing to {LONGEST_S:g} s"]
