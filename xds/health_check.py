"""Active health checks as configured: of a cluster, and what single endpoints want otherwise. Checks nothing.

A kind of check that eastgate does not have, or a setting that would make a check pass or fail differently, is named in
a warning, and no check of that cluster is run: its endpoints count as passing, as without the check.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .columns import EndpointKey
from .dns import is_address
from .endpoint_messages import endpoint_messages
from .fields import PORT_MAX, checked_text, checked_texts, has_controls, number, printable, seconds
from .resources import EndpointCheck, GrpcCheck, HealthCheck, HttpCheck, ServiceNameMatch

_NOT_RUN = "active health checks are not run"
_WARNINGS = {
    "event_log_path": "transitions are in eastgate's log",
    "event_service": "transitions are in eastgate's log",
    "event_logger": "transitions are in eastgate's log",
    "tls_options": "checks are made without TLS",
    "transport_socket_match_criteria": "checks are made without TLS",
}
_MATCHES = ("exact", "prefix", "suffix", "contains")
# Headers whose value may hold Envoy's command operators.
_OPERATOR = "%"
# What gRPC takes for a name and for a value; it would turn the value of a name that ends in -bin into base64.
_METADATA_NAME = re.compile(r"[0-9a-z_.-]+")
_METADATA_VALUE = re.compile(r"[ -~]*")
_BINARY = "-bin"


def decode_health_checks(checks: Sequence[Mapping[str, Any]], warnings: list[str]) -> HealthCheck | None:
    """The health check of a cluster; None without one, or with one that is not run. Raises ValueError as Envoy does."""
    if not checks:
        return None
    if len(checks) > 1:
        raise ValueError("health_checks: more than one is not supported, by Envoy neither")
    (check,) = checks
    for field in ("timeout", "interval", "unhealthy_threshold", "healthy_threshold"):
        if field not in check:
            raise ValueError(f"health_checks: no {field}")
    interval = _positive(check, "interval", 0.0)
    unhealthy = _positive(check, "unhealthy_interval", interval)
    idle = _positive(check, "no_traffic_interval", 60.0)
    common: dict[str, Any] = {
        "timeout_s": _positive(check, "timeout", 0.0),
        "interval_s": interval,
        "initial_jitter_s": seconds(check, "initial_jitter", 0.0),
        "interval_jitter_s": seconds(check, "interval_jitter", 0.0),
        "interval_jitter_percent": check.get("interval_jitter_percent", 0),
        "unhealthy_threshold": check["unhealthy_threshold"],
        "healthy_threshold": check["healthy_threshold"],
        "reuse_connection": check.get("reuse_connection", True),
        "unhealthy_interval_s": unhealthy,
        "unhealthy_edge_interval_s": _positive(check, "unhealthy_edge_interval", unhealthy),
        "healthy_edge_interval_s": _positive(check, "healthy_edge_interval", interval),
        "no_traffic_interval_s": idle,
        "no_traffic_healthy_interval_s": _positive(check, "no_traffic_healthy_interval", idle),
        "log_failures": check.get("always_log_health_check_failures", False),
        "log_successes": check.get("always_log_health_check_success", False),
    }
    warnings += [f"health_checks.{field}: {what}" for field, what in _WARNINGS.items() if check.get(field)]
    if "tcp_health_check" in check:
        made, problem = _tcp(check["tcp_health_check"], common)
    elif "http_health_check" in check:
        made, problem = _http(check["http_health_check"], common)
    elif "grpc_health_check" in check:
        made, problem = _grpc(check["grpc_health_check"], common)
    elif "custom_health_check" in check:
        made, problem = None, "custom_health_check"
    else:
        raise ValueError("health_checks: neither TCP nor HTTP nor gRPC nor any other check")
    if problem:
        warnings.append(f"health_checks.{problem}: {_NOT_RUN}")
        return None
    return made


def _positive(check: Mapping[str, Any], name: str, default: float) -> float:
    return seconds(check, name, default, positive=True)


def _payload(payload: Mapping[str, Any]) -> bytes:
    """Bytes of a Payload, whose text is hexadecimal."""
    if "binary" in payload:
        return bytes(payload["binary"])
    text = payload.get("text", "")
    try:
        if not text:
            raise ValueError
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError(f"health_checks: payload {text!r} is not hexadecimal text") from None


def _tcp(config: Mapping[str, Any], common: Mapping[str, Any]) -> tuple[HealthCheck | None, str]:
    if "proxy_protocol_config" in config:
        return None, "tcp_health_check.proxy_protocol_config"
    send = _payload(config["send"]) if "send" in config else b""
    return HealthCheck(**common, send=send, receive=tuple(map(_payload, config.get("receive", ())))), ""


def _http(config: Mapping[str, Any], common: Mapping[str, Any]) -> tuple[HealthCheck | None, str]:
    path = config.get("path", "")
    if not path:
        raise ValueError("health_checks.http_health_check: no path")
    if config.get("codec_client_type", "HTTP1") != "HTTP1":
        return None, f"http_health_check.codec_client_type {config['codec_client_type']}"
    matcher = config.get("service_name_matcher")
    if matcher is not None and not any(kind in matcher for kind in _MATCHES):
        return None, "http_health_check.service_name_matcher"
    headers, problem = _headers(config.get("request_headers_to_add", ()))
    if problem:
        return None, f"http_health_check.request_headers_to_add {problem}"
    checked_texts(config, "path", "host", "request_headers_to_remove")
    method = str(config.get("method", "GET"))
    send = _payload(config["send"]) if "send" in config else b""
    if method == "CONNECT":
        raise ValueError("health_checks.http_health_check: method CONNECT cannot be checked with")
    http = HttpCheck(
        path=path,
        host=config.get("host", ""),
        method="GET" if method == "METHOD_UNSPECIFIED" else method,
        headers=headers,
        headers_removed=tuple(name.lower() for name in config.get("request_headers_to_remove", ())),
        expected_statuses=tuple(_ranges(config, "expected_statuses")) or ((200, 201),),
        retriable_statuses=tuple(_ranges(config, "retriable_statuses")),
        response_buffer_bytes=config.get("response_buffer_size", 1024),
        service_name=None if matcher is None else _match(matcher),
    )
    return HealthCheck(**common, send=send, receive=tuple(map(_payload, config.get("receive", ()))), http=http), ""


def _grpc(config: Mapping[str, Any], common: Mapping[str, Any]) -> tuple[HealthCheck | None, str]:
    headers, problem = _headers(config.get("initial_metadata", ()))
    metadata = tuple((name.lower(), value) for name, value in headers)
    for name, value in metadata:
        if not _METADATA_NAME.fullmatch(name) or name == "host" or not _METADATA_VALUE.fullmatch(value):
            raise ValueError(f"health_checks.grpc_health_check.initial_metadata: {name} cannot be sent")
        if name.endswith(_BINARY):
            problem = name
    if problem:
        return None, f"grpc_health_check.initial_metadata {problem}"
    checked_texts(config, "service_name", "authority")
    grpc = GrpcCheck(config.get("service_name", ""), config.get("authority", ""), metadata)
    return HealthCheck(**common, grpc=grpc), ""


def _headers(options: Sequence[Mapping[str, Any]]) -> tuple[tuple[tuple[str, str], ...], str]:
    """Headers to add, and the name of one that is more than a name and a value."""
    headers = []
    for option in options:
        header = option.get("header", {})
        value = header.get("value", "") or header.get("raw_value", b"").decode("latin-1")
        if _OPERATOR in value or "append_action" in option or not option.get("append", True):
            return (), header.get("key", "")
        if has_controls(header.get("key", "")) or has_controls(value):
            # The end of a line would begin another header, or another request.
            raise ValueError(f"health_checks: header {printable(header.get('key', ''))} cannot be sent")
        headers.append((header.get("key", ""), value))
    return tuple(headers), ""


def _match(matcher: Mapping[str, Any]) -> ServiceNameMatch:
    kind = next(kind for kind in _MATCHES if kind in matcher)
    return ServiceNameMatch(kind, matcher[kind], matcher.get("ignore_case", False))


def _ranges(config: Mapping[str, Any], field: str) -> Iterator[tuple[int, int]]:
    for one in config.get(field, ()):
        start, end = one.get("start", 0), one.get("end", 0)
        if not 100 <= start < end <= 600:
            raise ValueError(f"health_checks.http_health_check.{field}: {start} to {end} is no range within 100 to 600")
        yield start, end


def endpoint_checks(assignment: bytes) -> dict[EndpointKey, EndpointCheck]:
    """What endpoints of an assignment want otherwise. Raises ValueError for what no check could be made with."""
    configs = {
        key: one.get("endpoint", {}).get("health_check_config") for key, one in endpoint_messages(assignment).items()
    }
    return {key: _endpoint_check(config) for key, config in configs.items() if config is not None}


def _endpoint_check(config: Mapping[str, Any]) -> EndpointCheck:
    where = config.get("address", {}).get("socket_address", {})
    host = where.get("address", "")
    # Anything but an address is not connected to; Envoy rejects it.
    return EndpointCheck(
        port=number(config, "port_value", 0, high=PORT_MAX) or number(where, "port_value", 0, high=PORT_MAX),
        address=host if is_address(host) else "",
        hostname=checked_text("health_check_config.hostname", config.get("hostname", "")),
        disabled=config.get("disable_active_health_check", False),
    )
