"""Envoy's access log formats, operator by operator."""

import json

import pytest
from eastgate.fastpath.loop.event_ring import ConnectionEvent
from eastgate.fastpath.reason import Reason
from eastgate.proxy.disk.log_format import DEFAULT_TEXT, json_format, operators, text_format

EVENT = ConnectionEvent(
    listener=1,
    cluster="outbound|80||store.b",
    server_name="store.b",
    reason=Reason.NONE,
    downstream="10.1.0.1:4000",
    downstream_local="127.0.0.1:15001",
    upstream="[fd00::1]:8080",
    alpn=("istio",),
    rx_bytes=100,
    tx_bytes=2000,
    start=1_700_000_000.125,
    duration=1.5679,
    connect_duration=0.002,
    attempts=2,
    log=1,
    direct_source="10.9.0.1:5000",
    destination="10.0.0.1:80",
    upstream_local="[fd00::2]:9000",
    upstream_remote="[fd00::1]:8080",
    downstream_peer="spiffe://cluster.local/ns/a/sa/shop",
    upstream_peer="",
)
REFUSED = EVENT._replace(
    reason=Reason.UPSTREAM_TLS_WRONG_NAME, upstream="", upstream_local="", upstream_remote="", destination=""
)
ISTIO = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% '
    '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)


def test_istios_line() -> None:
    assert text_format(ISTIO)(EVENT) == (
        '[2023-11-14T22:13:20.125Z] "- - -" 0 - - - "-" 100 2000 1567 - "-" "-" "-" "-" "[fd00::1]:8080" '
        "outbound|80||store.b [fd00::2]:9000 10.0.0.1:80 10.1.0.1:4000 store.b -\n"
    )
    assert text_format(ISTIO)(REFUSED) == (
        '[2023-11-14T22:13:20.125Z] "- - -" 0 UF,URX - - "upstream_tls_wrong_name" 100 2000 1567 - "-" "-" "-" "-" "-" '
        "outbound|80||store.b - 127.0.0.1:15001 10.1.0.1:4000 store.b -\n"
    )


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("100%% of %BYTES_SENT%", "100% of 2000"),
        ("%UPSTREAM_CLUSTER:8%", "outbound"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_REMOTE_PORT%", "10.1.0.1 4000"),
        ("%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_REMOTE_PORT%", "fd00::1 8080"),
        ("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%", "10.9.0.1:5000"),
        ("%DOWNSTREAM_PEER_URI_SAN% %UPSTREAM_PEER_URI_SAN%", "spiffe://cluster.local/ns/a/sa/shop -"),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "2"),
        ("%START_TIME(%Y/%m/%d %H:%M:%S.%3f)%", "2023/11/14 22:13:20.125"),
        ("%START_TIME(%s.%6f)% %START_TIME(%E2S)%", "1700000000.125000 20.12"),
        ("%DYNAMIC_METADATA(a:b):5% %FILTER_STATE(x)% %NO_SUCH_OPERATOR%", "- - -"),
        ("no operator, 5 % of it", "no operator, 5 % of it"),
    ],
)
def test_operators(template: str, line: str) -> None:
    assert text_format(template)(EVENT) == line


def test_nothing_from_outside_ends_a_line() -> None:
    forged = EVENT._replace(server_name="a\nforged 200")
    assert text_format("%REQUESTED_SERVER_NAME%\n")(forged) == "a\\nforged 200\n"


def test_omitted_values_are_empty() -> None:
    assert text_format("[%PROTOCOL%]", omit_empty=True)(EVENT) == "[]"
    assert json_format({"a": "%PROTOCOL%", "b": "%BYTES_SENT%"}, omit_empty=True)(EVENT) == '{"b":2000}\n'


def test_json_keeps_types_and_sorts_names() -> None:
    template = {
        "flags": "%RESPONSE_FLAGS%",
        "bytes": "%BYTES_SENT%",
        "text": "to %UPSTREAM_HOST%",
        "nested": {"server": "%REQUESTED_SERVER_NAME%", "list": ["%DURATION%", 7]},
        "constant": True,
    }
    line = json_format(template)(EVENT)
    assert line.endswith("}\n")
    assert list(json.loads(line).items()) == [
        ("bytes", 2000),
        ("constant", True),
        ("flags", "-"),
        ("nested", {"list": [1567, 7], "server": "store.b"}),
        ("text", "to [fd00::1]:8080"),
    ]


def test_operators_of_a_template_are_named() -> None:
    assert operators(DEFAULT_TEXT)[:2] == ["START_TIME", "REQ"]
