"""Which access logs a listener or chain has, and why it has none."""

import json
from typing import Any

import pytest
from eastgate.xds.access_log import AccessLogs, AccessLogSpec, LogFilter, access_logs
from eastgate.xds.message import encode

FILE = "envoy.extensions.access_loggers.file.v3.FileAccessLog"


def log(config: dict[str, Any], *, kind: str = FILE, **fields: Any) -> bytes:
    typed = {"@type": f"type.googleapis.com/{kind}", **config}
    return encode("envoy.config.accesslog.v3.AccessLog", {"name": "one", "typed_config": typed, **fields})


def spec(config: dict[str, Any], **fields: Any) -> AccessLogSpec:
    found = access_logs([log(config, **fields)])
    assert not found.warnings
    return found.logs[0]


def filtered(said: dict[str, Any]) -> AccessLogs:
    return access_logs([log({"path": "/dev/stdout"}, filter=said)])


def test_none() -> None:
    assert access_logs(()) == AccessLogs()


def test_formats() -> None:
    path = {"path": "/dev/stdout"}
    assert spec(path) == AccessLogSpec("/dev/stdout")
    assert spec({**path, "format": "%DURATION%"}).text == "%DURATION%"
    assert spec({**path, "log_format": {"text_format": "%DURATION%\n"}}).text == "%DURATION%\n"
    assert spec({**path, "log_format": {"text_format_source": {"inline_string": "x"}}}).text == "x"
    nested = {"a": {"b": "%DURATION%"}}
    for config in ({"json_format": nested}, {"log_format": {"json_format": nested, "omit_empty_values": True}}):
        found = spec({**path, **config})
        assert json.loads(found.json) == nested
        assert found.omit_empty == ("log_format" in config)


def test_standard_streams() -> None:
    kind = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"
    assert access_logs([log({"@value": b""}, kind=kind)]).logs == (AccessLogSpec("/dev/stdout"),)


def test_filters() -> None:
    flags = {"response_flag_filter": {"flags": ["NR", "UF"]}}
    status = {"status_code_filter": {"comparison": {"op": "GE", "value": {"default_value": 400}}}}
    duration = {"duration_filter": {"comparison": {"op": "LE", "value": {"default_value": 7}}}}
    expected = {
        "flags": LogFilter("flags", flags=frozenset({"NR", "UF"})),
        "status": LogFilter("status", operation="GE", value=400),
        "duration": LogFilter("duration", operation="LE", value=7),
    }
    assert spec({"path": "/x"}, filter=flags).filter == expected["flags"]
    assert spec({"path": "/x"}, filter=status).filter == expected["status"]
    both = spec({"path": "/x"}, filter={"or_filter": {"filters": [flags, {"and_filter": {"filters": [duration]}}]}})
    assert both.filter == LogFilter(
        "or", filters=(expected["flags"], LogFilter("and", filters=(expected["duration"],)))
    )


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (log({"@value": b""}, kind="some.Other"), "one: only files"),
        (log({"path": ""}), "a file without a path"),
        (log({"path": "/x"}, filter={"header_filter": b""}), "header_filter looks at what no TCP connection has"),
        (
            log({"path": "/x", "log_format": {"text_format_source": {"filename": "/y"}}}),
            "a format that stands in",
        ),
        (b"\xff", "access_log: "),
    ],
)
def test_what_cannot_be_logged_says_why_and_costs_itself_alone(raw: bytes, reason: str) -> None:
    found = access_logs([raw, log({"path": "/good"})])
    assert found.logs == (AccessLogSpec("/good"),)
    (warning,) = found.warnings
    assert warning.startswith("access_log: ")
    assert reason in warning
