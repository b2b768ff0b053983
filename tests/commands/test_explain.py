"""`eastgate explain` on dumps of real Envoys, recorded stages and made-up clusters, as an operator runs it."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from eastgate.insight.answer import answer, answer_json, find_cluster
from eastgate.insight.answer_text import print_answer
from eastgate.insight.errors import DumpError
from eastgate.insight.read_dump import read_document
from rich.console import Console

from ..support import dumps
from ..support.gateway_process import run_command

ECHO = "outbound|80||echo-tcp.default.svc.cluster.local"
SIDECAR = dumps.ENVOY / "anthos-sidecar"
# design.md section 6: names that others read.
FIXED = {"cluster", "policy", "overprovisioning_factor", "panic_threshold", "priorities", "endpoints", "findings"}
FIXED_OF = {
    "priorities": {"priority", "healthy", "total", "load_percent", "panic"},
    "endpoints": {"address", "priority", "locality", "weight", "health", "share"},
}


def explained(*entries: Any, what_if: tuple[str, ...] = (), duplicates: str = "envoy", **settings: Any) -> Any:
    """answer_json of a cluster with these localities."""
    document = dumps.config_dump([dumps.cluster(**settings)], [dumps.assignment(*entries)])
    proxy = read_document(document, "test")
    said = answer(proxy, proxy.clusters[dumps.NAME], what_if=what_if, duplicates=duplicates)
    return json.loads(json.dumps(answer_json(said)))


def test_json_has_the_fixed_names() -> None:
    run = run_command("explain", ECHO, "--dump", str(SIDECAR / "config_dump.json"), "--json")
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert said.keys() >= FIXED
    for part, names in FIXED_OF.items():
        assert all(one.keys() >= names for one in said[part])
    assert [one["share"] for one in said["endpoints"]] == [0.5, 0.5, 0.0]


def test_text_shows_shares_arithmetic_runway_and_findings() -> None:
    dump = [f"--dump={SIDECAR / name}.json" for name in ("config_dump", "clusters")]
    run = run_command("explain", ECHO, *dump, "--what-if", "down=10.10.2.59")
    assert run.returncode == 0, run.stderr
    assert "1 of 2 healthy: 140 % x 1 / 2 = 70 % available; takes 70 %" in run.stdout
    rows = {line.split()[0]: line.split() for line in run.stdout.splitlines() if line.startswith("10.")}
    assert rows["10.10.2.59:8080"][4:] == ["UNHEALTHY", "50.00", "%", "0.00", "%", "unhealthy"]
    assert rows["10.10.3.80:8080"][5:] == ["50.00", "%", "70.00", "%"]
    assert rows["10.100.10.6:15443"][5:] == ["0.00", "%", "30.00", "%"]
    assert "Failover runway" in run.stdout
    # Recorded fact: with three endpoints and the default of 10 % nobody is ever ejected.
    assert "never-ejected: max_ejection_percent 10 of 3 endpoints" in run.stdout


def test_recorded_stage_from_a_file(tmp_path: Path) -> None:
    dump = dumps.write(tmp_path, dumps.recorded_dump("3-one-not-ready", "anthos-sidecar"))
    said = json.loads(run_command("explain", ECHO, "--dump", dump, "--json").stdout)
    assert [(one["load_percent"], one["healthy"], one["total"]) for one in said["priorities"]] == [
        (70, 1, 2),
        (30, 1, 1),
    ]


def fail_traffic_on_panic(document: Any) -> Any:
    """The dump, its one cluster with that option."""
    for section in document["configs"]:
        for one in section.get("dynamic_active_clusters", ()):
            one["cluster"]["common_lb_config"]["zone_aware_lb_config"] = {"fail_traffic_on_panic": True}
    return document


def test_what_if_says_what_panic_refuses() -> None:
    members = [dumps.locality("r/z", dumps.places(4, network=p), priority=p) for p in (0, 1)]
    document = dumps.config_dump([dumps.cluster(panic=50, weighted=False)], [dumps.assignment(*members, factor=100)])
    proxy = read_document(fail_traffic_on_panic(document), "test")
    down = ("down=10.0.0.0,down=10.0.0.1,down=10.0.0.2,down=10.1.0.0,down=10.1.0.1",)
    said = answer(proxy, proxy.clusters[dumps.NAME], what_if=down, duplicates="envoy")
    after = answer_json(said)["what_if"]
    # P0 has 1 / 4 = 25 and is in panic, P1 2 / 4 = 50: scaled to 100 they are 33 (and what rounding leaves) and 66.
    assert (said.before.refused_share, after["refused"], after["refused_share"]) == (0.0, False, 0.34)
    assert [one["share"] for one in after["endpoints"]] == [0.0] * 6 + [0.33] * 2
    assert "34 % of all connections are refused" in after["priorities"][0]["arithmetic"][1]
    down = ("down=10.0.0.0,down=10.0.0.1,down=10.0.0.2,priority=1",)
    said = answer(proxy, proxy.clusters[dumps.NAME], what_if=down, duplicates="envoy")
    after = answer_json(said)["what_if"]
    assert (after["refused"], after["refused_share"]) == (True, 1.0)
    assert "fail_traffic_on_panic" in after["priorities"][0]["arithmetic"][1]


def test_findings_name_panic_as_the_cause_of_refusals() -> None:
    document = dumps.config_dump(
        [dumps.cluster(panic=50, weighted=False)],
        [dumps.assignment(dumps.locality("r/z", dumps.places(4, unhealthy=3)))],
    )
    proxy = read_document(fail_traffic_on_panic(document), "test")
    said = answer(proxy, proxy.clusters[dumps.NAME], what_if=(), duplicates="envoy")
    found = {one["rule"]: one["cause"] for one in answer_json(said)["findings"]}
    # One of four is healthy: that none were would not be true.
    assert "none-healthy" not in found
    assert "fail_traffic_on_panic refuses 100% of all connections" in found["panic"]


def test_what_if_puts_before_and_after_side_by_side() -> None:
    said = explained(
        dumps.locality("a", dumps.places(10)),
        dumps.locality("b", dumps.places(2, network=1), priority=1),
        what_if=("down=10.0.0.0,down=10.0.0.1", "down=10.0.0.2"),
    )
    assert [one["load_percent"] for one in said["priorities"]] == [100, 0]
    after = said["what_if"]
    assert after["changes"] == ["down=10.0.0.0", "down=10.0.0.1", "down=10.0.0.2"]
    assert [one["load_percent"] for one in after["priorities"]] == [98, 2]
    shares = {one["address"]: (one["share_before"], one["share"]) for one in after["endpoints"]}
    assert shares["10.0.0.0:8080"] == (pytest.approx(0.1), 0.0)
    assert shares["10.0.0.9:8080"] == (pytest.approx(0.1), pytest.approx(0.14))
    assert shares["10.1.0.0:8080"] == (0.0, pytest.approx(0.01))
    # The runway goes on from there.
    assert said["runway"][0]["sentence"].startswith("none can fail without moving traffic")


def test_duplicates_are_reported_and_can_be_added_up() -> None:
    zones = [dumps.locality(f"r/{n}", [dumps.gateway(weight=weight)]) for n, weight in enumerate((12, 15, 18))]
    kept = explained(*zones)
    assert [one["share"] for one in kept["endpoints"]] == [1.0, 0.0, 0.0]
    (finding,) = [one for one in kept["findings"] if one["rule"] == "duplicate-address"]
    assert "12 kept, 33 of 45 lost" in finding["evidence"]
    added = explained(*zones, duplicates="sum")
    assert [(one["weight"], one["share"]) for one in added["endpoints"]] == [(45, 1.0)]
    assert added["duplicates"] == "sum"
    assert finding in added["findings"]


@pytest.mark.parametrize("name", ["echo-tcp", "outbound|80||echo-tpc.default.svc.cluster.local"])
def test_unknown_cluster_names_the_nearest_in_one_line(name: str) -> None:
    run = run_command("explain", name, "--dump", str(SIDECAR / "config_dump.json"))
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert ECHO in line
    assert run.stdout == ""


def test_cluster_like_no_other_says_how_many_there_are() -> None:
    proxy = read_document(dumps.config_dump([dumps.cluster()], []), "test")
    with pytest.raises(DumpError, match="it has 1 clusters, none alike"):
        find_cluster((proxy,), "zzz")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--what-if", "up=10.10.2.59"], "'up=10.10.2.59' is none of down="),
        (["--what-if", "region=tokio-onprem"], "no such endpoint; there is tokyo-onprem"),
        (["--duplicates", "some"], "'some' is not one of 'envoy', 'sum'"),
        (["--dump", "/nowhere.json"], "--dump /nowhere.json: No such file"),
    ],
)
def test_bad_usage_is_one_line(arguments: list[str], reason: str) -> None:
    run = run_command("explain", ECHO, "--dump", str(SIDECAR / "config_dump.json"), *arguments)
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert reason in line


def test_dump_without_eds_says_how_to_take_one(tmp_path: Path) -> None:
    run = run_command("explain", dumps.NAME, "--dump", dumps.write(tmp_path, dumps.config_dump([dumps.cluster()], [])))
    assert run.returncode == 2
    assert "include_eds" in run.stderr


def test_cluster_without_shares_says_why(tmp_path: Path) -> None:
    document = dumps.config_dump(
        [dumps.cluster(policy="CLUSTER_PROVIDED", kind="ORIGINAL_DST")],
        [dumps.assignment(dumps.locality("a", dumps.places(1)))],
    )
    run = run_command("explain", dumps.NAME, "--dump", dumps.write(tmp_path, document))
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert "no shares to explain: policy 'CLUSTER_PROVIDED'" in line


def test_cluster_without_endpoints_is_said_to_refuse(tmp_path: Path) -> None:
    document = dumps.config_dump(
        [dumps.cluster(), dumps.cluster("other")],
        [dumps.assignment(name="other"), dumps.assignment()],
    )
    run = run_command("explain", dumps.NAME, "--dump", dumps.write(tmp_path, document))
    assert run.returncode == 0, run.stderr
    assert "no endpoints: connections are refused" in run.stdout


def test_clusters_alone_are_explained_with_a_warning() -> None:
    run = run_command("explain", ECHO, "--dump", str(SIDECAR / "clusters.json"))
    assert run.returncode == 0, run.stderr
    assert "settings-unknown" in run.stdout


def test_large_cluster_is_cut_short_unless_all_is_asked(tmp_path: Path) -> None:
    document = dumps.config_dump([dumps.cluster()], [dumps.assignment(dumps.locality("a", dumps.places(60)))])
    dump = dumps.write(tmp_path, document)
    short = run_command("explain", dumps.NAME, "--dump", dump).stdout
    assert "20 more endpoints" in short
    assert "10.0.0.59:8080" not in short
    assert "10.0.0.59:8080" in run_command("explain", dumps.NAME, "--dump", dump, "--all").stdout


def test_silent_admin_is_exit_code_1() -> None:
    run = run_command("explain", ECHO, "--admin", "http://127.0.0.1:1")
    assert run.returncode == 1
    assert "is the proxy running" in run.stderr


@pytest.mark.parametrize("address", ["10.100.200.101:15443", "[2001:db8:1234:5678:9abc:def0:1234:5678]:15443"])
def test_addresses_are_whole_in_a_narrow_window(address: str) -> None:
    members = [dumps.endpoint(address), dumps.endpoint("10.0.0.1:1")]
    entries = dumps.locality("asia-northeast1/asia-northeast1-a", members)
    proxy = read_document(dumps.config_dump([dumps.cluster()], [dumps.assignment(entries)]), "test")
    written = io.StringIO()
    said = answer(proxy, proxy.clusters[dumps.NAME], what_if=["down=10.0.0.1:1"], duplicates="envoy")
    print_answer(said, Console(file=written, width=80, markup=False, highlight=False), limit=40)
    assert address in written.getvalue()


@pytest.mark.parametrize("address", ["[fd00:1234:5678::1]:15443", "[fd00:a:b:100::9]:443"])
def test_groups_of_an_address_are_no_names_of_emoji(address: str, tmp_path: Path) -> None:
    # Twice, which doctor has a finding about.
    entries = dumps.locality("r/z", [dumps.endpoint(address)] * 2)
    dump = dumps.write(tmp_path, dumps.config_dump([dumps.cluster()], [dumps.assignment(entries)]))
    for command in (["explain", dumps.NAME], ["endpoints"], ["doctor"]):
        run = run_command(*command, "--dump", str(dump))
        assert run.stderr == ""
        assert address in run.stdout
        assert run.stdout.isascii()
