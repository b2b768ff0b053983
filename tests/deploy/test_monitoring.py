"""Alerts and dashboards: chart and `kubectl apply -k deploy/monitoring` carry what stands there, once."""

import json
from pathlib import Path

import pytest
import yaml

from .rendered import CHART, RELEASE, ROOT, Object, chart, check_schemas, kustomized, objects_of, one

MONITORING = ROOT / "deploy/monitoring"
DASHBOARDS = {path.name: path.read_text() for path in (MONITORING / "dashboards").iterdir()}
RULES = "monitoring.rules.enabled=true"
BOARDS = "monitoring.dashboards.enabled=true"


def written(name: str) -> list[Object]:
    return objects_of((MONITORING / name).read_text())


def boards(objects: list[Object]) -> Object:
    maps = {each["metadata"]["name"]: each for each in objects if each["kind"] == "ConfigMap"}
    [name] = [name for name in maps if name.endswith("dashboards")]
    return maps[name]


def test_there_is_one_home_and_the_chart_can_read_it() -> None:
    """A chart reads no file above itself, and tells of each link in it at every command."""
    assert MONITORING.readlink() == Path("helm/eastgate-gateway/monitoring")
    assert [path for path in CHART.rglob("*") if path.is_symlink()] == []


def test_the_chart_has_neither_unless_asked() -> None:
    assert "PrometheusRule" not in {each["kind"] for each in chart()}
    assert [each["metadata"]["name"] for each in chart() if each["kind"] == "ConfigMap"] == [RELEASE]


@pytest.mark.parametrize(("switch", "more"), [(RULES, ["PrometheusRule"]), (BOARDS, ["ConfigMap"])])
def test_each_switch_adds_its_object_and_no_other(switch: str, more: list[str]) -> None:
    objects = chart(switch)
    assert sorted(each["kind"] for each in objects) == sorted([each["kind"] for each in chart()] + more)
    check_schemas(objects, "1.34")
    assert all(each["metadata"]["namespace"] == "gateway" for each in objects)


def test_rules_of_the_chart_are_those_of_the_folder() -> None:
    rule = one(chart(RULES, "monitoring.rules.labels.release=prometheus"), "PrometheusRule")
    [source] = written("prometheus-rule.yaml")
    assert rule["spec"] == source["spec"]
    assert rule["apiVersion"] == source["apiVersion"]
    assert rule["metadata"]["name"] == RELEASE
    assert rule["metadata"]["labels"]["release"] == "prometheus"


def test_dashboards_of_the_chart_are_those_of_the_folder() -> None:
    found = boards(chart(BOARDS, "monitoring.dashboards.labels.team=mesh"))
    assert found["data"] == DASHBOARDS
    assert found["metadata"]["name"] == f"{RELEASE}-dashboards"
    assert {"grafana_dashboard": "1", "team": "mesh"}.items() <= found["metadata"]["labels"].items()


def test_a_grafana_may_look_for_another_label() -> None:
    found = boards(chart(BOARDS, "monitoring.dashboards.labels.grafana_dashboard=null"))
    assert "grafana_dashboard" not in found["metadata"]["labels"]


def test_chart_and_folder_scrape_gateways_alike() -> None:
    ours = one(chart("podMonitor.enabled=true"), "PodMonitor")
    theirs = written("pod-monitor.yaml")[0]
    assert ours["spec"]["podMetricsEndpoints"] == theirs["spec"]["podMetricsEndpoints"]
    assert theirs["spec"]["selector"]["matchLabels"].items() <= ours["spec"]["selector"]["matchLabels"].items()


def test_kustomize_renders_all_that_the_folder_holds() -> None:
    objects = kustomized(MONITORING)
    check_schemas(objects, "1.34")
    found = boards(objects)
    assert found["metadata"] == {"name": "eastgate-dashboards", "labels": {"grafana_dashboard": "1"}}
    assert found["data"] == DASHBOARDS
    named = sorted(path.name for path in MONITORING.glob("*.yaml") if path.name != "kustomization.yaml")
    rest = sorted((each for each in objects if each is not found), key=yaml.safe_dump)
    assert rest == sorted((each for name in named for each in written(name)), key=yaml.safe_dump)


def test_dashboards_fit_an_object_of_kubernetes_and_have_uids_of_their_own() -> None:
    """A ConfigMap holds 1 MiB; Grafana overwrites one dashboard by another of its uid."""
    assert sum(map(len, DASHBOARDS.values())) < 2**19
    uids = [json.loads(text)["uid"] for text in DASHBOARDS.values()]
    assert len(set(uids)) == len(DASHBOARDS) > 0
