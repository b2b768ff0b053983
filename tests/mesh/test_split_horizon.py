"""Split horizon against the numbers that istio's own tests assert."""

from typing import Any

import pytest
from eastgate.mesh.split_horizon import (
    MAX_WEIGHT,
    Member,
    NetworkGateway,
    Seen,
    View,
    mtls_only,
    scale_factor,
    split_horizon,
)

from .istio_vectors import by_id, of_kind


def gateways(given: dict[str, Any]) -> list[NetworkGateway]:
    return [
        NetworkGateway(g["network"], g["address"], g.get("port", 15443), g.get("cluster", ""))
        for g in given["gateways"]
    ]


def members(given: dict[str, Any]) -> list[Member]:
    return [
        Member(e["address"], e["network"], e.get("cluster", ""), e.get("weight", 1), e.get("mtls", True), e)
        for e in given["endpoints"]
    ]


def split(seen: tuple[Seen, ...]) -> dict[str, Any]:
    direct = {entry.member.address: entry.weight for entry in seen if entry.member}
    through = {entry.gateway.address: entry.weight for entry in seen if entry.gateway}
    return {"direct": direct, "gateways": through, "total": sum((*direct.values(), *through.values()))}


@pytest.mark.parametrize(
    "vector",
    [v for v in of_kind("split_horizon") if "from" in v["expected"]],
    ids=lambda vector: vector["id"],
)
def test_each_network_sees_its_pods_and_the_gateways_of_the_others(vector: dict[str, Any]) -> None:
    given = vector["input"]
    assert scale_factor(gateways(given)) == given["scale"]
    for network, expected in vector["expected"]["from"].items():
        got = split(split_horizon(members(given), View(network), gateways(given)))
        if "weights" in expected:
            assert {**got["direct"], **got["gateways"]} == expected["weights"], network
        else:
            assert got == expected, network


@pytest.mark.parametrize("vector", of_kind("sni_dnat_filter"), ids=lambda vector: vector["id"])
def test_sni_dnat_clusters_keep_what_speaks_mesh_mtls(vector: dict[str, Any]) -> None:
    given = by_id(vector["input"]["as"])["input"]
    own_network_only = "requested_network_view" in vector["input"]
    for network, expected in vector["expected"]["from"].items():
        view = View(network, frozenset({network} if own_network_only else ()))
        assert split(mtls_only(split_horizon(members(given), view, gateways(given)))) == expected, network


def test_gateways_of_a_family_that_the_node_lacks_are_left_out() -> None:
    vector = by_id("split-horizon-gateway-ip-family")
    given, expected = vector["input"], vector["expected"]
    for name, view in {
        "proxy_ipv4_only": View("here", ipv6=False),
        "proxy_ipv6_only": View("here", ipv4=False),
        "proxy_dual_stack": View("here"),
    }.items():
        assert split(split_horizon(members(given), view, gateways(given)))["gateways"] == expected[name], name
    four = [gateway for gateway in gateways(given) if ":" not in gateway.address]
    assert split_horizon(members(given), View("here", ipv4=False), four) == ()


def test_endpoints_without_address_count_behind_their_gateway_only() -> None:
    vector = by_id("addressless-workload-entries-subsets")
    given = vector["input"]
    for subset, expected in vector["expected"]["subset"].items():
        chosen = [m for m in members(given) if not subset or m.item["labels"]["version"] == subset]  # type: ignore[index]
        got = split(split_horizon(chosen, View(given["proxy_network"]), gateways(given)))
        assert {**got["direct"], **got["gateways"]} == expected, subset


def test_requested_network_view_hides_other_networks() -> None:
    (vector,) = of_kind("network_view")
    for case in vector["cases"]:
        view = View("network1", frozenset(case["requested_network_view"] or ()))
        assert view.sees(case["endpoint_network"]) is case["visible"], case


def test_without_gateways_nothing_is_scaled_or_replaced() -> None:
    there = Member("10.2.0.1", "there", "c", 3, False)
    assert split_horizon([there], View("here"), []) == (Seen(3, member=there),)


def test_weights_saturate() -> None:
    gateway = NetworkGateway("there", "198.51.100.1")
    heavy = [Member(f"10.2.0.{i}", "there", "c", MAX_WEIGHT, True) for i in (1, 2)]
    assert split_horizon(heavy, View("here"), [gateway]) == (Seen(MAX_WEIGHT, gateway=gateway),)
