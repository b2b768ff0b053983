"""Labels by the tags of a bootstrap, by the expressions that Istio writes."""

import json

import pytest
from eastgate.proxy.admin.stat import Stat
from eastgate.proxy.admin.stat_tags import StatTags
from eastgate.proxy.bootstrap_reader import Reader
from eastgate.proxy.stats_config import Tag, stats_config

from ...support.pilot_agent import RECORDED

ISTIO = StatTags(stats_config(Reader("-c x"), json.loads(RECORDED.read_text())).tags or ())


@pytest.mark.parametrize(
    ("name", "family", "labels"),
    [
        (
            "cluster.outbound|80||h.ns.svc;.upstream_cx_total",
            "envoy_cluster.upstream_cx_total",
            {"cluster_name": "outbound|80||h.ns.svc"},
        ),
        # Without the mark of the end of the name there is nothing to find it by.
        ("cluster.plain.upstream_cx_total", "envoy_cluster.plain.upstream_cx_total", {}),
        (
            "listener.0.0.0.0_15006.downstream_cx_active",
            "envoy_listener.downstream_cx_active",
            {"listener_address": "0.0.0.0_15006"},
        ),
        (
            "listener.[__1]_15006.downstream_cx_active",
            "envoy_listener.downstream_cx_active",
            {"listener_address": "[__1]_15006"},
        ),
        ("cluster.a;.upstream_rq_503", "envoy_cluster.upstream_rq", {"cluster_name": "a", "response_code": "503"}),
        ("cluster.a;.up_rq_5xx", "envoy_cluster.up_rq", {"cluster_name": "a", "response_code_class": "5xx"}),
        ("server.worker_0.watchdog_miss", "envoy_server.watchdog_miss", {"thread_name": "worker_0"}),
        ("tcp.inbound.downstream_cx_total", "envoy_tcp.downstream_cx_total", {"tcp_prefix": "inbound"}),
        ("server.state", "envoy_server.state", {}),
    ],
)  # fmt: skip
def test_expressions_of_istio(name: str, family: str, labels: dict[str, str]) -> None:
    tagged = ISTIO.tagged(Stat(name, 7, "envoy_anything", (("old", "label"),)))
    assert (tagged.family, dict(tagged.labels), tagged.value) == (family, labels, 7)
    # From memory too.
    assert ISTIO.tagged(Stat(name, 8, "envoy_anything")) == Stat(name, 8, family, tagged.labels)


def test_what_is_ours_keeps_its_labels_and_gets_constant_ones() -> None:
    tags = StatTags((Tag("cluster_name", "^cluster(\\.(.+);)"), Tag("pod-name", value="a")))
    ours = Stat("eastgate.x", 1, "eastgate_x", (("part", "y"),))
    assert tags.tagged(ours).labels == (("part", "y"), ("pod_name", "a"))
    theirs = tags.tagged(Stat("cluster.b;.c", 1, "envoy_x"))
    assert theirs.labels == (("cluster_name", "b"), ("pod_name", "a"))


def test_beside_default_tags_theirs_stay() -> None:
    tags = StatTags((Tag("pod", value="a"),), defaults=True)
    stat = Stat("listener.x.y", 1, "envoy_listener_y", (("listener_address", "x"),))
    tagged = tags.tagged(stat)
    assert (tagged.family, tagged.labels) == ("envoy_listener_y", (("listener_address", "x"), ("pod", "a")))


def test_one_group_is_cut_and_is_the_value_and_the_first_expression_of_a_label_wins() -> None:
    tags = StatTags((Tag("a", "^x\\.(one)"), Tag("a", "(two)")))
    tagged = tags.tagged(Stat("x.one.two", 1, "envoy_x"))
    assert (tagged.family, tagged.labels) == ("envoy_x..two", (("a", "one"),))
