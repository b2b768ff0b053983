"""Delays grow, are jittered, end at the longest, and begin anew after success."""

import random

from eastgate.xds.backoff import Backoff


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
