"""What listener filters look at, and where they are switched off."""

from itertools import combinations
from random import Random
from typing import Any

import pytest
from eastgate.xds.listener_filters import (
    Ports,
    ProxyHeaders,
    disabled_ports,
    intersected,
    inverted,
    listener_filters,
    united,
)
from eastgate.xds.message import read

from ..support.encoded import field

PREDICATE = "envoy.config.listener.v3.ListenerFilterChainMatchPredicate"
URL = "type.googleapis.com/envoy.extensions.filters.listener"
ALL = ((0, 65536),)


def ports(start: int, end: int) -> dict[str, Any]:
    return {"destination_port_range": {"start": start, "end": end}}


def one(kind: str, message: str, **fields: Any) -> dict[str, Any]:
    return {"name": kind, "typed_config": {"@type": f"{URL}.{kind}.v3.{message}"}, **fields}


def numbers(found: Ports) -> set[int]:
    return {port for first, end in found for port in range(first, end)}


def test_predicates_become_ports():
    assert disabled_ports(ports(15006, 15007)) == ((15006, 15007),)
    assert disabled_ports({"any_match": True}) == ALL
    assert disabled_ports({"or_match": {"rules": [ports(80, 81), ports(81, 82), ports(70, 75)]}}) == (
        (70, 75),
        (80, 82),
    )
    assert disabled_ports({"and_match": {"rules": [ports(10, 100), ports(50, 200)]}}) == ((50, 100),)
    assert disabled_ports({"not_match": ports(1, 2)}) == ((0, 1), (2, 65536))
    assert disabled_ports({"not_match": {"any_match": True}}) == ()
    assert disabled_ports(ports(5, 5)) == ()


def test_a_range_past_the_last_port_is_cut():
    assert disabled_ports(ports(65530, 70000)) == ((65530, 65536),)


def test_predicates_that_envoy_does_not_load_are_errors():
    with pytest.raises(ValueError, match="or_match of 1 rules"):
        disabled_ports({"or_match": {"rules": [ports(1, 2)]}})
    with pytest.raises(ValueError, match="without a rule"):
        disabled_ports({})


def test_sets_of_ports_are_sets():
    random = Random(15)
    found = []
    for _ in range(8):
        bounds = sorted(random.sample(range(65536), 6))
        found.append(tuple(zip(bounds[::2], bounds[1::2], strict=True)))
    for first, second in combinations(found, 2):
        assert numbers(united(first, second)) == numbers(first) | numbers(second)
        assert numbers(intersected(first, second)) == numbers(first) & numbers(second)
    for each in found:
        assert numbers(inverted(each)) == set(range(65536)) - numbers(each)


def test_inspectors_are_switched_off_where_they_say():
    found = listener_filters(
        [
            one("tls_inspector", "TlsInspector", filter_disabled=ports(15006, 15007)),
            one("http_inspector", "HttpInspector"),
        ]
    )
    assert found.skipped == {"tls_inspector": ((15006, 15007),), "http_inspector": ()}
    assert (found.closed, found.warnings) == ("", ())


def test_two_of_a_kind_look_where_either_does():
    found = listener_filters(
        [
            one("tls_inspector", "TlsInspector", filter_disabled=ports(10, 30)),
            one("tls_inspector", "TlsInspector", filter_disabled=ports(20, 40)),
        ]
    )
    assert found.skipped == {"tls_inspector": ((20, 30),)}


def test_a_predicate_that_is_not_known_closes_all_chains():
    later = read(PREDICATE, field(99, b"x"))
    found = listener_filters([one("tls_inspector", "TlsInspector", filter_disabled=later)])
    assert found.closed == "listener_filters.tls_inspector.filter_disabled: #99 is not evaluated"


def test_other_filters_always_run():
    found = listener_filters([one("original_dst", "OriginalDst", filter_disabled={"any_match": True})])
    assert found.warnings == ("listener_filters.original_dst.filter_disabled: the filter always runs",)


@pytest.mark.parametrize(
    ("kind", "message", "name", "value"),
    [
        ("proxy_protocol", "ProxyProtocol", "rules", [{"tlv_type": 1}]),
        ("tls_inspector", "TlsInspector", "enable_ja3_fingerprinting", True),
        ("tls_inspector", "TlsInspector", "enable_ja4_fingerprinting", True),
        ("tls_inspector", "TlsInspector", "close_connection_on_client_hello_parsing_errors", True),
    ],
)
def test_settings_that_are_not_used_are_named(kind: str, message: str, name: str, value: object) -> None:
    filtered = one(kind, message)
    assert listener_filters([filtered]).warnings == ()
    filtered["typed_config"][name] = value
    found = listener_filters([filtered])
    assert found.warnings == (f"listener_filters.{kind}.{name}: not used",)
    assert kind in found
    assert found.closed == ""


def of(kind: str, message: str, **config: object) -> dict[str, Any]:
    made = one(kind, message)
    made["typed_config"] |= config
    return made


def proxied(**config: object) -> ProxyHeaders | None:
    return listener_filters([of("proxy_protocol", "ProxyProtocol", **config)]).proxy_headers


def test_which_proxy_headers_are_taken() -> None:
    assert listener_filters([one("tls_inspector", "TlsInspector")]).proxy_headers is None
    assert proxied() == ProxyHeaders((1, 2), optional=False)
    assert proxied(allow_requests_without_proxy_protocol=True) == ProxyHeaders((1, 2), optional=True)
    assert proxied(disallowed_versions=["V1"]) == ProxyHeaders((2,), optional=False)
    assert proxied(disallowed_versions=["V2", "V2"]) == ProxyHeaders((1,), optional=False)
    assert proxied(stat_prefix="of:a") == ProxyHeaders((1, 2), stat_prefix="of:a")
    with pytest.raises(ValueError, match=r"proxy_protocol\.stat_prefix"):
        proxied(stat_prefix="a\nb")


@pytest.mark.parametrize(
    ("versions", "reason"),
    [(["V1", "V2"], "all versions are disallowed"), ([7], "disallowed_versions: 7 is no version")],
)
def test_versions_that_envoy_does_not_load(versions: list[str | int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        proxied(disallowed_versions=versions)


def test_two_headers_in_a_row_are_not_read() -> None:
    found = listener_filters([one("proxy_protocol", "ProxyProtocol")] * 2)
    assert found.closed == "the listener has two proxy_protocol filters: only one header is read"


def sized(*sizes: int) -> int:
    filters = [of("tls_inspector", "TlsInspector", max_client_hello_size=size) for size in sizes]
    return listener_filters([*filters, one("tls_inspector", "TlsInspector")]).hello_limit


def test_the_smallest_limit_of_a_hello_holds() -> None:
    assert (sized(), sized(256), sized(16384), sized(2000, 1000)) == (16384, 256, 16384, 1000)


@pytest.mark.parametrize("size", [0, 255, 16385, 2**32 - 1])
def test_limits_of_a_hello_that_envoy_does_not_load(size: int) -> None:
    with pytest.raises(ValueError, match=f"max_client_hello_size is {size}, must be from 256 to 16384"):
        sized(size)
