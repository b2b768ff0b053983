"""Rows by address: the first of duplicates, whatever else is wanted."""

import random
import struct
from dataclasses import replace

import pytest
from eastgate.fastpath.tables.row_search import find_rows

from ..driven_engine import columns


def test_first_row_of_each_wanted_address() -> None:
    rows = columns(("10.0.0.1", 80), ("10.0.0.2", 80), ("10.0.0.2", 80), ("10.0.0.2", 81), ("::", 80), ("0.0.0.0", 80))
    two = rows.address[16:32]
    assert find_rows(rows, [(two, 80, 4), (two, 82, 4), (two, 80, 6)]) == {(two, 80, 4): 1}
    # All bytes of these two are the same but for the family.
    assert find_rows(rows, [(bytes(16), 80, 4), (bytes(16), 80, 6)]) == {(bytes(16), 80, 4): 5, (bytes(16), 80, 6): 4}
    assert find_rows(rows, []) == {}
    assert find_rows(columns(), [(two, 80, 4)]) == {}


def test_agrees_with_a_dictionary_of_all_rows() -> None:
    chance = random.Random(1)
    places = [(f"10.{chance.randrange(4)}.{chance.randrange(256)}.1", chance.choice((80, 81))) for _ in range(3000)]
    rows = columns(*places)
    first: dict[tuple[bytes, int, int], int] = {}
    for row, (_, port) in enumerate(places):
        first.setdefault((rows.address[16 * row : 16 * row + 16], port, 4), row)
    for count in (1, 100, len(first)):
        wanted = chance.sample(list(first), count)
        assert find_rows(rows, wanted) == {one: first[one] for one in wanted}


def test_bad_arguments_are_refused() -> None:
    rows = columns(("10.0.0.1", 80))
    with pytest.raises(struct.error, match="65535"):
        find_rows(rows, [(bytes(16), 1 << 16, 4)])
    with pytest.raises(ValueError, match="1 rows"):
        find_rows(replace(rows, port=b""), [])
