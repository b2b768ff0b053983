"""The text and JSON forms of /stats."""

import json

from eastgate.fastpath.loop.histogram import counted
from eastgate.proxy.admin.cluster_stats import ClusterStats
from eastgate.proxy.admin.stat import Stat
from eastgate.proxy.admin.stats_text import as_json, as_text

from .test_cluster_stats import counters, stats


def test_histograms_come_last_and_clusters_without_connections_have_none() -> None:
    used = ClusterStats(counters()._replace(connect_ms=counted([0]), length_ms=counted([7_000_000])))
    found = {stat.name: stat for stat in stats(used) if stat.durations is not None}
    assert found.keys() == {"cluster.c.upstream_cx_connect_ms", "cluster.c.upstream_cx_length_ms"}
    assert not [stat for stat in stats(ClusterStats(counters())) if stat.durations is not None]
    text = list(as_text([*found.values(), Stat("z", 1, "z")], {}))
    assert text[0] == "z: 1\n"
    assert text[2].startswith("cluster.c.upstream_cx_length_ms: P0(nan,5) P25(nan,6.25) P50(nan,7.5) ")
    read = json.loads("".join(as_json([*found.values(), Stat("z", 1, "z")])))
    assert [one["name"] for one in read["stats"][1]["histograms"]["computed_quantiles"]] == list(found)
    assert read["stats"][0] == {"name": "z", "value": 1}
