"""Envoy's flags and pilot-agent's bootstrap as our settings."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from eastgate.proxy.about import node_identity
from eastgate.proxy.envoy_settings import VARIABLES, EnvoyFlags, envoy_settings
from eastgate.proxy.errors import EastgateError
from eastgate.proxy.given import SETTINGS
from eastgate.proxy.role import GATEWAY, SIDECAR

from ..support.pilot_agent import RECORDED
from ..support.pilot_agent import SIDECAR as SIDECAR_ID


def written(tmp_path: Path, **node: Any) -> str:
    value = json.loads(RECORDED.read_text())
    value["node"].update(node)
    file = tmp_path / "envoy-rev.json"
    file.write_text(json.dumps(value))
    return str(file)


def test_the_node_decides_the_role_and_is_sent_to_the_letter(tmp_path: Path) -> None:
    gateway = envoy_settings(EnvoyFlags(config_path=str(RECORDED)))
    sidecar = envoy_settings(EnvoyFlags(config_path=written(tmp_path, id=SIDECAR_ID, cluster="echo.default")))
    assert (gateway.role, sidecar.role) == (GATEWAY, SIDECAR)
    # Whatever else stands in the environment: pilot-agent has read it.
    node = node_identity(sidecar, {"ISTIO_META_MORE": "x"}).message
    recorded = json.loads(RECORDED.read_text())["node"]
    assert (node["id"], node["cluster"], node["metadata"]) == (SIDECAR_ID, "echo.default", recorded["metadata"])


def test_flags_of_pilot_agent_mean_what_they_mean_to_envoy() -> None:
    said = envoy_settings(EnvoyFlags(config_path=str(RECORDED), drain_time_s=45.0, concurrency=0, log_level="warn"))
    assert (said.given.drain_time, said.workers, said.given.log_level) == (45.0, 1, "warning")
    assert envoy_settings(EnvoyFlags(config_path=str(RECORDED), concurrency=5000)).workers == 256
    assert said.secret_sockets == {"sds-grpc": "unix:./var/run/secrets/workload-spiffe-uds/socket"}
    assert said.discovery == ("unix:./etc/istio/proxy/XDS",)
    assert said.envoy is not None
    assert [one.name for one in said.envoy.listeners] == ["0.0.0.0_15090", "0.0.0.0_15021"]


def test_variables_say_what_envoy_has_no_word_for() -> None:
    environment = {
        "EASTGATE_DRAIN_CHANGED": "envoy",
        "EASTGATE_TLS_RESUMPTION": "off",
        "EASTGATE_TLS_STRICT_END": "true",
        "EASTGATE_SILENT_INBOUND_TIMEOUT": "2.5",
        "EASTGATE_ACCESS_LOG": "",
        # Envoy's flags and bootstrap have these.
        "EASTGATE_WORKERS": "7",
        "EASTGATE_DISCOVERY": "elsewhere:15010",
    }
    said = envoy_settings(EnvoyFlags(config_path=str(RECORDED), concurrency=2), environment)
    given = said.given
    assert (given.drain_changed, given.tls_resumption, given.tls_strict_end) == ("envoy", "off", True)
    assert (given.silent_inbound_timeout, given.access_log) == (2.5, "")
    assert (said.workers, said.discovery) == (2, ("unix:./etc/istio/proxy/XDS",))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("EASTGATE_DRAIN_CHANGED", "always", "expected one of needed, envoy"),
        ("EASTGATE_TLS_STRICT_END", "maybe", "expected true or false"),
        ("EASTGATE_BUSY_POLL", "x", "expected a whole number from 0 to 1000"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(name: str, value: str, reason: str) -> None:
    with pytest.raises(EastgateError, match=f"{name}.*{reason}"):
        envoy_settings(EnvoyFlags(config_path=str(RECORDED)), {name: value})


def test_service_node_and_cluster_win_over_the_file() -> None:
    said = envoy_settings(EnvoyFlags(config_path=str(RECORDED), service_node=SIDECAR_ID, service_cluster="named.here"))
    assert (said.role, said.node_id, said.node_cluster) == (SIDECAR, SIDECAR_ID, "named.here")


def test_config_yaml_merges_into_the_file_or_stands_alone(tmp_path: Path) -> None:
    more = "admin: {address: {socketAddress: {portValue: 15999}}}\nnode: {locality: {region: r9}}"
    said = envoy_settings(EnvoyFlags(config_path=str(RECORDED), config_yaml=more))
    assert (said.admin, said.locality.region) == (("127.0.0.1", 15999), "r9")
    alone = envoy_settings(EnvoyFlags(config_yaml=RECORDED.read_text()))
    assert alone.node_id.startswith("router~")


MONITOR = {
    "name": "envoy.resource_monitors.global_downstream_max_connections",
    "typed_config": {"@type": "x", "max_active_downstream_connections": "500"},
}


@pytest.mark.parametrize(
    ("document", "wanted"),
    [
        # 2147483647 stands in the recorded bootstrap: no limit.
        ({}, None),
        ({"overload_manager": {"resource_monitors": [MONITOR]}}, 500),
        ({"layered_runtime": {"layers": [{"static_layer": {"overload.global_downstream_max_connections": 70}}]}}, 70),
    ],
)
def test_the_limit_of_the_overload_manager_is_ours(document: dict[str, Any], wanted: int | None) -> None:
    said = envoy_settings(EnvoyFlags(config_path=str(RECORDED), config_yaml=json.dumps(document)))
    assert said.given.max_connections == wanted


def test_the_form_of_the_log_follows_the_bootstrap() -> None:
    said = envoy_settings(EnvoyFlags(config_path=str(RECORDED)))
    assert said.given.log_format == "text"
    more = {"application_log_config": {"log_format": {"json_format": {"message": "%v"}}}}
    said = envoy_settings(EnvoyFlags(config_path=str(RECORDED), config_yaml=json.dumps(more)))
    assert said.given.log_format == "json"


def test_stats_tags_of_flags_are_constant_labels() -> None:
    said = envoy_settings(EnvoyFlags(config_path=str(RECORDED), stats_tags=("pod:a", "x:b:c")))
    assert said.envoy is not None
    assert said.envoy.stats.tags is not None
    assert [(tag.name, tag.value) for tag in said.envoy.stats.tags[-2:]] == [("pod", "a"), ("x", "b:c")]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({}, "--config-path: missing"),
        ({"config_path": "/nowhere"}, "--config-path /nowhere: cannot be read: No such file or directory"),
        ({"config_path": str(RECORDED), "config_yaml": "["}, "--config-yaml: is neither JSON nor YAML"),
        ({"config_path": str(RECORDED), "log_level": "loud"}, "--log-level 'loud': expected one of"),
        ({"config_path": str(RECORDED), "drain_time_s": 1e9}, "--drain-time-s"),
        ({"config_path": str(RECORDED), "service_node": "ztunnel~1.2.3.4~a.b~c"}, "node.id: 'ztunnel~1"),
        ({"config_path": str(RECORDED), "stats_tags": ("x",)}, "--stats-tag 'x': expected NAME:VALUE"),
        ({"config_path": str(RECORDED), "service_node": "sidecar~x~a.b~c"}, "node.id: 'x' is not an IP address"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_that_names_its_place(flags: dict[str, Any], reason: str) -> None:
    with pytest.raises(EastgateError) as caught:
        envoy_settings(EnvoyFlags(**flags))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_page_names_the_variables_that_are_read() -> None:
    page = (Path(__file__).parents[2] / "docs/eastgate-envoy.md").read_text()
    _, _, after = page.partition("## Variables")
    paragraph = after.partition("\n## ")[0].partition("```\n")[2]
    assert set(re.findall(r"`(EASTGATE_\w+)`", paragraph)) == {SETTINGS[name].variable for name in VARIABLES}
