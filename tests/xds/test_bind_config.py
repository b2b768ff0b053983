"""What connections to the endpoints of a cluster come from."""

import socket
from typing import Any

import pytest
from eastgate.xds.bind_config import SourceAddress, decode_bind_config

IPV4, IPV6 = {"address": "127.0.0.6"}, {"address": "::6", "port_value": 0}
BYTES4, BYTES6 = socket.inet_aton("127.0.0.6"), socket.inet_pton(socket.AF_INET6, "::6")


def decoded(**config: Any) -> tuple[tuple[SourceAddress, ...], list[str]]:
    warnings: list[str] = []
    return decode_bind_config(config, warnings), warnings


def test_one_address_of_each_family() -> None:
    both = ((BYTES4, 0), (BYTES6, 0))
    assert decoded(source_address=IPV4) == (both[:1], [])
    assert decoded(source_address=IPV4, extra_source_addresses=[{"address": IPV6}]) == (both, [])
    assert decoded(source_address=IPV6, additional_source_addresses=[IPV4]) == (both[::-1], [])
    assert decoded(source_address={"address": "10.0.0.1", "port_value": 7}) == (
        ((socket.inet_aton("10.0.0.1"), 7),),
        [],
    )
    assert decoded() == ((), [])


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"source_address": {}}, "source_address: '' is not an IP address"),
        ({"source_address": {"address": "localhost"}}, "source_address: 'localhost' is not an IP address"),
        ({"source_address": {"address": "10.0.0.1", "port_value": 65536}}, "port_value"),
        ({"extra_source_addresses": [{"address": IPV4}]}, "extra_source_addresses without source_address"),
        ({"source_address": IPV4, "extra_source_addresses": [{"address": IPV4}]}, "two source addresses of one"),
        ({"source_address": IPV4, "extra_source_addresses": [{}]}, "extra_source_addresses: '' is not an IP address"),
    ],
)
def test_what_no_connection_can_come_from_is_named(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decoded(**config)


def test_what_is_not_set_is_warned_about() -> None:
    found, warnings = decoded(
        source_address=IPV4,
        freebind=True,
        socket_options=[{"level": 1}],
        local_address_selector={"name": "x"},
        extra_source_addresses=[{"address": IPV6, "socket_options": b"\n\0"}],
    )
    assert len(found) == 2
    assert [one.removeprefix("upstream_bind_config.").partition(":")[0] for one in warnings] == [
        "freebind",
        "socket_options",
        "local_address_selector",
        "extra_source_addresses.socket_options",
    ]
