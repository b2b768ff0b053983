"""Tables of endpoints as people write them."""

from array import array
from typing import Any

import eastgate.fastpath
import pytest
from eastgate.fastpath import ClusterTable, Endpoint, Locality

EU = Locality("eu", "a")


def test_shares_and_picks_are_by_the_order_of_endpoints() -> None:
    table = ClusterTable.from_endpoints([Endpoint("10.0.0.1:80", 3), Endpoint("[::1]:80"), Endpoint("unix:/x")], seed=1)
    assert list(table.shares()) == pytest.approx([0.6, 0.2, 0.2], abs=0.001)
    assert [table.address(row) for row in range(3)] == ["10.0.0.1:80", "[::1]:80", "unix:/x"]
    out = array("I", bytes(4 * 1000))
    table.pick_many(out)
    assert out.tolist().count(0) == pytest.approx(600, abs=3)
    assert 0 <= table.pick() < 3
    assert table.spin(10) == 10


def test_priorities_and_health_are_envoys() -> None:
    # 140 % x 2 / 3 = 93.
    near = [Endpoint(f"10.0.0.{n}:80", health="UNHEALTHY" if n == 1 else "HEALTHY") for n in (1, 2, 3)]
    table = ClusterTable.from_endpoints([*near, Endpoint("10.1.0.1:80", priority=1)])
    assert [row[4] for row in table.priorities()] == [93, 7]
    assert table.shares()[0] == 0.0


def test_weights_of_localities_count_where_there_are_some() -> None:
    known = [Endpoint("10.0.0.1:80", locality=EU), Endpoint("10.0.0.2:80", locality=Locality("us"))]
    weights = {(0, EU): 9, (0, Locality("us")): 1}
    table = ClusterTable.from_endpoints(known, locality_weights=weights)
    assert list(table.shares()) == pytest.approx([0.9, 0.1], abs=0.001)
    off = ClusterTable.from_endpoints(known, locality_weights=weights, locality_weighted=False)
    assert list(off.shares()) == pytest.approx([0.5, 0.5], abs=0.001)


def test_hash_keys_are_the_endpoints_own() -> None:
    one, other = (
        ClusterTable.from_endpoints(
            [Endpoint(f"10.{net}.0.{n}:80", hash_key=f"pod-{n}") for n in range(5)], policy="MAGLEV"
        )
        for net in (0, 1)
    )
    # Other addresses, the same keys: the same rows.
    assert [one.pick_hash(n) for n in range(100)] == [other.pick_hash(n) for n in range(100)]


def test_of_nobody_nothing_is_picked() -> None:
    table = ClusterTable.from_endpoints([])
    assert (len(table), table.finds_endpoints(), table.pick() < 0) == (0, False, True)


@pytest.mark.parametrize(
    ("endpoints", "settings", "reason"),
    [
        ([Endpoint("10.0.0.1")], {}, "endpoint 0: '10.0.0.1' is no address"),
        ([Endpoint("a:80")], {}, "endpoint 0: 'a:80' is no address"),
        ([Endpoint("10.0.0.1:80"), Endpoint("10.0.0.1:70000")], {}, "endpoint 1: '10.0.0.1:70000' is no address"),
        ([Endpoint("10.0.0.1:80", weight=0)], {}, "endpoint 0: weight 0 is outside"),
        ([Endpoint("10.0.0.1:80", priority=128)], {}, "endpoint 0: priority 128 is outside"),
        ([Endpoint("10.0.0.1:80", health="FINE")], {}, "endpoint 0: health 'FINE' is none of UNKNOWN"),
        ([Endpoint("10.0.0.1:80")], {"policy": "BEST"}, "policy 'BEST' is none of"),
        ([Endpoint("10.0.0.1:80")], {"locality_weights": {(0, EU): 1}}, "locality_weights: no endpoint at priority 0"),
        ([Endpoint("10.0.0.1:80")], {"locality_weights": {(0, Locality()): 0}}, "locality_weights: 0 of"),
    ],
)
def test_what_cannot_be_names_the_endpoint(endpoints: list[Endpoint], settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}"):
        ClusterTable.from_endpoints(endpoints, **settings)


def test_a_setting_that_there_is_not_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="colour"):
        ClusterTable.from_endpoints([], colour=1)
    with pytest.raises(AttributeError, match="no attribute 'Colour'"):
        eastgate.fastpath.Colour  # type: ignore[attr-defined] # noqa: B018
