"""The earliest-deadline-first queue against counts that follow from its rule."""

import random
from collections import Counter

import pytest
from eastgate.fastpath.tables.edf_heap import replay


def test_counts_follow_the_weights_from_any_start() -> None:
    weights = [1.0, 2.0, 3.0, 10.0]
    for seed in range(20):
        counts = Counter(replay(weights, 160, seed=seed))
        # 16 picks a round, ten rounds; an entry is early or late by less than one turn of its own at either end.
        assert all(abs(counts[i] - 10 * weight) <= 2 for i, weight in enumerate(weights)), (seed, counts)


def test_first_turn_is_drawn_by_weight() -> None:
    # 3,000 starts of weights 1 to 9: 300 expected, standard deviation 16.4; five of them are 82.
    first = Counter(replay([1.0, 9.0], 1, seed=seed)[0] for seed in range(3_000))
    assert abs(first[0] - 300) < 82


def test_second_turn_has_the_expected_shares_too() -> None:
    second = Counter(replay([1.0, 9.0], 2, seed=seed)[1] for seed in range(3_000))
    assert abs(second[0] - 300) < 82


def test_equal_weights_never_repeat_within_a_round() -> None:
    turns = replay([1.0] * 50, 500, seed=3)
    assert all(len(set(turns[i : i + 50])) == 50 for i in range(0, 500, 50))


def test_large_queue_stays_a_queue() -> None:
    rng = random.Random(5)
    weights = [rng.uniform(0.01, 100) for _ in range(1_000)]
    picks = 200_000
    counts = Counter(replay(weights, picks, seed=1))
    total = sum(weights)
    assert all(abs(counts[i] - picks * w / total) <= 2 for i, w in enumerate(weights))


def test_weights_must_be_positive() -> None:
    with pytest.raises(ValueError, match="above 0"):
        replay([1.0, 0.0], 1, seed=0)
