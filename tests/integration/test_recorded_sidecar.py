"""What a real istiod sent to a sidecar: each listener gets the redirected connections of its address."""

import os
import shutil

import pytest

from ..support.netns import Seen, run_scenario
from ..support.recordings import LDS, recorded
from .recorded_sidecar_scenario import STAGE

pytestmark = pytest.mark.netns


@pytest.fixture(scope="module", params=["gke", "anthos"])
def cluster(request: pytest.FixtureRequest) -> str:
    made: str = request.param
    return made


@pytest.fixture(scope="module")
def seen(cluster: str) -> Seen:
    if shutil.which("iptables") is None and not os.environ.get("CI"):
        pytest.skip("iptables is not installed")
    return run_scenario("tests.integration.recorded_sidecar_scenario", cluster)


def test_each_listener_is_found_by_its_address(seen: Seen, cluster: str) -> None:
    names = recorded(STAGE, f"{cluster}-sidecar-echo")[LDS].keys() - {"virtualOutbound", "virtualInbound"}
    assert len(names) > 10
    assert seen["outbound"] == {name: [name] for name in names}


def test_what_no_listener_stands_for_stays_with_the_socket(seen: Seen) -> None:
    assert seen["others"] == {
        "no service": ["virtualOutbound"],
        "an address of a service, another port": ["virtualOutbound"],
        "inbound": ["virtualInbound"],
    }


def test_all_are_shown_and_served(seen: Seen, cluster: str) -> None:
    assert seen["shown"] == sorted(recorded(STAGE, f"{cluster}-sidecar-echo")[LDS])
    assert seen["unserved"] == []
