"""stats_config of a bootstrap: which counters are shown, by Envoy's rules, and what is no expression."""

import json
from typing import Any

import pytest
from eastgate.proxy.bootstrap_reader import BootstrapError, Reader
from eastgate.proxy.stats_config import StatsConfig, StatsMatcher, Tag, stats_config

from ..support.pilot_agent import RECORDED


def read(**config: Any) -> StatsConfig:
    return stats_config(Reader("-c x"), {"stats_config": config})


def matcher(kind: str, *patterns: dict[str, Any]) -> StatsMatcher:
    return read(stats_matcher={kind: {"patterns": [*patterns]}}).matcher


@pytest.mark.parametrize(
    ("pattern", "shown", "hidden"),
    [
        ({"exact": "a.b"}, "a.b", "a.bc"),
        ({"prefix": "cluster."}, "cluster.x", "my.cluster.x"),
        ({"suffix": "rbac.allowed"}, "http.rbac.allowed", "rbac.allowed.x"),
        ({"contains": "circuit"}, "a.circuit.b", "a.b"),
        # The whole name has to match.
        ({"safe_regex": {"regex": "vhost\\..*\\.route\\..*"}}, "vhost.a.route.b", "x.vhost.a.route.b"),
        ({"safeRegex": {"regex": "a|b"}}, "b", "ab"),
        ({"prefix": "Server", "ignore_case": True}, "sErVer.state", "my.server"),
    ],
)
def test_each_kind_of_pattern(pattern: dict[str, Any], shown: str, hidden: str) -> None:
    included, excluded = matcher("inclusion_list", pattern), matcher("exclusion_list", pattern)
    assert included.shows(shown)
    assert not included.shows(hidden)
    assert not excluded.shows(shown)
    assert excluded.shows(hidden)


def test_case_matters_unless_it_is_said_not_to() -> None:
    assert not matcher("inclusion_list", {"prefix": "server"}).shows("SERVER.state")


def test_empty_lists_and_reject_all() -> None:
    assert not matcher("inclusion_list").shows("server.state")
    assert matcher("exclusion_list").shows("server.state")
    assert not read(stats_matcher={"reject_all": True}).matcher.shows("server.state")
    assert read(stats_matcher={"reject_all": False}).matcher.shows("server.state")
    assert StatsConfig().matcher.shows("server.state")


def test_what_envoy_does_not_have_is_always_shown() -> None:
    assert matcher("inclusion_list", {"prefix": "server"}).shows("eastgate.events_dropped")
    assert read(stats_matcher={"reject_all": True}).matcher.shows("eastgate.events_dropped")


def test_istios_own() -> None:
    config = stats_config(Reader("-c x"), json.loads(RECORDED.read_text()))
    shows = config.matcher.shows
    assert [
        name for name in ("server.state", "cluster_manager.cds.update_success", "cluster.xds-grpc;.x") if shows(name)
    ] == [
        "server.state",
        "cluster_manager.cds.update_success",
        "cluster.xds-grpc;.x",
    ]
    assert not shows("listener.0.0.0.0_15006.downstream_cx_active")
    assert not shows("cluster.outbound|80||h;.upstream_cx_total")
    assert config.tags is not None
    assert (len(config.tags), config.default_tags, config.unread) == (16, False, ())


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"stats_matcher": {"inclusion_list": {"patterns": [{}]}}}, "patterns[0]: says none of exact"),
        (
            {"stats_matcher": {"inclusion_list": {"patterns": [{"safe_regex": {"regex": "("}}]}}},
            "stats_config.stats_matcher.inclusion_list.patterns[0].safe_regex.regex: '(' is none",
        ),
        ({"stats_tags": 5}, "stats_config.stats_tags: must be a list"),
        ({"stats_matcher": {"exclusion_list": []}}, "exclusion_list: must be an object"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_path(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(BootstrapError) as caught:
        read(**config)
    assert reason in str(caught.value)


def test_a_tag_that_cannot_be_evaluated_is_left_out_and_said() -> None:
    config = read(stats_tags=[{"tag_name": "a", "regex": "(?<=x)y"}, {"tag_name": "b", "fixed_value": "c"}])
    assert config.tags == (Tag("b", value="c"),)
    assert config.unread[0].startswith("stats_config.stats_tags[0].regex: '(?<=x)y' is none")


def test_nothing_said_of_tags() -> None:
    assert read().tags is None
    assert read(use_all_default_tags=False).tags == ()
