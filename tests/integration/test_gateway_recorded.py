"""What a real istiod sent drives `eastgate gateway`; real TLS clients get through or are refused as by real Envoy."""

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import product
from typing import Any

import pytest
from eastgate.proxy.admin.message_json import MessageReader

from ..support.netns import Seen, run_scenario
from ..support.recordings import CDS, EDS, FOLDER, LDS, Resources, recorded, recorded_clusters, stages
from .recorded_scenario import GOOD

pytestmark = pytest.mark.netns

Run = tuple[str, int]
"""Cluster, workers."""
RUNS: list[Run] = list(product(("gke", "anthos"), (0, 1, 4)))
AT_ONCE_RUNS = 3

# Names of the recorded probe of real Envoy whose clients the scenario has under the same name.
RECORDED = {
    entry["case"]: "bytes" if entry["result"].endswith("02") else entry["result"].split()[0]
    for entry in map(json.loads, (FOLDER / "envoy" / "gateway-probe.jsonl").read_text().splitlines())
}
AT_ONCE = [
    "right SNI, alpn istio",
    "right SNI, alpn istio-peer-exchange,istio",
    "right SNI, alpn istio-http/1.1",
    "right SNI, alpn h2,istio",
    "right SNI in upper case, alpn istio",
    "right SNI, no alpn",
    "right SNI, alpn h2",
    "right SNI, alpn ISTIO",
    "unknown host, alpn istio",
    "plain host name as SNI, alpn istio",
    "right SNI with port 81",
    "no SNI, alpn istio",
    "plain HTTP request",
    "half a hello, then FIN",
    "hello byte by byte",
    "hello in two pieces, 1 s between",
]
# What the recording has no client for.
FURTHER = {
    "hello over 4 KiB": "bytes",
    "hello of 16 KiB": "bytes",
    "hello in records of 100 bytes": "bytes",
    "hello over 4 KiB in records of 1,000 bytes": "bytes",
    "outbound| form of the name": "RST",
    "right SNI, alpn http/1.1": "RST",
    "service without endpoints": "RST",
    "FIN without a byte": "FIN",
}
REFUSED = {
    "refused.alpn_mismatch": 4,
    "refused.idle_probe": 1,
    "refused.no_endpoints": 1,
    "refused.no_sni": 1,
    "refused.not_tls": 1,
    "refused.truncated_hello": 1,
    "refused.unknown_server_name": 4,
}


@pytest.fixture(scope="module")
def runs() -> Iterator[dict[Run, Future[Seen]]]:
    """All runs of the scenario, some at once: most of their time they wait."""
    with ThreadPoolExecutor(AT_ONCE_RUNS) as pool:
        yield {(cluster, workers): pool.submit(run, cluster, workers) for cluster, workers in RUNS}
        pool.shutdown(wait=False, cancel_futures=True)


def run(cluster: str, workers: int) -> Seen:
    return run_scenario("tests.integration.recorded_scenario", "eastgate", cluster, EASTGATE_WORKERS=str(workers))


@pytest.fixture(scope="module", params=RUNS, ids=lambda run: f"{run[0]}-{run[1]}")
def chosen(request: pytest.FixtureRequest) -> Run:
    cluster, workers = request.param
    return cluster, workers


@pytest.fixture(scope="module")
def cluster(chosen: Run) -> str:
    return chosen[0]


@pytest.fixture(scope="module")
def seen(runs: dict[Run, Future[Seen]], chosen: Run) -> Seen:
    return runs[chosen].result()


@pytest.mark.parametrize("stage", stages())
def test_connections_reach_the_recorded_healthy_endpoints_and_no_others(seen: Seen, chosen: Run, stage: str) -> None:
    cluster, workers = chosen
    outcome = seen[stage]
    expected = recorded_clusters(stage, f"{cluster}-gateway")
    assert "outbound_.80_._.echo-tcp.default.svc.cluster.local" in outcome["answers"]
    for server_name, answers in outcome["answers"].items():
        healthy = expected[server_name].healthy
        # Only the echo pods stand in the namespace; other services refuse or have no endpoint.
        reachable = {address for address in healthy if address.endswith(":8080")}
        if not reachable:
            assert set(answers) == {"RST"}, server_name
            continue
        assert set(answers) == reachable, server_name
        if expected[server_name].lb_policy == "ROUND_ROBIN":
            # Equal weights: plain rotation, of each worker on its own.
            assert max(answers.values()) - min(answers.values()) <= max(1, workers), server_name
    assert outcome["lasting"], "the connection that was opened first lives on"


def test_recorded_push_series_never_touches_an_open_connection(seen: Seen, cluster: str) -> None:
    if cluster != "anthos":
        pytest.skip("the push series was recorded for the anthos gateway only")
    series = seen["series"]
    assert len(series) > 20
    assert all(step["lasting"] for step in series)
    # Both echo pods are unready in stage 4, and while istiod was made to rebuild their localities before stage 2.
    refused = {step["stage"] for step in series if step["answer"] == "RST"}
    assert refused == {"2-failover", "4-none-ready"}
    assert series[-1]["answer"] != "RST"


@pytest.mark.parametrize("client", AT_ONCE)
def test_client_ends_as_the_recording_of_envoy_says(seen: Seen, client: str) -> None:
    assert seen["probes"]["seen"][client] == RECORDED[client]


@pytest.mark.parametrize("client", FURTHER)
def test_client_that_the_recording_lacks(seen: Seen, client: str) -> None:
    assert seen["probes"]["seen"][client] == FURTHER[client]


@pytest.mark.parametrize("client", ["nothing at all", "one byte 0x16, then nothing"])
def test_silent_client_is_closed_after_15_seconds_as_by_envoy(seen: Seen, client: str) -> None:
    how, seconds = seen[client]
    assert how == RECORDED[client]
    assert 14.5 <= seconds < 17


def test_hello_timeout_follows_the_listener(seen: Seen) -> None:
    outcome: dict[str, Any] = seen["quick timeouts"]
    assert {name: how for name, (how, _) in outcome.items()} == {
        "nothing at all": "FIN",
        "one byte 0x16, then nothing": "RST",
        "half a hello, then nothing": "RST",
        "a hello in time": "bytes",
    }


def test_every_refusal_is_counted_by_its_reason(seen: Seen) -> None:
    moved = seen["probes"]["moved"]
    assert {name: count for name, count in moved.items() if name.startswith("refused.")} == REFUSED
    assert moved["no_filter_chain_match"] == 10


def test_hello_over_16_kib_is_refused(seen: Seen) -> None:
    assert seen["hello too large"] == "RST"


def test_openssl_gets_through_byte_exact(seen: Seen) -> None:
    outcome = seen["openssl"]
    if not outcome["installed"]:
        pytest.skip("openssl is not installed")
    assert all(outcome.values()), outcome


@pytest.mark.parametrize("step", ["transfer", "half closes", "unmodified"])
def test_bytes_arrive_exact_whoever_ends_first(seen: Seen, step: str) -> None:
    outcome = seen[step]
    assert outcome
    assert all(outcome.values()), outcome


def test_100_mb_travel_both_ways_at_once(seen: Seen) -> None:
    assert seen["echo"] is True


def test_reset_of_an_endpoint_reaches_the_client(seen: Seen) -> None:
    assert seen["endpoint resets"] == "RST"


def test_proxy_header_is_consumed_or_refused(seen: Seen) -> None:
    outcome = seen["proxy headers"]
    refused = {"none", "v1 of another protocol"}
    assert {name for name, how in outcome.items() if how == "RST"} == refused
    assert {how for name, how in outcome.items() if name not in refused} <= {"passed", "bytes"}


@pytest.fixture
def attempts() -> int:
    """Connects until a connection is given up."""
    return 3


def test_no_endpoint_and_a_refused_connect_are_told_apart(seen: Seen, attempts: int) -> None:
    outcome = seen["no way out"]
    assert [outcome[case]["result"] for case in ("all UNHEALTHY", "none", "refused", "back again")] == [
        "RST",
        "RST",
        "RST",
        "bytes",
    ]
    assert outcome["all UNHEALTHY"]["upstream_cx_none_healthy"] == 1
    assert outcome["refused"]["upstream_cx_connect_fail"] == attempts


def test_config_dump_shows_all_that_was_sent(seen: Seen, cluster: str) -> None:
    sent = shown_as_sent(recorded("2-failover", f"{cluster}-gateway"))
    outcome = seen["dump"]
    assert outcome["cluster"] == sent["cluster"]
    assert outcome["listener"].items() >= sent["listener"].items()
    # A gateway subscribes to the endpoints of what it can route to.
    assert outcome["endpoint_config"] == {name: sent["endpoint_config"][name] for name in outcome["endpoint_config"]}
    assert GOOD in outcome["endpoint_config"]


def shown_as_sent(resources: Resources) -> dict[str, dict[str, Any]]:
    """The JSON of each resource, by the kind of its place in /config_dump."""
    reader = MessageReader()
    places = {CDS: "cluster", EDS: "endpoint_config", LDS: "listener"}
    return {
        place: {name: reader.read(type_url, raw) for name, raw in resources[type_url].items()}
        for type_url, place in places.items()
    }


def test_nothing_was_rejected_and_the_process_ends_well(seen: Seen) -> None:
    assert seen["end"] == {"exit": 0, "nacks": []}
    assert seen["lasting"]
