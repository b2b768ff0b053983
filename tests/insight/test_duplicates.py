"""One address in several entries: what is lost, and the cluster with it added up."""

import pytest
from eastgate.insight.cluster_model import compile_model, shares_by_priority
from eastgate.insight.duplicates import duplicates_of, merged

from ..support.dumps import endpoint, gateway, locality
from .models import model


@pytest.mark.acceptance(feature="duplicates")
def test_envoy_keeps_the_first_and_loses_the_rest() -> None:
    zones = model(*(locality(f"r/{n}", [gateway(weight=weight)]) for n, weight in enumerate((12, 15, 18))))
    (one,) = duplicates_of(zones)
    assert (one.address, one.kept, one.lost) == ("192.0.2.6:15443", 12, 33)


@pytest.mark.acceptance(feature="duplicates")
def test_sum_adds_up_one_priority() -> None:
    zones = model(*(locality(f"r/{n}", [gateway(weight=weight)]) for n, weight in enumerate((12, 15, 18))))
    whole = merged(zones)
    assert [(one.address, one.weight) for one in whole.endpoints] == [("192.0.2.6:15443", 45)]
    assert duplicates_of(whole) == ()


def test_share_of_a_merged_gateway_counts_all_its_localities() -> None:
    # A second gateway of weight 15 beside 12 + 15 + 18 = 45: 3 to 1, also with localities weighted.
    zones = model(
        *(locality(f"r/{n}", [gateway(weight=weight)]) for n, weight in enumerate((12, 15, 18))),
        locality("s", [gateway("192.0.2.7:15443", weight=15)]),
    )
    assert list(compile_model(zones).table.shares()) == pytest.approx([12 / 27, 0, 0, 15 / 27])
    assert list(compile_model(merged(zones)).table.shares()) == pytest.approx([0.75, 0.25])


@pytest.mark.acceptance(feature="duplicates")
def test_each_priority_keeps_its_own_sum() -> None:
    # istio#56355: 12 + 15 at P0 and 18 at P1; Envoy keeps 12.
    zones = model(
        locality("r/a", [gateway(weight=12)]),
        locality("r/b", [gateway(weight=15)]),
        locality("s/c", [gateway(weight=18)], priority=1),
    )
    whole = merged(zones)
    assert [(one.priority, one.weight, one.port) for one in whole.endpoints] == [(0, 27, 15443), (1, 18, 15443)]
    assert all(whole.is_gateway(one) for one in whole.endpoints)
    assert shares_by_priority(compile_model(whole)) == {0: 1.0, 1: 0.0}


def test_weight_of_a_shared_locality_moves_in_proportion() -> None:
    # r/b has weight 100 for endpoints of 3 and 1: three quarters go to r/a with the gateway.
    zones = model(
        locality("r/a", [gateway(weight=2)], weight=20),
        locality("r/b", [gateway(weight=3), endpoint("10.0.0.1:80", weight=1)], weight=100),
    )
    assert [entry.weight for entry in merged(zones).localities] == [95, 25]


def test_cluster_without_duplicates_stays_as_it_is() -> None:
    zones = model(locality("r/a", [gateway(weight=12), endpoint("10.0.0.1:80")]))
    assert duplicates_of(zones) == ()
    assert merged(zones) == zones


def test_weights_that_add_up_to_too_much_are_refused() -> None:
    huge = model(*(locality(f"r/{n}", [gateway(weight=4294967295)], weight=1) for n in range(2)))
    with pytest.raises(ValueError, match="too large"):
        compile_model(merged(huge))
