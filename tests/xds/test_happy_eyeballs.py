"""In which order an endpoint's addresses are tried: what the field of a cluster is read as, and what is refused."""

from typing import Any

import pytest

from .test_decode_cluster import decoded, rejected


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({}, (0, 1)),
        ({"first_address_family_version": "V6"}, (6, 1)),
        ({"first_address_family_version": "V4", "first_address_family_count": 3}, (4, 3)),
    ],
)
def test_order_of_an_endpoints_addresses(config: dict[str, Any], wanted: tuple[int, int]) -> None:
    one = decoded(upstream_connection_options={"happy_eyeballs_config": config})
    assert (one.happy_eyeballs.first_family, one.happy_eyeballs.first_count) == wanted
    assert one.warnings == ()


def test_impossible_order_of_an_endpoints_addresses_is_refused() -> None:
    def refused(config: dict[str, Any]) -> str:
        return rejected(upstream_connection_options={"happy_eyeballs_config": config})

    assert "first_address_family_count is 0" in refused({"first_address_family_count": 0})
    assert "must be DEFAULT, V4 or V6" in refused({"first_address_family_version": 4})
