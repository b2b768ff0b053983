"""Endpoints that refuse are ejected, traffic moves, and they come back: a running gateway with real sockets."""

import json
import time
from collections import Counter
from collections.abc import Collection, Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from ..support.gateway_process import ProxyProcess, run_command
from ..support.outlier_mesh import REFUSED, OutlierMesh
from ..support.waiting import until

ENDPOINTS = 4
SERVICES: dict[str, dict[str, Any] | None] = {
    "quick": {"consecutive_5xx": 3, "interval": 0.2, "base_ejection_time": 1, "max_ejection_percent": 100},
    "split": {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 2,
        "consecutive_5xx": 1,
        "interval": 0.2,
        "base_ejection_time": 60,
        "max_ejection_percent": 100,
    },
    "none": None,
    "tenpercent": {"consecutive_5xx": 1, "consecutive_gateway_failure": 0, "interval": 0.2},
}


@pytest.fixture(scope="module", params=["0", "2"], ids=["hosted", "threads"])
def mesh(request: pytest.FixtureRequest) -> Iterator[OutlierMesh]:
    made = OutlierMesh(SERVICES, ENDPOINTS, ("--workers", request.param))
    yield made
    made.close()


@pytest.fixture
def proxy(mesh: OutlierMesh) -> Iterator[ProxyProcess]:
    yield mesh.proxies[0]
    for number in range(ENDPOINTS):
        mesh.endpoints.switch(number, on=True)


def assert_even(found: Counter[Any], endpoints: Collection[Any], each: int) -> None:
    """Round robin: each worker has a cursor of its own, so two workers together may be off by one."""
    assert set(found) == set(endpoints)
    assert all(abs(count - each) <= 1 for count in found.values()), found


def switch_off_until_ejected(mesh: OutlierMesh, proxy: ProxyProcess, service: str, number: int, failures: int) -> None:
    """Every connection that meets the endpoint fails, and after so many of them it is out."""
    mesh.endpoints.switch(number, on=False)
    met = 0
    for _ in range(400):
        met += mesh.connect(proxy, service) == REFUSED
        if met == failures:
            break
    mesh.wait_ejected(proxy, service, [number])
    assert met == failures


def test_endpoint_is_ejected_traffic_moves_and_it_comes_back(mesh: OutlierMesh, proxy: ProxyProcess) -> None:
    assert set(mesh.connects(proxy, "quick", 40)) == {0, 1, 2, 3}
    switch_off_until_ejected(mesh, proxy, "quick", 2, 3)
    began = time.monotonic()
    assert_even(mesh.connects(proxy, "quick", 30), (0, 1, 3), 10)
    assert mesh.ejected(proxy, "none") == []
    mesh.endpoints.switch(2, on=True)
    mesh.wait_ejected(proxy, "quick", [])
    assert time.monotonic() - began > 0.8
    assert set(mesh.connects(proxy, "quick", 40)) == {0, 1, 2, 3}
    stats = mesh.outlier_stats(proxy, "quick")
    assert (stats["ejections_enforced_consecutive_5xx"], stats["ejections_active"]) == (1, 0)
    proxy.wait_logged("endpoint ejected")
    proxy.wait_logged("endpoint back")


def test_split_errors_eject_by_their_own_threshold(mesh: OutlierMesh, proxy: ProxyProcess) -> None:
    switch_off_until_ejected(mesh, proxy, "split", 1, 2)
    assert mesh.outlier_stats(proxy, "split")["ejections_enforced_consecutive_local_origin_failure"] == 1
    mesh.endpoints.switch(1, on=True)
    assert set(mesh.connects(proxy, "split", 30)) == {0, 2, 3}
    text = proxy.get("/clusters")[1]
    host, port = mesh.endpoints.address(1)
    assert f"{mesh.names['split']}::{host}:{port}::health_flags::/failed_outlier_check\n" in text


def test_an_ejection_is_an_event_that_can_be_followed(mesh: OutlierMesh, proxy: ProxyProcess) -> None:
    since = proxy.json("/events")["last"]
    where = urlsplit(proxy.admin)
    follower = HTTPConnection(where.hostname or "", where.port, timeout=30)
    follower.request("GET", f"/events?since={since}&kind=ejected", headers={"Accept": "text/event-stream"})
    answer = follower.getresponse()
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    switch_off_until_ejected(mesh, proxy, "quick", 1, 3)
    lines = iter(answer.readline, b"")
    data = next(line for line in lines if line.startswith(b"data: "))
    follower.close()
    host, port = mesh.endpoints.address(1)
    ejected = json.loads(data.removeprefix(b"data: "))
    assert (ejected["subject"], ejected["endpoint"]) == (mesh.names["quick"], f"{host}:{port}")
    assert ejected["cause"] == f"{host}:{port} ejected (consecutive_5xx)"
    # A quarter of all connections went there.
    assert ejected["moved"] == pytest.approx(0.25, abs=0.002)
    mesh.endpoints.switch(1, on=True)
    mesh.wait_ejected(proxy, "quick", [])
    run = run_command("events", "--admin", proxy.admin, "--since", str(since), "--kind", "returned")
    assert run.returncode == 0, run.stderr
    assert f"returned {mesh.names['quick']}: cause: {host}:{port} is back" in run.stdout


def test_ten_percent_of_four_is_nobody(mesh: OutlierMesh, proxy: ProxyProcess) -> None:
    def overflows() -> int:
        return mesh.outlier_stats(proxy, "tenpercent")["ejections_overflow"]

    before, refused = overflows(), 0
    mesh.endpoints.switch(0, on=False)
    for _ in range(40):
        if mesh.connect(proxy, "tenpercent") == REFUSED:
            refused += 1
            # Two that come before the control side hears of the first would be one.
            until(lambda wanted=before + refused: overflows() == wanted, "each failure is an overflow")
    assert_even(Counter({REFUSED: refused}), (REFUSED,), 10)
    assert mesh.ejected(proxy, "tenpercent") == []
    mesh.endpoints.switch(0, on=True)


def test_update_of_the_endpoints_keeps_an_ejection_and_a_removed_setting_ends_it(
    mesh: OutlierMesh, proxy: ProxyProcess
) -> None:
    """Last, as it changes what the others are about."""
    if mesh.ejected(proxy, "split") != [1]:
        switch_off_until_ejected(mesh, proxy, "split", 1, 2)
        mesh.endpoints.switch(1, on=True)
    mesh.server.push(mesh.resources([3, 1, 0]))
    until(lambda: set(mesh.connects(proxy, "none", 12)) == {0, 1, 3}, "endpoint 2 is gone")
    assert mesh.ejected(proxy, "split") == [1]
    assert set(mesh.connects(proxy, "split", 20)) == {0, 3}
    mesh.settings["split"] = None
    mesh.server.push(mesh.resources([3, 1, 0]))
    mesh.wait_ejected(proxy, "split", [])
    assert set(mesh.connects(proxy, "split", 20)) == {0, 1, 3}
