"""What a cluster is to become: settings of its slot, why it is closed, and that planning it touches nothing."""

from dataclasses import replace

import pytest
from eastgate.proxy.compile.cluster_plan import NEEDS_TLS, plan_cluster, slot_spec
from eastgate.proxy.membership.endpoint_flags import FAILED_ACTIVE_CHECK, Live
from eastgate.xds.resources import CircuitBreakers, Cluster, OutlierDetection, TcpKeepalive

from .test_compiler import assignment, cluster


def test_slot_has_what_connections_are_made_by() -> None:
    one = cluster(
        connect_timeout_s=0.25,
        circuit_breakers=CircuitBreakers(1, 2, max_connections_per_endpoint=3),
        tcp_keepalive=TcpKeepalive(probes=4, time_s=5, interval_s=6),
        outlier_detection=OutlierDetection(consecutive_5xx=7, consecutive_gateway_failure=8),
    )
    spec = slot_spec(one)
    assert spec.connect_timeout_ms == 250
    assert (spec.max_connections, spec.max_pending, spec.max_per_endpoint) == (1, 2, 3)
    assert (spec.keepalive_probes, spec.keepalive_time_s, spec.keepalive_interval_s) == (4, 5, 6)
    assert (spec.failure_threshold, spec.gateway_threshold) == (7, 8)
    assert not spec.original_dst


def test_split_errors_leave_gateway_failures_to_nobody() -> None:
    settings = OutlierDetection(split_external_local_origin_errors=True, consecutive_local_origin_failure=3)
    spec = slot_spec(cluster(outlier_detection=settings))
    assert (spec.failure_threshold, spec.gateway_threshold) == (3, 0)


@pytest.mark.parametrize("upstream_tls", ["NEVER", "BY_TLS_MODE", "ALWAYS"])
def test_cluster_is_closed_where_the_proxy_would_have_to_speak_tls(upstream_tls: str) -> None:
    endpoints = assignment(("10.0.0.1", 80))
    istio = replace(endpoints, columns=replace(endpoints.columns, flags=b"\1"))
    one = cluster(upstream_tls=upstream_tls)
    assert plan_cluster(one, endpoints, Live(endpoints)).closed == (NEEDS_TLS if upstream_tls == "ALWAYS" else "")
    assert plan_cluster(one, istio, Live(istio)).closed == ("" if upstream_tls == "NEVER" else NEEDS_TLS)
    assert plan_cluster(one, None, None).closed == ""


def test_waiting_cluster_has_endpoints_only_when_the_wait_is_over() -> None:
    endpoints = assignment(("10.0.0.1", 80))
    live = Live(endpoints, bytes([FAILED_ACTIVE_CHECK]), waiting=True)
    assert not plan_cluster(cluster(), endpoints, live).has_endpoints
    ready = plan_cluster(cluster(), endpoints, replace(live, waiting=False))
    assert ready.has_endpoints
    assert ready.flags == bytes([FAILED_ACTIVE_CHECK])


def test_cluster_to_original_destinations_says_so() -> None:
    one = Cluster(name="passthrough", type="ORIGINAL_DST", upstream_port_override=15008)
    spec = plan_cluster(one, None, None)
    assert (spec.slot.original_dst, spec.slot.port_override, spec.has_endpoints) == (True, 15008, False)


def test_equal_input_is_an_equal_plan() -> None:
    endpoints = assignment(("10.0.0.1", 80))
    one = cluster()
    assert plan_cluster(one, endpoints, Live(endpoints)) == plan_cluster(one, endpoints, Live(endpoints))
