"""At which addresses the clusters of listeners without a socket are reached."""

from typing import Any

from eastgate.proxy.compile.places import places_of_clusters
from eastgate.xds.cidr import CidrRange
from eastgate.xds.rbac import RbacFilter, Rules
from eastgate.xds.resources import FilterChain, FilterChainMatch, HttpManager, Listener
from eastgate.xds.route import Route, RouteConfiguration, RouteMatch, VirtualHost

SLOTS = {"db": 1, "web": 2}
VIP, V6 = bytes((240, 240, 0, 1)), bytes((0x20, 1, *[0] * 13, 9))


def places(*chains: FilterChain, host: str = "240.240.0.1", **fields: Any) -> set[tuple[int, bytes, int]]:
    fields = {"bind_to_port": False, "traffic_direction": "OUTBOUND", **fields}
    steps = places_of_clusters(Listener("l", ((host, 5432),), chains, **fields), SLOTS)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return set(end.value)


def to(*clusters: str, **fields: Any) -> FilterChain:
    match = FilterChainMatch(**fields)
    return FilterChain("c", match, clusters=tuple((name, 1) for name in clusters))


def test_the_address_of_the_listener() -> None:
    assert places(to("db", "web")) == {(1, VIP, 5432), (2, VIP, 5432)}
    assert places(to("db"), host="0.0.0.0") == set()
    assert places(to("db"), host="::") == set()


def test_the_address_that_a_chain_asks_for() -> None:
    chains = to("db", destination_prefixes=(CidrRange(VIP, 32), CidrRange(V6, 128), CidrRange(bytes(4), 8)))
    assert places(chains, to("web"), host="0.0.0.0") == {(1, VIP, 5432), (1, V6, 5432)}


def test_the_addresses_that_virtual_hosts_hold() -> None:
    def host(*domains: str, cluster: str) -> VirtualHost:
        return VirtualHost("v", domains, (Route(RouteMatch("prefix", "/"), "route", clusters=((cluster, 1),)),))

    hosts = (
        host("db.example", "240.240.0.1", "240.240.0.1:5432", cluster="db"),
        host("[2001::9]:5432", "*.example", "240.240.0.1x", "300.1.1.1", cluster="web"),
    )
    chain = FilterChain("c", FilterChainMatch(), http=HttpManager(), route_config=RouteConfiguration("r", hosts))
    assert places(chain, host="0.0.0.0") == {(1, VIP, 5432), (2, V6, 5432)}


def test_who_refuses_or_asks_policies_is_not_followed() -> None:
    closed = FilterChain("c", FilterChainMatch(), clusters=(("db", 1),), refusal="no")
    guarded = FilterChain("c", FilterChainMatch(), clusters=(("db", 1),), policies=(RbacFilter(Rules("ALLOW", ())),))
    assert places(closed) == places(guarded) == set()


def test_a_socket_and_what_comes_from_outside_have_none() -> None:
    assert places(to("db"), bind_to_port=True) == places(to("db"), traffic_direction="INBOUND") == set()
