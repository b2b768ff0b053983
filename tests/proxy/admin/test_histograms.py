"""Forms of a histogram, in numbers."""

import json
import math

import pytest
from eastgate.fastpath.loop.histogram import BOUNDS, Durations, counted
from eastgate.proxy.admin.histograms import QUANTILES, Buckets, as_text, durations_of_ms, json_pieces, quantiles

MS = 1_000_000
NOTHING = counted([])
# One of less than a millisecond, three of 7 ms, one of two hours.
SOME = counted([0, 7 * MS, 7 * MS, 7 * MS, 7_200_000 * MS])


def read(form: Buckets, *pairs: tuple[str, Durations]) -> dict[str, object]:
    found: dict[str, object] = json.loads("".join(json_pieces(pairs, form)))
    return found


def test_whole_milliseconds_fall_into_the_buckets_that_the_data_side_has() -> None:
    assert durations_of_ms({}) == NOTHING
    assert durations_of_ms({0: 1, 7: 3, 7_200_000: 1}) == SOME
    at_bounds = {0: 1, **{int(bound): 1 for bound in BOUNDS[1:]}}
    assert durations_of_ms(at_bounds).counts == (1,) * len(BOUNDS) + (0,)


def test_quantiles_are_spread_evenly_within_a_bucket() -> None:
    # Ranks 0, 1.25, 2.5, 3.75 of five: one in the first bucket, three between 5 and 10, the last beyond all bounds.
    expected = dict(zip(QUANTILES, quantiles(SOME), strict=True))
    assert expected[0] == 0
    assert expected[25] == pytest.approx(5 + 5 * 0.25 / 3)
    assert expected[75] == pytest.approx(5 + 5 * 2.75 / 3)
    assert expected[90] == expected[100] == BOUNDS[-1]


def test_lowest_quantile_is_where_values_begin() -> None:
    assert quantiles(counted([300 * MS]))[0] == 250
    assert quantiles(counted([300 * MS]))[-1] == 500


def test_text_has_envoys_shape() -> None:
    assert as_text(NOTHING, Buckets.NONE) == "No recorded values"
    assert as_text(counted([300 * MS]), Buckets.NONE) == (
        "P0(nan,250) P25(nan,312.5) P50(nan,375) P75(nan,437.5) P90(nan,475) P95(nan,487.5) P99(nan,497.5) "
        "P99.5(nan,498.75) P99.9(nan,499.75) P100(nan,500)"
    )
    assert as_text(SOME, Buckets.CUMULATIVE).startswith("B0.5(0,1) B1(0,1) B5(0,1) B10(0,4) B25(0,4) ")
    assert as_text(SOME, Buckets.DISJOINT).endswith(" B1.8e+06(0,0) B3.6e+06(0,0)")


def test_json_has_envoys_shape() -> None:
    computed = read(Buckets.NONE, ("a", SOME), ("b", NOTHING))["histograms"]
    assert isinstance(computed, dict)
    assert computed["supported_quantiles"] == list(QUANTILES)
    (used, unused) = computed["computed_quantiles"]
    assert used["name"] == "a"
    assert used["values"][0] == {"interval": None, "cumulative": 0.0}
    assert {cell["cumulative"] for cell in unused["values"]} == {None}
    (buckets,) = read(Buckets.CUMULATIVE, ("a", SOME))["histograms"]  # type: ignore[misc]
    assert buckets["buckets"][3] == {"upper_bound": 10, "interval": 0, "cumulative": 4}
    assert not [value for value in quantiles(SOME) if math.isnan(value)]
