"""Checked columns and duplicates."""

import dataclasses
from typing import Any

import pytest
from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.fastpath.tables.endpoint_rows import first_occurrences
from eastgate.xds.columns import Columns, LocalityEntry

from ...columns import columns
from ...oracle.shares import Endpoint

ZONES = ("r1", "z1", ""), ("r1", "z2", "")


def three() -> Columns:
    """Two endpoints in P0, one in P1."""
    return columns([Endpoint("10.0.0.1:80"), Endpoint("10.0.0.2:80"), Endpoint("[fd00::1]:80", priority=1)])


def test_first_row_of_an_address_is_kept_over_all_priorities() -> None:
    rows = [
        Endpoint("10.0.0.1:80"),
        Endpoint("10.0.0.2:80", locality=ZONES[0]),
        Endpoint("10.0.0.1:80", priority=1, locality=ZONES[1]),
        Endpoint("10.0.0.1:81"),
        Endpoint("[::ffff:10.0.0.1]:80"),
        Endpoint("unix:/run/a"),
        Endpoint("unix:/run/a", priority=1),
    ]
    assert first_occurrences(columns(rows)) == [0, 1, 0, 3, 4, 5, 5]


def test_equal_paths_under_two_numbers_are_one_address() -> None:
    both = dataclasses.replace(columns([Endpoint("unix:/a"), Endpoint("unix:/b")]), names=(b"/a", b"/a"))
    assert first_occurrences(both) == [0, 0]


def test_bytes_after_an_ipv4_address_do_not_count() -> None:
    one = columns([Endpoint("10.0.0.1:80"), Endpoint("10.0.0.1:80")])
    dirty = dataclasses.replace(one, address=one.address[:16] + one.address[16:20] + b"x" * 12)
    assert first_occurrences(dirty) == [0, 0]


def test_many_distinct_addresses_are_all_kept() -> None:
    rows = [Endpoint(f"10.{i >> 8}.{i & 255}.7:{80 + i % 3}") for i in range(3_000)]
    assert first_occurrences(columns(rows)) == list(range(3_000))


LONG_PATH = b"/" * 108
HALF = (2**31).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": -1}, "count -1"),
        ({"count": 4}, "family: 3 bytes for 4 rows"),
        ({"address": bytes(47)}, "address: 47 bytes for 3 rows"),
        ({"port": bytes(5)}, "port: 5 bytes"),
        ({"weight": bytes(12)}, "weight: 0 at row 0"),
        ({"weight": HALF * 3}, "weight: priority 0 sums past 4294967295 at row 1"),
        ({"health": b"\x01\x06\x01"}, "health: 6 at row 1"),
        ({"family": b"\x04\x02\x06"}, "family: 2 at row 1"),
        ({"family": b"\x04\x01\x06"}, "address: name 33554442 at row 1, but names has 0"),
        ({"priority": b"\x00\x00\x80"}, "priority: 128 at row 2"),
        ({"priority": b"\x00\x01\x01"}, "priority: 1 at row 1, but its locality entry says 0"),
        ({"locality": b"\x00\x00\x00\x00\x02\x00"}, "locality: index 2 at row 2, but localities has 2"),
        ({"names": (LONG_PATH,)}, "names: entry 0"),
        ({"names": ("text",)}, "names: entry 0"),
        ({"localities": (LocalityEntry(("", ""), 0, 1),)}, "localities: entry 0"),  # type: ignore[arg-type]
        ({"localities": (LocalityEntry(ZONES[0], -1, 1),)}, "priority of entry 0"),
        ({"localities": (LocalityEntry(ZONES[0], 0, 2**32),)}, "weight of entry 0"),
        (
            {"localities": (LocalityEntry(ZONES[0], 0, 2**31), LocalityEntry(ZONES[1], 0, 2**31))},
            "weights of priority 0 sum past 4294967295 at entry 1",
        ),
    ],
)
def test_impossible_columns_are_refused_by_field_and_row(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClusterTable.compile(dataclasses.replace(three(), **change))


def test_buffers_other_than_bytes_are_copied() -> None:
    given = three()
    address = bytearray(given.address)
    table = ClusterTable.compile(dataclasses.replace(given, address=address))
    address[0] = 99
    assert table.address(0) == "10.0.0.1:80"
