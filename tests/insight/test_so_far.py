"""Connects so far by priority and locality."""

from eastgate.insight.cluster_model import Endpoint
from eastgate.insight.so_far import SoFar, so_far
from eastgate.xds.resources import Locality

HERE, THERE = Locality("r", "a"), Locality("r", "b")


def test_connects_are_added_up_by_place() -> None:
    endpoints = [
        Endpoint("10.0.0.1:80", 1, THERE, 1, "HEALTHY", connects=10, connect_failures=4),
        Endpoint("10.0.0.2:80", 0, HERE, 1, "HEALTHY", connects=20),
        Endpoint("10.0.0.3:80", 0, HERE, 1, "HEALTHY", connects=10, connect_failures=1),
        # Said twice, counted once.
        Endpoint("10.0.0.3:80", 0, HERE, 1, "HEALTHY", connects=10, connect_failures=1),
    ]
    assert so_far(endpoints) == (SoFar(0, "r/a", 30, 1, 0.75), SoFar(1, "r/b", 10, 4, 0.25))


def test_nothing_is_said_where_nobody_has_connected() -> None:
    assert so_far([Endpoint("10.0.0.1:80", 0, HERE, 1, "HEALTHY")]) == ()
    assert so_far([]) == ()
