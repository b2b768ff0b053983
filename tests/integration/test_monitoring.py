"""Each expression of deploy/monitoring and docs/metrics.md, asked of a real Prometheus that scrapes a real gateway."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ..support.prometheus import Prometheus, promtool
from ..support.waiting import until
from ..support.watched_mesh import WatchedMesh

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy/monitoring"
DASHBOARDS = sorted((MONITORING / "dashboards").glob("*.json"))
# Of scrapes, one a second: what rate() looks back at.
WINDOW_S = 20
COMPARISON = re.compile(r"^(.*\S)\s+(?:<|>)\s+[\d.]+$", re.DOTALL)


def panels() -> list[Any]:
    return [
        pytest.param(target["expr"], id=f"{path.stem}-{panel['title']}-{target['refId']}")
        for path in DASHBOARDS
        for panel in json.loads(path.read_text())["panels"]
        for target in panel["targets"]
    ]


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "prometheus-rule.yaml").read_text())["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def documented() -> list[str]:
    """Expressions of docs/metrics.md: one begins at the beginning of a line."""
    (block,) = re.findall(r"```promql\n(.*?)```", (ROOT / "docs/metrics.md").read_text(), re.DOTALL)
    lines = [line for line in block.splitlines() if line and not line.startswith("#")]
    return re.sub(r"\n\s+", " ", "\n".join(lines)).splitlines()


def filled(expression: str) -> str:
    """With a value for each variable of Grafana's."""
    shown = expression.replace("$__rate_interval", f"{WINDOW_S}s")
    return re.sub(r"\$\w+", ".*", shown)


@pytest.fixture(scope="module")
def mesh() -> Iterator[WatchedMesh]:
    made = WatchedMesh()
    yield made
    made.close()


@pytest.fixture(scope="module")
def prometheus(mesh: WatchedMesh) -> Iterator[Prometheus]:
    with Prometheus(mesh.metrics) as running:
        until(lambda: running.scrapes() >= 2, "a scrape before there is traffic")
        mesh.start_traffic()
        # Series that came with the traffic need two samples.
        until(lambda: running.scrapes() >= 8, "scrapes while there is traffic")
        yield running


@pytest.mark.parametrize("expression", panels())
def test_panel_has_an_answer(prometheus: Prometheus, expression: str) -> None:
    assert prometheus.answer(filled(expression)), filled(expression)


@pytest.mark.parametrize("expression", documented())
def test_expressions_of_others_have_an_answer(prometheus: Prometheus, expression: str) -> None:
    assert prometheus.answer(filled(expression)), filled(expression)


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule["alert"]) for rule in rules()])
def test_alert_looks_at_what_there_is(prometheus: Prometheus, rule: dict[str, Any]) -> None:
    found = COMPARISON.match(rule["expr"])
    assert found, "an alert compares with a number, so that what it looks at can be asked without that"
    asked = found[1].replace("[5m]", f"[{WINDOW_S}s]").replace("[15m]", f"[{WINDOW_S}s]")
    answers = prometheus.answer(asked)
    assert answers
    assert {(one["metric"]["namespace"], one["metric"]["pod"]) for one in answers} == {("gateway", "eastgate-0")}


def test_what_was_sent_is_what_is_shown(mesh: WatchedMesh, prometheus: Prometheus) -> None:
    refused = prometheus.answer('sum(eastgate_refused_connections_total{reason="unknown_server_name"})')
    assert float(refused[0]["value"][1]) > 0
    shares = {
        one["metric"]["destination_cluster"]: float(one["value"][1])
        for one in prometheus.answer(
            'sum by (destination_cluster) (istio_tcp_connections_opened_total{reporter="source",'
            'destination_service_name="web"})'
        )
    }
    # Two of three endpoints are at P0, and those are well: nobody is sent to the other cluster.
    assert set(shares) == {"gke"}


def test_scrape_is_valid(mesh: WatchedMesh) -> None:
    text = mesh.gateway.get("/stats/prometheus")[1]
    checked = promtool("check", "metrics", said=text)
    # 3: nothing but style. Names are Envoy's, which have counters without _total and no help.
    assert checked.returncode == 3, checked.stderr[-2000:]
    broken = text.replace("# TYPE envoy_server_live gauge", "# TYPE envoy_server_live gouge")
    assert promtool("check", "metrics", said=broken).returncode == 1
