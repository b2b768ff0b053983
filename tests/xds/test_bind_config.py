"""What connections to the endpoints of a cluster come from."""

import socket
from typing import Any

import pytest
from eastgate.xds.bind_config import FamilyOption, SourceAddress, decode_bind_config

IPV4, IPV6 = {"address": "127.0.0.6"}, {"address": "::6", "port_value": 0}
BYTES4, BYTES6 = socket.inet_aton("127.0.0.6"), socket.inet_pton(socket.AF_INET6, "::6")


def decoded(**config: Any) -> tuple[tuple[SourceAddress, ...], list[str]]:
    warnings: list[str] = []
    return decode_bind_config(config, warnings).sources, warnings


def options(**config: Any) -> dict[int, list[tuple[int, int, int]]]:
    """By family, (level, name, number)."""
    warnings: list[str] = []
    found = decode_bind_config(config, warnings).socket_options()
    assert warnings == []
    return {family: [(level, name, value) for of, level, name, value in found if of == family] for family in (4, 6)}


USER_TIMEOUT = {"level": 6, "name": 18, "int_value": 5000}
SET = (6, 18, 5000)


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
        ({"local_address_selector": {"name": "x", "typed_config": {}}}, "local_address_selector: 'x' is not known"),
        ({"socket_options": [{**USER_TIMEOUT, "int_value": 2**31}]}, "int_value"),
        (
            {
                "source_address": IPV4,
                "extra_source_addresses": [{"address": IPV6}],
                "additional_source_addresses": [IPV6],
            },
            "both extra_source_addresses and additional_source_addresses",
        ),
        ({"source_address": IPV4, "extra_source_addresses": [{}]}, "extra_source_addresses: '' is not an IP address"),
    ],
)
def test_what_no_connection_can_come_from_is_named(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decoded(**config)


def test_options_hold_for_both_families() -> None:
    assert options(socket_options=[USER_TIMEOUT]) == {4: [SET], 6: [SET]}
    assert options(source_address=IPV4, socket_options=[USER_TIMEOUT]) == {4: [SET], 6: [SET]}
    four_bytes = {"level": 6, "name": 18, "buf_value": (5000).to_bytes(4, "little")}
    assert options(socket_options=[four_bytes]) == {4: [SET], 6: [SET]}
    assert options(freebind=True) == {4: [(0, 15, 1)], 6: [(41, 78, 1)]}
    assert options(freebind=False) == {4: [], 6: []}


def test_options_for_one_family_or_kind_of_socket() -> None:
    four = {**USER_TIMEOUT, "ip_version": "SOCKET_IP_VERSION_IPV4"}
    six = {**USER_TIMEOUT, "ip_version": "SOCKET_IP_VERSION_IPV6"}
    assert options(socket_options=[four]) == {4: [SET], 6: []}
    assert options(socket_options=[six]) == {4: [], 6: [SET]}
    assert options(socket_options=[{**USER_TIMEOUT, "type": b"\n\0"}]) == {4: [SET], 6: [SET]}
    assert options(socket_options=[{**USER_TIMEOUT, "type": b"\x12\0"}]) == {4: [], 6: []}
    assert options(socket_options=[{"level": 41, "name": 67, "int_value": 8}]) == {4: [], 6: [(41, 67, 8)]}


def test_options_of_an_address_hold_instead_of_the_others() -> None:
    extra = {"address": IPV6, "socket_options": {"socket_options": [{"level": 1, "name": 36, "int_value": 7}]}}
    both = {"source_address": IPV4, "socket_options": [USER_TIMEOUT]}
    assert options(**both, extra_source_addresses=[extra]) == {4: [SET], 6: [(1, 36, 7)]}
    assert options(**both, extra_source_addresses=[{"address": IPV6}]) == {4: [SET], 6: [SET]}
    assert options(**both, extra_source_addresses=[{"address": IPV6, "socket_options": {}}]) == {4: [SET], 6: []}
    # Freebind is no such option.
    free = options(**both, freebind=True, extra_source_addresses=[extra])
    assert free == {4: [(0, 15, 1), SET], 6: [(41, 78, 1), (1, 36, 7)]}


@pytest.mark.parametrize(
    ("option", "warning"),
    [
        (
            {**USER_TIMEOUT, "state": "STATE_BOUND"},
            "level 6, name 18 (why) is not set: a connection has no STATE_BOUND",
        ),
        (
            {**USER_TIMEOUT, "state": "STATE_LISTENING"},
            "level 6, name 18 (why) is not set: a connection has no STATE_LIST",
        ),
        ({"level": 6, "name": 13, "buf_value": b"cubic"}, "level 6, name 13 (why) is not set"),
        ({"level": 1, "name": 25, "int_value": 1}, "level 1, name 25 (why) is not set"),
        ({"level": 6, "name": 18}, "level 6, name 18 (why) is not set"),
    ],
)
def test_other_options_are_named_once(option: dict[str, Any], warning: str) -> None:
    said = {**option, "description": "why"}
    _, (found,) = decoded(socket_options=[said])
    assert found.startswith(f"upstream_bind_config.socket_options: {warning}")
    extra = [{"address": IPV6, "socket_options": {"socket_options": [said]}}]
    _, (found,) = decoded(source_address=IPV4, extra_source_addresses=extra)
    assert found.startswith(f"upstream_bind_config.extra_source_addresses.socket_options: {warning}")


def test_the_default_selector_is_what_we_do() -> None:
    kind = "envoy.config.upstream.local_address_selector.v3.DefaultLocalAddressSelector"
    selector = {"name": "any", "typed_config": {"@type": f"type.googleapis.com/{kind}"}}
    assert decoded(source_address=IPV4, local_address_selector=selector) == (((BYTES4, 0),), [])


def test_what_a_cluster_says_nothing_of_is_the_processs_but_no_address() -> None:
    warnings: list[str] = []
    process = decode_bind_config({"source_address": IPV4, "freebind": True, "socket_options": [USER_TIMEOUT]}, warnings)
    freely, timed = (FamilyOption(4, 0, 15, 1), FamilyOption(4, *SET))

    def over(**config: Any) -> tuple[tuple[SourceAddress, ...], list[FamilyOption]]:
        found = decode_bind_config(config, warnings).over(process)
        return found.sources, [one for one in found.socket_options() if one.family == 4]

    assert over() == ((), [freely, timed])
    other = {"address": "127.0.0.7"}
    assert over(source_address=other) == (((socket.inet_aton("127.0.0.7"), 0),), [freely, timed])
    assert over(freebind=False) == ((), [timed])
    assert over(socket_options=[{**USER_TIMEOUT, "int_value": 7}]) == ((), [freely, FamilyOption(4, 6, 18, 7)])
    # Options that are not honoured are some all the same.
    assert over(socket_options=[{"level": 6, "name": 99, "int_value": 1}]) == ((), [freely])
    own = [{"address": IPV4, "socket_options": {"socket_options": []}}]
    assert over(source_address=IPV6, extra_source_addresses=own)[1] == [freely]
