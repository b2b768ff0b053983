"""What a bootstrap says of sockets to endpoints, in the JSON of its message."""

import socket
from typing import Any

import pytest
from eastgate.proxy.bootstrap_bind import upstream_bind
from eastgate.proxy.bootstrap_reader import BootstrapError, Reader
from eastgate.xds.bind_config import Bind, FamilyOption, SourceAddress

IPV4, IPV6 = {"address": "127.0.0.6", "port_value": 0}, {"address": "::6", "port_value": 7}
SOURCES = (SourceAddress(socket.inet_aton("127.0.0.6"), 0), SourceAddress(socket.inet_pton(socket.AF_INET6, "::6"), 7))
TIMED = {"level": 6, "name": "18", "int_value": "5000"}


def read(name: str = "upstream_bind_config", **config: Any) -> tuple[Bind | None, tuple[str, ...]]:
    return upstream_bind(Reader("--bootstrap x"), {name: config})


def options(family: int, **config: Any) -> list[tuple[int, int, int]]:
    bind, warnings = read(**config)
    assert bind is not None
    assert warnings == ()
    return [(one.level, one.name, one.value) for one in bind.socket_options() if one.family == family]


def test_without_one_there_is_none_and_an_empty_one_is_one() -> None:
    assert upstream_bind(Reader("x"), {}) == (None, ())
    assert upstream_bind(Reader("x"), {"upstream_bind_config": None}) == (None, ())
    assert read() == (Bind(), ())


def test_addresses_are_read_in_both_spellings() -> None:
    assert read(source_address=IPV4, additional_source_addresses=[IPV6]) == (Bind(SOURCES), ())
    assert read(source_address=IPV4, extra_source_addresses=[{"address": IPV6}]) == (Bind(SOURCES), ())
    camel = {"sourceAddress": {"address": "127.0.0.6", "portValue": "0"}}
    assert read("upstreamBindConfig", **camel) == (Bind(SOURCES[:1]), ())


def test_options_are_read_as_json_has_them() -> None:
    assert options(4, socket_options=[TIMED]) == options(6, socket_options=[TIMED]) == [(6, 18, 5000)]
    assert options(4, socket_options=[{"level": 6, "name": 18, "buf_value": "iBMAAA=="}]) == [(6, 18, 5000)]
    assert options(4, socket_options=[{"level": 6, "name": 18, "bufValue": "-_8AAA=="}]) == [(6, 18, 0xFFFB)]
    assert options(4, socket_options=[{**TIMED, "state": "STATE_PREBIND", "type": {"stream": {}}}]) == [(6, 18, 5000)]
    assert options(4, socket_options=[{**TIMED, "type": {"datagram": {}}}]) == []
    of_ipv6 = [{**TIMED, "ipVersion": 2}]
    assert (options(4, socket_options=of_ipv6), options(6, socket_options=of_ipv6)) == ([], [(6, 18, 5000)])
    assert options(4, freebind=True) == [(socket.IPPROTO_IP, 15, 1)]


def test_an_address_has_options_of_its_own() -> None:
    bind, _ = read(
        source_address=IPV4,
        socket_options=[TIMED],
        extra_source_addresses=[{"address": IPV6, "socket_options": {"socket_options": []}}],
    )
    assert bind is not None
    assert (bind.sources, bind.socket_options()) == (SOURCES, (FamilyOption(4, 6, 18, 5000),))


def test_what_has_no_effect_is_named() -> None:
    _, warnings = read(socket_options=[{"level": 6, "name": 99, "int_value": 1}, {**TIMED, "state": 1}])
    assert warnings == (
        "cluster_manager.upstream_bind_config.socket_options: level 6, name 99 (no description) is not set",
        "cluster_manager.upstream_bind_config.socket_options: level 6, name 18 (no description) is not set: "
        "a connection has no STATE_BOUND",
    )


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (
            {"source_address": {"address": "here", "port_value": 0}},
            "upstream_bind_config.source_address: 'here' is not",
        ),
        ({"source_address": {"port_value": 0}}, "upstream_bind_config.source_address.address: is missing"),
        ({"source_address": {"address": "10.0.0.1"}}, "upstream_bind_config.source_address.port_value: is missing"),
        ({"source_address": {**IPV4, "port_value": 65536}}, "port_value"),
        ({"source_address": "10.0.0.1"}, "upstream_bind_config.source_address: must be an object"),
        ({"source_address": IPV4, "additional_source_addresses": [IPV4]}, "two source addresses of one IP version"),
        ({"additional_source_addresses": [IPV4]}, "without source_address"),
        ({"freebind": "yes"}, "upstream_bind_config.freebind: must be true or false"),
        (
            {"socket_options": [{**TIMED, "state": "STATE_X"}]},
            r"socket_options\[0\].state: must be one of STATE_PREBIND",
        ),
        ({"socket_options": [{**TIMED, "int_value": 1 << 31}]}, "int_value"),
        ({"socket_options": [{"buf_value": "?"}]}, r"socket_options\[0\].buf_value: must be base64"),
        ({"local_address_selector": {"name": "x", "typed_config": {"@type": "a/x.Y"}}}, "local_address_selector: 'x'"),
    ],
)
def test_what_envoy_does_not_start_with_is_one_line(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(BootstrapError, match=reason) as raised:
        read(**config)
    assert str(raised.value).startswith("--bootstrap x: cluster_manager")
    assert "\n" not in str(raised.value)
