"""What /clusters says of ejections and success rates, and how dumps write an endpoint."""

import json
from typing import Any

from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.insight.read_dump import read_document
from eastgate.proxy.admin import dumps
from eastgate.proxy.membership.endpoint_health import Cause, address_text, key_of
from eastgate.xds.assignment import decode_assignment
from eastgate.xds.columns import EndpointRow, Family, Health, columns_of
from eastgate.xds.decode import EDS
from eastgate.xds.message import encode

from ..compile.test_compiler import NAME
from ..membership.test_ejections import FOUR, Proxy, detecting

RATES: dict[str, Any] = {"success_rate_minimum_hosts": 4, "success_rate_request_volume": 10, "consecutive_5xx": 0}


def hosts(proxy: Proxy) -> list[dict[str, Any]]:
    text = "".join(dumps.clusters_json(proxy.compiler.clusters, proxy.ejections.detector))
    found: list[dict[str, Any]] = json.loads(text)["cluster_statuses"][0]["host_statuses"]
    return found


def lines(proxy: Proxy) -> list[str]:
    text = "".join(dumps.clusters_text(proxy.compiler.clusters, proxy.ejections.detector))
    return [line.removeprefix(f"{NAME}::") for line in text.splitlines()]


def test_each_cause_has_its_flag() -> None:
    proxy = Proxy(detecting())
    proxy.fail(1)
    proxy.compiler.health.mark(NAME, key_of(FOUR.columns, 1), Cause.FAILED_ACTIVE_HC, True)
    proxy.compiler.health.mark(NAME, key_of(FOUR.columns, 2), Cause.FAILED_ACTIVE_HC, True)
    proxy.compiler.refresh(NAME)
    both, one = {"failed_active_health_check": True, "failed_outlier_check": True}, {"failed_active_health_check": True}
    shown = [host["health_status"] for host in hosts(proxy)]
    assert shown == [{"eds_health_status": "HEALTHY", **flags} for flags in ({}, both, one, {})]
    flags = [line.partition("::health_flags::")[2] for line in lines(proxy) if "::health_flags::" in line]
    assert flags == ["healthy", "/failed_active_hc/failed_outlier_check", "/failed_active_hc", "healthy"]


def test_success_rates_of_the_last_interval() -> None:
    proxy = Proxy(detecting(**RATES))
    assert "10.0.0.1:80::success_rate::-1" in lines(proxy)
    assert "outlier::success_rate_average::-1" in lines(proxy)
    for row in range(4):
        proxy.end(row, True, 30)
    proxy.end(1, False, 10)
    proxy.wait(10)
    assert [host["success_rate"]["value"] for host in hosts(proxy)] == [100, 75, 100, 100]
    assert "10.0.0.1:80::success_rate::75" in lines(proxy)
    assert "10.0.0.1:80::local_origin_success_rate::-1" in lines(proxy)
    assert "outlier::success_rate_average::93.75" in lines(proxy)
    assert "outlier::local_origin_success_rate_average::-1" in lines(proxy)
    proxy.wait(20)
    assert all("success_rate" not in host for host in hosts(proxy))


def test_split_rates_have_their_own_names() -> None:
    proxy = Proxy(detecting(**RATES, split_external_local_origin_errors=True))
    for row in range(4):
        proxy.end(row, True, 10)
    proxy.wait(10)
    assert {host["local_origin_success_rate"]["value"] for host in hosts(proxy)} == {100}
    assert "outlier::local_origin_success_rate_ejection_threshold::100" in lines(proxy)


def test_cluster_that_nobody_watches_has_no_rates() -> None:
    proxy = Proxy(detecting())
    assert not any("outlier::" in line for line in "".join(dumps.clusters_text(proxy.compiler.clusters)).splitlines())


def test_an_assignment_that_we_render_ourselves_keeps_what_is_hashed() -> None:
    where = {"socket_address": {"address": "10.0.0.1", "port_value": 80}}
    metadata = encode("envoy.config.core.v3.Metadata", {"filter_metadata": {"envoy.lb": {"hash_key": "key"}}})
    keyed = {"endpoint": {"address": where}, "metadata": metadata}
    plain = {"endpoint": {"address": {"socket_address": {"address": "10.0.0.2", "port_value": 80}}}}
    raw = encode(
        "envoy.config.endpoint.v3.ClusterLoadAssignment",
        {"cluster_name": "c", "endpoints": [{"lb_endpoints": [keyed, plain]}]},
    )
    ((one, other),) = [entry["lb_endpoints"] for entry in dumps.render(EDS, raw)["endpoints"]]
    assert one["metadata"] == {"filter_metadata": {"envoy.lb": {"hash_key": "key"}}}
    assert "metadata" not in other


def test_host_names_of_endpoints_are_shown() -> None:
    address = {"socket_address": {"address": "10.0.0.1", "port_value": 80}}
    named = {"endpoint": {"address": address, "hostname": "db.example.org"}}
    said = {"cluster_name": NAME, "endpoints": [{"lb_endpoints": [named]}]}
    raw = encode("envoy.config.endpoint.v3.ClusterLoadAssignment", said)
    proxy = Proxy(detecting(), decode_assignment(raw))
    (host,) = hosts(proxy)
    assert host["hostname"] == "db.example.org"
    assert "10.0.0.1:80::hostname::db.example.org" in lines(proxy)
    assert "10.0.0.0:80::hostname::" in lines(Proxy(detecting()))


def test_addresses_are_written_as_envoy_writes_them() -> None:
    """Envoy asks inet_ntop, which writes an IPv4 address inside of IPv6 with dots; so does the table of picks."""
    mapped = EndpointRow(Family.IPV6, bytes(10) + b"\xff\xff\x0a\0\0\1", 80)
    columns = columns_of([mapped, EndpointRow(Family.IPV4, b"\x0a\0\0\2", 81), EndpointRow(Family.UNIX, b"/run/a\xff")])
    assert [dumps.endpoint_address(columns, row) for row in range(3)] == [
        {"socket_address": {"address": "::ffff:10.0.0.1", "port_value": 80}},
        {"socket_address": {"address": "10.0.0.2", "port_value": 81}},
        {"pipe": {"path": "/run/a\\xff"}},
    ]
    assert ClusterTable.compile(columns).address(0) == "[::ffff:10.0.0.1]:80"
    assert address_text(key_of(columns, 0)) == "[::ffff:10.0.0.1]:80"


def test_health_that_eds_left_open_is_healthy() -> None:
    shown = [dumps.eds_health_status(health) for health in (*Health, len(Health))]
    assert shown == ["HEALTHY", "HEALTHY", "UNHEALTHY", "DRAINING", "TIMEOUT", "DEGRADED", "HEALTHY"]


def test_all_addresses_of_an_endpoint_are_shown_and_read_back() -> None:
    first, four, six = (
        {"socket_address": {"address": host, "port_value": 80}} for host in ("10.0.0.1", "10.0.0.2", "fd00::1")
    )
    two = {"endpoint": {"address": first, "additional_addresses": [{"address": four}, {"address": six}]}}
    one = {"endpoint": {"address": {"socket_address": {"address": "10.0.0.3", "port_value": 80}}}}
    said = {"cluster_name": NAME, "endpoints": [{"lb_endpoints": [two, one]}]}
    raw = encode("envoy.config.endpoint.v3.ClusterLoadAssignment", said)
    (shown,) = (entry["lb_endpoints"] for entry in dumps.render(EDS, raw)["endpoints"])
    assert [place["endpoint"].get("additional_addresses") for place in shown] == [
        [{"address": four}, {"address": six}],
        None,
    ]
    proxy = Proxy(detecting(), decode_assignment(raw))
    assert [host.get("eastgate_additional_addresses") for host in hosts(proxy)] == [[four, six], None]
    document = json.loads("".join(dumps.clusters_json(proxy.compiler.clusters, proxy.ejections.detector)))
    read_back = read_document(document, "clusters").clusters[NAME].endpoints
    assert [one.further for one in read_back] == [("10.0.0.2:80", "[fd00::1]:80"), ()]
