"""A connection of HTTP/2 through a sidecar, with real redirect rules, while pushes move what it came by."""

import os
import shutil

import pytest

from ..support.netns import Seen, run_scenario
from .http2_scenario import PUSHES

pytestmark = pytest.mark.netns


@pytest.fixture(scope="module")
def seen() -> Seen:
    if shutil.which("iptables") is None and not os.environ.get("CI"):
        pytest.skip("iptables is not installed")
    return run_scenario("tests.integration.http2_scenario")


def test_it_stays_while_address_listener_and_endpoint_move(seen: Seen) -> None:
    """Neither the call that is open on it nor new ones notice; new connections go where the service is."""
    assert seen["kept"] == {"first": "service", "held: same": PUSHES, "new: elsewhere": PUSHES // 4}


def test_it_ends_when_its_host_leads_elsewhere(seen: Seen) -> None:
    assert seen["ended"] == {"before": "service", "the call": "UNAVAILABLE", "after": "other"}
