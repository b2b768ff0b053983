"""Histograms in Envoy's forms: quantiles, buckets, and their text and JSON. Pure.

Quantiles are read off the buckets, as Prometheus' histogram_quantile does: evenly spread within one. Worked example: 4
values of 6 to 9 ms all lie in the bucket from 5 to 10, so that P50 is 7.5 and P100 is 10. Envoy keeps finer buckets for
its quantiles (and the same ones for Prometheus), and the values of its latest interval, which stand here as nan.
"""

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import accumulate, pairwise

from eastgate.fastpath.loop.histogram import BOUNDS, Durations

QUANTILES = (0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 100.0)
UNUSED = "No recorded values"


class Buckets(StrEnum):
    """``histogram_buckets=`` of /stats: which form histograms have."""

    NONE = "none"
    SUMMARY = "summary"
    CUMULATIVE = "cumulative"
    DISJOINT = "disjoint"


def durations_of_ms(durations_ms: Mapping[int, int]) -> Durations:
    """How many took so many whole milliseconds, by bucket; bounds belong to theirs."""
    counts = [0] * (len(BOUNDS) + 1)
    for duration_ms, count in durations_ms.items():
        counts[bisect_left(BOUNDS, duration_ms)] += count
    return Durations(sum(duration_ms * count for duration_ms, count in durations_ms.items()), tuple(counts))


def quantiles(durations: Durations) -> list[float]:
    """The values of QUANTILES, in milliseconds; empty when nothing was recorded."""
    total = sum(durations.counts)
    return [_quantile(durations.counts, total * percent / 100) for percent in QUANTILES] if total else []


def _quantile(counts: Sequence[int], rank: float) -> float:
    before = 0
    for (lower, upper), count in zip(pairwise((0.0, *BOUNDS)), counts, strict=False):
        # The lowest quantile is the lower bound of the first bucket that holds anything.
        if count and before + count >= rank:
            return lower + (upper - lower) * (rank - before) / count
        before += count
    return BOUNDS[-1]


def bound_counts(durations: Durations, form: Buckets) -> list[int]:
    """How many there are for each of BOUNDS: below it, or between it and the one before."""
    within = durations.counts[: len(BOUNDS)]
    return list(accumulate(within)) if form is Buckets.CUMULATIVE else list(within)


def as_text(durations: Durations, form: Buckets) -> str:
    """What stands behind the name in /stats."""
    if not any(durations.counts):
        return UNUSED
    if form in (Buckets.CUMULATIVE, Buckets.DISJOINT):
        counts = zip(BOUNDS, bound_counts(durations, form), strict=True)
        return " ".join(f"B{bound:g}(0,{count})" for bound, count in counts)
    values = zip(QUANTILES, quantiles(durations), strict=True)
    return " ".join(f"P{percent:g}(nan,{round(value, 3):.15g})" for percent, value in values)


def json_pieces(histograms: Sequence[tuple[str, Durations]], form: Buckets) -> Iterator[str]:
    """The JSON object that holds (name, durations) of all, a piece for each."""
    if form in (Buckets.CUMULATIVE, Buckets.DISJOINT):
        yield '{"histograms": ['
        for number, (name, durations) in enumerate(histograms):
            buckets = [
                {"upper_bound": bound, "interval": 0, "cumulative": count}
                for bound, count in zip(BOUNDS, bound_counts(durations, form), strict=True)
            ]
            yield (",\n  " if number else "\n  ") + json.dumps({"name": name, "buckets": buckets})
        yield "\n ]}"
        return
    yield f'{{"histograms": {{"supported_quantiles": {json.dumps(QUANTILES)}, "computed_quantiles": ['
    for number, (name, durations) in enumerate(histograms):
        known = [round(value, 3) for value in quantiles(durations)]
        values: list[float] | list[None] = known or [None] * len(QUANTILES)
        cells = [{"interval": None, "cumulative": value} for value in values]
        yield (",\n  " if number else "\n  ") + json.dumps({"name": name, "values": cells})
    yield "\n ]}}"
