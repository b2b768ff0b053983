"""Acceptance: light endpoints get their share from the first picks of each table, however often tables are renewed."""

import random
from array import array

import pytest
from eastgate.fastpath import ClusterTable, Endpoint

HEAVY, LIGHT = (128, 1000), (10, 100)
PICKS, REFRESHES = 10, 5000


@pytest.mark.acceptance(feature="first picks")
def test_light_endpoints_get_their_share_though_tables_live_for_ten_picks() -> None:
    weights = [HEAVY[0]] * HEAVY[1] + [LIGHT[0]] * LIGHT[1]
    endpoints = [Endpoint(f"10.{row >> 8}.{row & 255}.1:80", weight=weight) for row, weight in enumerate(weights)]
    columns = ClusterTable.from_endpoints(endpoints).columns
    seeds, found, light = random.Random(7), array("I", [0] * PICKS), 0
    for _ in range(REFRESHES):
        ClusterTable.compile(columns, seed=seeds.getrandbits(63)).pick_many(found)
        light += sum(row >= HEAVY[1] for row in found)
    # 388 of 50,000 are due; 15 % of that are three standard deviations.
    due = PICKS * REFRESHES * LIGHT[0] * LIGHT[1] / sum(weights)
    assert abs(light - due) < 0.15 * due, (light, due)
