"""Exact tail probabilities for shares, and how many picks it takes to see a difference."""

import math
from collections.abc import Callable, Iterable, Iterator

NEGLIGIBLE = 1e-12


def _choose(n: int, k: int) -> float:
    """Logarithm of a binomial coefficient."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _both_tails(seen: int, low: int, high: int, log_probability: Callable[[int], float]) -> float:
    """Probability of `seen` or further out, doubled, of a distribution with one peak over low..high."""

    def tail(numbers: Iterable[int]) -> float:
        total = 0.0
        for number in numbers:
            one = math.exp(log_probability(number))
            total += one
            if one < total * NEGLIGIBLE:
                break
        return total

    def until_peak(numbers: Iterator[int]) -> float:
        return tail(numbers)

    below, above = range(seen, low - 1, -1), range(seen, high + 1)
    # From the side of the peak a sum would end too early or run long: the other tail is what is left.
    if log_probability(max(seen - 1, low)) <= log_probability(min(seen + 1, high)):
        return min(1.0, 2 * until_peak(iter(below)))
    return min(1.0, 2 * until_peak(iter(above)))


def one_sample(seen: int, picks: int, share: float) -> float:
    """Two-sided p of `seen` out of `picks` when each lands here with probability `share`."""
    if share <= NEGLIGIBLE or share >= 1 - NEGLIGIBLE:
        return float(seen == round(picks * share))
    log_share, log_rest = math.log(share), math.log1p(-share)
    return _both_tails(seen, 0, picks, lambda k: _choose(picks, k) + k * log_share + (picks - k) * log_rest)


def two_samples(seen: int, picks: int, other_seen: int, other_picks: int) -> float:
    """Two-sided p of two counts when both have the same share (Fisher)."""
    both, total = seen + other_seen, picks + other_picks
    whole = _choose(total, both)
    return _both_tails(
        seen,
        max(0, both - other_picks),
        min(picks, both),
        lambda k: _choose(picks, k) + _choose(other_picks, both - k) - whole,
    )


def deviations(p: float) -> float:
    """Standard deviations that a normal variable passes upwards with probability `p`."""
    low, high = 0.0, 40.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if math.erfc(middle / math.sqrt(2)) / 2 > p else (low, middle)
    return high


def picks_to_see(difference: float, share: float, *, p: float, missed: float) -> int:
    """Picks after which a share off by `difference` is found at level `p` (two-sided) with probability 1 - `missed`."""
    worst = max(one * (1 - one) for one in (share, max(share - difference, 0.0), min(share + difference, 1.0)))
    needed: float = worst * ((deviations(p / 2) + deviations(missed)) / difference) ** 2
    return math.ceil(needed)


def power(difference: float, share: float, picks: int, *, p: float) -> float:
    """Probability that `picks` show a share off by `difference` at level `p`."""
    moved = share + difference if share + difference <= 0.5 or share <= difference else share - difference
    error = math.sqrt(max(share * (1 - share), 1e-12) / picks)
    moved_error = math.sqrt(max(moved * (1 - moved), 1e-12) / picks)
    return 0.5 * math.erfc((deviations(p / 2) * error - abs(moved - share)) / moved_error / math.sqrt(2))
