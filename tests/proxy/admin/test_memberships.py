"""Endpoints that come and go are counted; weights, health and order are no change of membership."""

import struct
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from eastgate.proxy.admin.memberships import Memberships
from eastgate.xds.resources import Columns

from ...fastpath.driven_engine import columns

A, B, C = ("127.0.0.1", 80), ("127.0.0.2", 80), ("::1", 80)


def compiled(found: Columns | None) -> Any:
    """As much of a compiled cluster as is looked at."""
    return SimpleNamespace(assignment=None if found is None else SimpleNamespace(columns=found))


def test_only_coming_and_going_counts() -> None:
    counted = Memberships()
    lighter = replace(columns(B, A), weight=struct.pack("=2I", 7, 9), health=b"\x03\x01")
    steps = [
        (columns(), 0),
        (columns(A, B), 1),
        (columns(A, B), 1),
        (columns(B, A), 1),
        (lighter, 1),
        (columns(B, A, C), 2),
        (columns(("127.0.0.1", 81), B, C), 3),
        (columns(), 4),
        (columns(("/run/a", 0)), 5),
        (columns(("/run/b", 0)), 6),
        (None, 6),
        (columns(("/run/b", 0)), 6),
    ]
    for found, wanted in steps:
        counted.published("c", compiled(found))
        assert counted.changes("c") == wanted
    counted.published("c", None)
    assert (counted.changes("c"), counted.changes("other")) == (0, 0)
