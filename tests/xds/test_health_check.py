"""Health checks as configured: what is read, what Envoy refuses, and what is not run but named."""

from typing import Any

import pytest
from eastgate.xds.assignment import decode_assignment
from eastgate.xds.health_check import decode_health_checks, endpoint_checks
from eastgate.xds.message import encode
from eastgate.xds.resources import EndpointCheck, GrpcCheck, HealthCheck, HttpCheck, ServiceNameMatch

COMMON: dict[str, Any] = {"timeout": "1s", "interval": "2s", "unhealthy_threshold": 3, "healthy_threshold": 4}


def decoded(**fields: Any) -> tuple[HealthCheck | None, list[str]]:
    warnings: list[str] = []
    check = {"tcp_health_check": {}} if not any(field.endswith("_health_check") for field in fields) else {}
    return decode_health_checks([{**COMMON, **check, **fields}], warnings), warnings


def http(**fields: Any) -> HttpCheck:
    check, warnings = decoded(http_health_check={"path": "/up", **fields})
    assert check is not None
    assert warnings == []
    assert check.http is not None
    return check.http


def refused(**fields: Any) -> str:
    with pytest.raises(ValueError) as caught:
        decoded(**fields)
    return str(caught.value)


def test_defaults_are_envoys() -> None:
    check, warnings = decoded()
    assert warnings == []
    assert check == HealthCheck(
        timeout_s=1.0,
        interval_s=2.0,
        unhealthy_threshold=3,
        healthy_threshold=4,
        unhealthy_interval_s=2.0,
        unhealthy_edge_interval_s=2.0,
        healthy_edge_interval_s=2.0,
    )
    assert (check.no_traffic_interval_s, check.no_traffic_healthy_interval_s, check.reuse_connection) == (60, 60, True)
    assert decode_health_checks([], []) is None


def test_intervals_follow_each_other() -> None:
    check, _ = decoded(unhealthy_interval="5s", no_traffic_interval="7s")
    assert check is not None
    assert (check.unhealthy_interval_s, check.unhealthy_edge_interval_s, check.healthy_edge_interval_s) == (5, 5, 2)
    assert (check.no_traffic_interval_s, check.no_traffic_healthy_interval_s) == (7, 7)


def test_tcp_payloads_are_hexadecimal_text_or_bytes() -> None:
    check, _ = decoded(tcp_health_check={"send": {"text": "0aff"}, "receive": [{"binary": b"x"}, {"text": "62"}]})
    assert check is not None
    assert (check.send, check.receive, check.http) == (b"\n\xff", (b"x", b"b"), None)
    assert "payload 'xyz' is not hexadecimal" in refused(tcp_health_check={"send": {"text": "xyz"}})
    assert "payload '' is not" in refused(tcp_health_check={"receive": [{"text": ""}]})


def test_http_settings() -> None:
    assert http() == HttpCheck(path="/up")
    ranges = {"expected_statuses": [{"start": 200, "end": 300}], "retriable_statuses": [{"start": 500, "end": 600}]}
    found = http(**ranges, host="h", method="HEAD", response_buffer_size=0, request_headers_to_remove=["User-Agent"])
    assert (found.expected_statuses, found.retriable_statuses) == (((200, 300),), ((500, 600),))
    assert (found.host, found.method, found.response_buffer_bytes) == ("h", "HEAD", 0)
    assert found.headers_removed == ("user-agent",)
    assert http(request_headers_to_add=[{"header": {"key": "a", "value": "b"}}]).headers == (("a", "b"),)
    matcher = {"prefix": "a", "ignore_case": True}
    assert http(service_name_matcher=matcher).service_name == ServiceNameMatch("prefix", "a", ignore_case=True)


def test_grpc_settings() -> None:
    metadata = [{"header": {"key": "X-A", "value": "b"}}]
    check, warnings = decoded(grpc_health_check={"service_name": "s.T", "authority": "h", "initial_metadata": metadata})
    assert check is not None
    assert (check.grpc, check.http, warnings) == (GrpcCheck("s.T", "h", (("x-a", "b"),)), None, [])
    check, _ = decoded(grpc_health_check={})
    assert check is not None
    assert check.grpc == GrpcCheck()


@pytest.mark.parametrize(
    ("matcher", "name", "matches"),
    [
        (ServiceNameMatch("exact", "a"), "a", True),
        (ServiceNameMatch("exact", "a"), "A", False),
        (ServiceNameMatch("exact", "a", ignore_case=True), "A", True),
        (ServiceNameMatch("prefix", "a"), "ab", True),
        (ServiceNameMatch("suffix", "a"), "ab", False),
        (ServiceNameMatch("suffix", "b"), "ab", True),
        (ServiceNameMatch("contains", "b"), "abc", True),
        (ServiceNameMatch("contains", "x"), "abc", False),
    ],
)
def test_service_names_are_matched(matcher: ServiceNameMatch, name: str, matches: bool) -> None:
    assert matcher.matches(name) is matches


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"timeout": "0s"}, "timeout is 0s"),
        ({"unhealthy_edge_interval": "0s"}, "unhealthy_edge_interval is 0s"),
        ({"http_health_check": {}}, "no path"),
        ({"http_health_check": {"path": "/", "method": "CONNECT"}}, "CONNECT"),
        ({"http_health_check": {"path": "/", "expected_statuses": [{"start": 99, "end": 200}]}}, "99 to 200"),
        ({"http_health_check": {"path": "/", "retriable_statuses": [{"start": 200, "end": 200}]}}, "200 to 200"),
        ({"grpc_health_check": {"initial_metadata": [{"header": {"key": "Host", "value": "x"}}]}}, "host cannot"),
        ({"grpc_health_check": {"initial_metadata": [{"header": {"key": "a b", "value": "x"}}]}}, "a b cannot"),
        ({"grpc_health_check": {"initial_metadata": [{"header": {"key": "a", "value": "\n"}}]}}, "a cannot be sent"),
    ],
)
def test_impossible_checks_are_refused(fields: dict[str, Any], reason: str) -> None:
    assert reason in refused(**fields)


def test_incomplete_and_several_checks_are_refused() -> None:
    for field in COMMON:
        with pytest.raises(ValueError, match=f"no {field}"):
            decode_health_checks([{**{key: COMMON[key] for key in COMMON if key != field}, "tcp_health_check": {}}], [])
    with pytest.raises(ValueError, match="neither TCP nor HTTP"):
        decode_health_checks([COMMON], [])
    with pytest.raises(ValueError, match="more than one"):
        decode_health_checks([COMMON, COMMON], [])


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (
            {"grpc_health_check": {"initial_metadata": [{"header": {"key": "a", "value": "%HOSTNAME%"}}]}},
            "grpc_health_check.initial_metadata a",
        ),
        (
            {"grpc_health_check": {"initial_metadata": [{"header": {"key": "A-Bin", "value": "x"}}]}},
            "grpc_health_check.initial_metadata a-bin",
        ),
        ({"custom_health_check": b""}, "custom_health_check"),
        ({"tcp_health_check": {"proxy_protocol_config": b""}}, "proxy_protocol_config"),
        ({"http_health_check": {"path": "/", "codec_client_type": "HTTP2"}}, "codec_client_type HTTP2"),
        ({"http_health_check": {"path": "/", "service_name_matcher": {"safe_regex": b""}}}, "service_name_matcher"),
        (
            {
                "http_health_check": {
                    "path": "/",
                    "request_headers_to_add": [{"header": {"key": "a", "value": "%HOSTNAME%"}}],
                }
            },
            "request_headers_to_add a",
        ),
    ],
)
def test_checks_that_are_not_there_are_named_and_not_run(fields: dict[str, Any], named: str) -> None:
    check, (warning,) = decoded(**fields)
    assert check is None
    assert named in warning
    assert warning.endswith("active health checks are not run")


def test_what_changes_no_result_is_warned_about() -> None:
    check, (warning,) = decoded(event_log_path="/x")
    assert check is not None
    assert warning == "health_checks.event_log_path: transitions are in eastgate's log"


def test_endpoints_say_where_and_if_they_are_checked() -> None:
    def endpoint(address: dict[str, Any], config: dict[str, Any] | None) -> dict[str, Any]:
        return {"endpoint": {"address": address, **({} if config is None else {"health_check_config": config})}}

    def at(host: str, port: int) -> dict[str, Any]:
        return {"socket_address": {"address": host, "port_value": port}}

    endpoints = [
        endpoint(at("10.0.0.1", 80), None),
        endpoint(at("10.0.0.2", 80), {"port_value": 81, "hostname": "h"}),
        endpoint(at("0:0::1", 80), {"address": at("10.0.0.9", 90)}),
        endpoint({"pipe": {"path": "/p"}}, {"disable_active_health_check": True}),
        endpoint(at("10.0.0.2", 80), {"port_value": 82}),
    ]
    message = {"cluster_name": "c", "endpoints": [{"lb_endpoints": endpoints}]}
    raw = encode("envoy.config.endpoint.v3.ClusterLoadAssignment", message)
    # The bit says where looking is worth while.
    assert list(decode_assignment(raw).columns.flags) == [0, 2, 2, 2]
    assert endpoint_checks(raw) == {
        ("10.0.0.2", 80): EndpointCheck(port=81, hostname="h"),
        ("::1", 80): EndpointCheck(port=90, address="10.0.0.9"),
        ("/p", 0): EndpointCheck(disabled=True),
    }
