"""Medians, their 95 % intervals, and ratios of pairs."""

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """A median and the bounds between which it lies with 95 % probability."""

    median: float
    low: float
    high: float
    samples: int


def interval(samples: Sequence[float], *, seed: int = 1) -> Interval:
    """Percentile bootstrap: medians of samples drawn with replacement. With one sample all three are it."""
    rng = random.Random(seed)
    medians = sorted(statistics.median(rng.choices(samples, k=len(samples))) for _ in range(RESAMPLES))
    low, high = medians[round(RESAMPLES * 0.025)], medians[round(RESAMPLES * 0.975) - 1]
    return Interval(statistics.median(samples), low, high, len(samples))


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Interval | None:
    """Ratio within each pair, then as above: what slows a whole round down slows both. None beside a zero."""
    if not all(theirs):
        return None
    return interval([mine / other for mine, other in zip(ours, theirs, strict=True)])
