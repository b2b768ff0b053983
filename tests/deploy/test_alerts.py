"""Alerts of deploy/monitoring: each fires in a case that is seeded for it, and in no other."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ..support.prometheus import promtool
from .rendered import ROOT

RULES = ROOT / "deploy/monitoring/prometheus-rule.yaml"
POD = 'namespace="gateway",pod="eastgate-0"'
CLUSTER = f'{POD},cluster_name="web"'
# By alert: what is wrong, as series by minute, and the labels that the alert has besides those of the pod.
SEEDED: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "EastgateRefusesConnections": (
        {
            f'eastgate_refused_connections_total{{{POD},reason="unknown_server_name"}}': "0+10x30",
            f'eastgate_refused_connections_total{{{POD},reason="idle_probe"}}': "0+60x30",
            f"eastgate_listener_accepted_total{{{POD}}}": "0+100x30",
        },
        {"reason": "unknown_server_name"},
    ),
    "EastgateConnectsFail": (
        {
            f"envoy_cluster_upstream_cx_connect_fail{{{CLUSTER}}}": "0+30x30",
            f"envoy_cluster_upstream_cx_total{{{CLUSTER}}}": "0+100x30",
        },
        {"cluster_name": "web"},
    ),
    "EastgateNobodyHealthy": (
        {f"envoy_cluster_upstream_cx_none_healthy{{{CLUSTER}}}": "0+1x30"},
        {"cluster_name": "web"},
    ),
    "EastgateTrafficSpills": (
        {
            f'eastgate_cluster_priority_load{{{CLUSTER},priority="0"}}': "93x30",
            f'eastgate_cluster_priority_load{{{CLUSTER},priority="1"}}': "7x30",
        },
        {"cluster_name": "web"},
    ),
    "EastgatePanic": ({f"envoy_cluster_lb_healthy_panic{{{CLUSTER}}}": "0+1x30"}, {"cluster_name": "web"}),
    "EastgateEndpointsEjected": (
        {f"envoy_cluster_outlier_detection_ejections_active{{{CLUSTER}}}": "2x30"},
        {"cluster_name": "web"},
    ),
    "EastgateLimitReached": ({f"envoy_cluster_upstream_cx_overflow{{{CLUSTER}}}": "0+1x30"}, {"cluster_name": "web"}),
    "EastgateWithoutIstiod": ({f"envoy_control_plane_connected_state{{{POD}}}": "0x30"}, {}),
    "EastgateStaleConfiguration": ({f"eastgate_configuration_stale{{{POD}}}": "1x30"}, {}),
    "EastgateResourcesRejected": (
        {f'eastgate_xds_resources{{{POD},type="CDS",state="nacked"}}': "1x30"},
        {"type": "CDS"},
    ),
    "EastgateCertificateEnds": ({f"eastgate_certificate_seconds_left{{{POD}}}": "7000-60x30"}, {}),
    "EastgateSheds": (
        {f"envoy_overload_envoy_overload_actions_reject_incoming_connections_active{{{POD}}}": "1x30"},
        {},
    ),
    "EastgateWorkerStuck": ({f"envoy_workers_watchdog_mega_miss{{{POD}}}": "0x20 1x10"}, {}),
    "EastgateControlFaults": (
        {f'eastgate_control_errors_total{{{POD},part="publish"}}': "0x20 1x10"},
        {"part": "publish"},
    ),
    "EastgateLogLost": (
        {
            f"eastgate_access_log_dropped_total{{{POD}}}": "0x20 5x10",
            f"eastgate_access_log_failed_total{{{POD}}}": "0x30",
        },
        {},
    ),
}
# The same series of a gateway that is well: nothing may fire.
WELL = {
    f'eastgate_refused_connections_total{{{POD},reason="unknown_server_name"}}': "0+1x30",
    f'eastgate_refused_connections_total{{{POD},reason="idle_probe"}}': "0+60x30",
    f"eastgate_listener_accepted_total{{{POD}}}": "0+100x30",
    f"envoy_cluster_upstream_cx_connect_fail{{{CLUSTER}}}": "0+1x30",
    f"envoy_cluster_upstream_cx_total{{{CLUSTER}}}": "0+100x30",
    f"envoy_cluster_upstream_cx_none_healthy{{{CLUSTER}}}": "3x30",
    f"envoy_cluster_lb_healthy_panic{{{CLUSTER}}}": "3x30",
    f'eastgate_cluster_priority_load{{{CLUSTER},priority="0"}}': "100x10 93x3 100x17",
    f'eastgate_cluster_priority_load{{{CLUSTER},priority="1"}}': "0x10 7x3 0x17",
    f"envoy_cluster_outlier_detection_ejections_active{{{CLUSTER}}}": "0x10 1x3 0x17",
    f"envoy_cluster_upstream_cx_overflow{{{CLUSTER}}}": "3x30",
    f"envoy_control_plane_connected_state{{{POD}}}": "1x20 0x2 1x8",
    f"eastgate_configuration_stale{{{POD}}}": "1x2 0x28",
    f'eastgate_xds_resources{{{POD},type="CDS",state="nacked"}}': "0x30",
    f'eastgate_xds_resources{{{POD},type="CDS",state="acked"}}': "50x30",
    f"eastgate_certificate_seconds_left{{{POD}}}": "43200-60x30",
    f"envoy_overload_envoy_overload_actions_reject_incoming_connections_active{{{POD}}}": "0x30",
    f"envoy_workers_watchdog_mega_miss{{{POD}}}": "1x30",
    f'eastgate_control_errors_total{{{POD},part="publish"}}': "1x30",
    f"eastgate_access_log_dropped_total{{{POD}}}": "5x30",
    f"eastgate_access_log_failed_total{{{POD}}}": "0x30",
}


def groups() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["spec"]["groups"]
    return found


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in groups() for rule in group["rules"]}


def test_every_alert_is_seeded_and_every_seed_is_an_alert() -> None:
    assert set(alerts()) == set(SEEDED)


def test_promtool_takes_the_rules(tmp_path: Path) -> None:
    """Templates of the annotations too."""
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups()}))
    checked = promtool("check", "rules", str(tmp_path / "rules.yaml"))
    assert (checked.returncode, f"{len(SEEDED)} rules found" in checked.stdout) == (0, True), checked.stderr


def judged(folder: Path, series: dict[str, str], fired: dict[str, dict[str, str]]) -> str:
    """What promtool says against these alerts, and no others, half an hour after the series begin."""
    # Sentences for people are no logic.
    bare = [
        {**group, "rules": [{k: v for k, v in rule.items() if k != "annotations"} for rule in group["rules"]]}
        for group in groups()
    ]
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": bare}))
    expected = [
        {
            "eval_time": "30m",
            "alertname": name,
            "exp_alerts": [{"exp_labels": {**rule["labels"], **fired[name]}}] if name in fired else [],
        }
        for name, rule in alerts().items()
    ]
    document = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": expected,
            }
        ],
    }
    (folder / "test.yaml").write_text(yaml.safe_dump(document))
    tested = promtool("test", "rules", str(folder / "test.yaml"))
    return "" if tested.returncode == 0 else tested.stdout + tested.stderr


@pytest.mark.parametrize("name", list(SEEDED))
def test_alert_fires_where_it_should_and_no_other_does(tmp_path: Path, name: str) -> None:
    wrong, labels = SEEDED[name]
    pod = {"namespace": "gateway", "pod": "eastgate-0"}
    assert judged(tmp_path, {**WELL, **wrong}, {name: {**pod, **labels}}) == ""


def test_no_alert_fires_where_all_is_well(tmp_path: Path) -> None:
    assert judged(tmp_path, WELL, {}) == ""


def test_a_case_that_expects_the_wrong_alert_fails(tmp_path: Path) -> None:
    """The checks above can fail."""
    assert "EastgateSheds" in judged(tmp_path, WELL, {"EastgateSheds": {}})
