"""DNS clusters: which settings they take, what they refuse, and what endpoints their addresses make."""

from typing import Any

import pytest
from eastgate.xds.assignment import decode_assignment
from eastgate.xds.dns import canonical_host, decode_dns, resolved_assignment
from eastgate.xds.errors import XdsError
from eastgate.xds.message import encode
from eastgate.xds.resources import DnsResolver, DnsSettings, DnsTarget

from .istiod import assignment, endpoint, locality_endpoints
from .rows import rows_of

CARES = "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"


def named(*hosts: str, **fields: Any) -> bytes:
    return assignment("x", [locality_endpoints("r", [endpoint(host, 80, **fields) for host in hosts])])


def settings(template: bytes, *, first_only: bool = False, **fields: Any) -> tuple[DnsSettings, list[str]]:
    warnings: list[str] = []
    message = {"load_assignment": template, **fields}
    return decode_dns("c", message, first_only=first_only, warnings=warnings), warnings


def refused(template: bytes, *, first_only: bool = False, **fields: Any) -> str:
    with pytest.raises(ValueError) as caught:
        settings(template, first_only=first_only, **fields)
    return str(caught.value)


def test_defaults_are_envoys() -> None:
    one, warnings = settings(named("a.example"))
    assert one == DnsSettings(template=one.template, targets=(DnsTarget("a.example", 80),))
    assert (one.refresh_rate_s, one.failure_base_s, one.respect_ttl, one.lookup_family) == (5.0, 0.0, False, "AUTO")
    assert warnings == []


def test_honoured_settings() -> None:
    one, _ = settings(
        named("a.example", "b.example", "a.example"),
        dns_refresh_rate="2s",
        dns_failure_refresh_rate={"base_interval": "3s"},
        respect_dns_ttl=True,
        dns_jitter="0.5s",
        dns_lookup_family="V4_ONLY",
        dns_min_refresh_rate="4s",
    )
    assert [target.host for target in one.targets] == ["a.example", "b.example"]
    # The longest wait is ten times the base unless it is given.
    assert (one.refresh_rate_s, one.failure_base_s, one.failure_max_s) == (2.0, 3.0, 30.0)
    assert (one.respect_ttl, one.jitter_s, one.min_refresh_s, one.lookup_family) == (True, 0.5, 4.0, "V4_ONLY")


def test_resolver_is_taken_from_the_newest_of_three_fields() -> None:
    def server(host: str, port: int) -> dict[str, Any]:
        return {"socket_address": {"address": host, "port_value": port}}

    oldest: dict[str, Any] = {"dns_resolvers": [server("10.0.0.1", 53)], "use_tcp_for_dns_lookups": True}
    assert settings(named("a"), **oldest)[0].resolver == DnsResolver(("10.0.0.1:53",), use_tcp=True)
    options = {"no_default_search_domain": True}
    middle = {"dns_resolution_config": {"resolvers": [server("::1", 5353)], "dns_resolver_options": options}}
    assert settings(named("a"), **oldest, **middle)[0].resolver == DnsResolver(("[::1]:5353",), search_domains=False)
    config = {"@type": CARES, "query_timeout_seconds": 2, "query_tries": 3, "rotate_nameservers": True}
    newest: dict[str, Any] = {"typed_dns_resolver_config": {"name": "x", "typed_config": config}}
    found = settings(named("a"), **oldest, **middle, **newest)[0].resolver
    assert found == DnsResolver(query_timeout_s=2, query_tries=3, rotate=True)


def test_what_is_not_honoured_is_warned_about() -> None:
    config = {"@type": CARES, "filter_unroutable_families": True}
    _, warnings = settings(named("a"), typed_dns_resolver_config={"name": "x", "typed_config": config})
    assert warnings == ["typed_dns_resolver_config.filter_unroutable_families: addresses of all families are used"]
    other = {"@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.apple.v3.AppleDnsResolverConfig"}
    _, warnings = settings(named("a"), typed_dns_resolver_config={"name": "x", "typed_config": other})
    assert "resolved by c-ares, not by envoy.extensions.network.dns_resolver.apple" in warnings[0]
    _, warnings = settings(named("a"), first_only=True, dns_lookup_family="ALL")
    assert warnings == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"dns_refresh_rate": "0.001s"}, "dns_refresh_rate is 0.001"),
        ({"dns_failure_refresh_rate": {"max_interval": "1s"}}, "no base_interval"),
        ({"dns_failure_refresh_rate": {"base_interval": "2s", "max_interval": "1s"}}, "shorter than base_interval"),
        ({"dns_jitter": "-1s"}, "dns_jitter is -1"),
        ({"dns_resolvers": [{"socket_address": {"address": "ns.example", "port_value": 53}}]}, "'ns.example'"),
    ],
)
def test_impossible_settings_are_refused(fields: dict[str, Any], reason: str) -> None:
    assert reason in refused(named("a.example"), **fields)


def test_impossible_endpoints_are_refused() -> None:
    assert "no socket_address with a name" in refused(named(""))
    two = named("a.example", "b.example")
    assert "LOGICAL_DNS has one locality with one endpoint" in refused(two, first_only=True)
    assert "LOGICAL_DNS has one locality" in refused(b"", first_only=True)
    resolver = {"address": "a.example", "port_value": 80, "resolver_name": "mine"}
    where = {"address": {"socket_address": resolver}}
    message = {"endpoints": [{"lb_endpoints": [{"endpoint": where}]}]}
    template = encode("envoy.config.endpoint.v3.ClusterLoadAssignment", message)
    assert "must not have a resolver_name" in refused(template)
    with pytest.raises(XdsError, match=r"CDS c rejected: .*weight is 0"):
        settings(named("a.example", weight=0))


def test_cluster_without_names_has_no_endpoints() -> None:
    one, _ = settings(b"")
    assert resolved_assignment("c", one, {}).columns.count == 0


def test_every_address_of_a_name_is_an_endpoint_with_the_names_settings() -> None:
    template = assignment(
        "x",
        [
            locality_endpoints("r1", [endpoint("a.example", 80, weight=3), endpoint("10.0.0.9", 81)], weight=5),
            locality_endpoints("r2", [endpoint("b.example", 90, health=5)], priority=1),
        ],
    )
    one, _ = settings(template)
    found = resolved_assignment("c", one, {"a.example": ["10.0.0.1", "::1"], "b.example": ["10.0.0.2"]})
    rows = [(row.address, row.port, row.weight, row.priority) for row in rows_of(found.columns)]
    assert rows == [("10.0.0.1", 80, 3, 0), ("::1", 80, 3, 0), ("10.0.0.9", 81, 1, 0), ("10.0.0.2", 90, 1, 1)]
    assert found.cluster_name == "c"
    assert [entry.weight for entry in found.columns.localities] == [5, None]
    # The bytes are those of an assignment with addresses.
    assert decode_assignment(found.raw) == found


def test_unanswered_names_have_no_endpoints_and_logical_dns_has_one_with_all_addresses() -> None:
    one, _ = settings(named("a.example", "b.example"))
    assert [row.address for row in rows_of(resolved_assignment("c", one, {"b.example": ["10.0.0.2"]}).columns)] == [
        "10.0.0.2"
    ]
    logical, _ = settings(named("a.example"), first_only=True)
    found = resolved_assignment("c", logical, {"a.example": ["10.0.0.3", "10.0.0.1"]})
    assert [row.address for row in rows_of(found.columns)] == ["10.0.0.3"]
    assert found.columns.further_of(0) == [(b"\x0a\0\0\1" + bytes(12), 80, 4)]


def test_further_addresses_that_the_configuration_names_count_as_little_as_in_envoy() -> None:
    message = {"address": {"socket_address": {"address": "a.example", "port_value": 80}}}
    message["additional_addresses"] = [{"address": {"socket_address": {"address": "10.0.0.9", "port_value": 80}}}]
    template = encode(
        "envoy.config.endpoint.v3.ClusterLoadAssignment", {"endpoints": [{"lb_endpoints": [{"endpoint": message}]}]}
    )
    for first_only in (False, True):
        one, _ = settings(template, first_only=first_only)
        assert resolved_assignment("c", one, {"a.example": ["10.0.0.1"]}).columns.further is None


def test_address_of_two_names_is_one_endpoint_with_both_weights() -> None:
    one, _ = settings(named("a.example", "b.example"))
    both = {"a.example": ["10.0.0.1"], "b.example": ["10.0.0.1", "10.0.0.2", "10.0.0.2"]}
    rows = rows_of(resolved_assignment("c", one, both).columns)
    # An address that one answer holds twice is there once.
    assert [(row.address, row.weight) for row in rows] == [("10.0.0.1", 2), ("10.0.0.2", 1)]


def test_addresses_have_one_spelling() -> None:
    assert canonical_host("0:0::1") == "::1"
    assert canonical_host("::FFFF:1.2.3.4") == canonical_host("::ffff:102:304")
    assert [canonical_host(host) for host in ("10.0.0.1", "a.example", "/path", "")] == [
        "10.0.0.1",
        "a.example",
        "/path",
        "",
    ]
