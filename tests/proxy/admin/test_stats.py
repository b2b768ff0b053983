"""Statistics of one cluster under Envoy's names."""

import json

import pytest
from eastgate.fastpath.loop.cluster_slots import ClusterCounters
from eastgate.fastpath.loop.histogram import counted
from eastgate.fastpath.loop.listener_states import ListenerCounters
from eastgate.fastpath.reason import Reason
from eastgate.proxy.admin.exposition import as_prometheus
from eastgate.proxy.admin.stats import (
    BEFORE_CHAIN,
    ENDED,
    TYPES,
    ClusterStats,
    ProcessStats,
    Stat,
    as_json,
    as_text,
    select,
    stats_of,
)
from eastgate.proxy.membership.outlier import Counters, Detector, EjectionType
from eastgate.xds.resources import CircuitBreakers, OutlierDetection


def counters(*, active: int = 0, pending: int = 0) -> ClusterCounters:
    return ClusterCounters("c", 0, active, 0, 0, 0, 0, pending, 0, 0, 0)


def stats(one: ClusterStats) -> list[Stat]:
    process = ProcessStats(state=0, uptime_s=0, workers_started=True, connected=True, clusters={"c": one})
    return list(stats_of(process))


def of_cluster(one: ClusterStats, part: str) -> dict[str, int]:
    prefix = f"cluster.c.{part}."
    return {stat.name.removeprefix(prefix): stat.value for stat in stats(one) if stat.name.startswith(prefix)}


def test_circuit_breaker_is_open_at_its_limit() -> None:
    limits = CircuitBreakers(max_connections=3, max_pending_requests=2)
    assert of_cluster(ClusterStats(counters(active=2, pending=1), circuit_breakers=limits), "circuit_breakers") == {
        "default.cx_open": 0,
        "default.rq_pending_open": 0,
    }
    limits = CircuitBreakers(max_connections=3, max_pending_requests=2, track_remaining=True)
    # A limit that was lowered may have been passed already.
    assert of_cluster(ClusterStats(counters(active=5, pending=1), circuit_breakers=limits), "circuit_breakers") == {
        "default.cx_open": 1,
        "default.remaining_cx": 0,
        "default.rq_pending_open": 0,
        "default.remaining_pending": 1,
    }


def test_outlier_detection_has_envoys_names_and_only_where_it_is_on() -> None:
    assert of_cluster(ClusterStats(counters()), "outlier_detection") == {}
    kept = Counters()
    detector: Detector[int] = Detector(OutlierDetection(always_eject_one_host=True), kept, lambda: 0)
    detector.set_hosts(3)
    detector.crossed(0, EjectionType.CONSECUTIVE_5XX, 0)
    detector.crossed(1, EjectionType.CONSECUTIVE_GATEWAY_FAILURE, 0)
    one = ClusterStats(counters(), outlier=kept)
    found = of_cluster(one, "outlier_detection")
    assert {name for name, value in found.items() if value} == {
        "ejections_active",
        "ejections_enforced_total",
        "ejections_overflow",
        "ejections_detected_consecutive_5xx",
        "ejections_detected_consecutive_gateway_failure",
        "ejections_enforced_consecutive_5xx",
        "ejections_total",
        "ejections_consecutive_5xx",
    }
    assert set(found.values()) == {0, 1}
    text = as_prometheus(stats(one)).decode()
    assert 'envoy_cluster_outlier_detection_ejections_active{cluster_name="c"} 1\n' in text
    assert 'envoy_cluster_outlier_detection_ejections_enforced_total{cluster_name="c"} 1\n' in text


def test_connection_counts_from_its_filter_chain_on() -> None:
    refused = [0] * Reason.REASON_COUNT
    refused[Reason.UNKNOWN_SERVER_NAME], refused[Reason.OVERLOAD], refused[Reason.CONNECT_FAILED] = 3, 2, 5
    counted = ListenerCounters(
        cx_total=220, cx_active=14, cx_pre_active=4, rx_bytes=7, tx_bytes=8, refused=tuple(refused)
    )
    process = ProcessStats(state=0, uptime_s=0, workers_started=True, connected=True, listeners={"0.0.0.0:1": counted})
    found = {stat.name.removeprefix("listener.0.0.0.0_1."): stat for stat in stats_of(process)}
    assert {name: found[f"downstream_{name}"].value for name in ("cx_total", "cx_active", "cx_destroy")} == {
        "cx_total": 211,
        "cx_active": 10,
        "cx_destroy": 201,
    }
    assert found["eastgate.accepted_total"].value == 220
    # No prefix of Envoy's where Envoy has no such counter.
    assert {stat.family.partition("_")[0] for name, stat in found.items() if name.startswith("eastgate.")} == {
        "eastgate"
    }


@pytest.mark.parametrize("reason", [one for one in Reason if one != Reason.REASON_COUNT], ids=lambda one: one.name)
def test_each_refusal_is_taken_off_once_at_most(reason: Reason) -> None:
    refused = [0] * Reason.REASON_COUNT
    refused[reason] = 10
    counted = ListenerCounters(
        cx_total=10, cx_active=0, cx_pre_active=0, rx_bytes=0, tx_bytes=0, refused=tuple(refused)
    )
    process = ProcessStats(state=0, uptime_s=0, workers_started=True, connected=True, listeners={"0.0.0.0:1": counted})
    found = {stat.name.removeprefix("listener.0.0.0.0_1.downstream_cx_"): stat.value for stat in stats_of(process)}
    assert found["total"] == found["destroy"] == (0 if reason in BEFORE_CHAIN else 10)
    assert not {reason} & set(BEFORE_CHAIN) & set(ENDED)


def test_kinds_of_stats_are_told_apart() -> None:
    every = [Stat("a", 1, "a"), Stat("b", 0, "b", gauge=True), Stat("c", 2, "c", durations=counted([0, 0]))]

    def names(kind: str) -> list[str]:
        return [stat.name for stat in select(every, kinds=TYPES[kind]) if stat is not None]

    assert {kind: names(kind) for kind in TYPES} == {
        "All": ["a", "b", "c"],
        "Counters": ["a"],
        "Gauges": ["b"],
        "Histograms": ["c"],
        "TextReadouts": [],
    }


def test_colon_of_a_cluster_is_an_underscore_of_its_counters() -> None:
    process = ProcessStats(
        state=0, uptime_s=0, workers_started=True, connected=True, clusters={"a:b": ClusterStats(counters())}
    )
    (total,) = [stat for stat in stats_of(process) if stat.name == "cluster.a_b.upstream_cx_total"]
    assert total.labels == (("cluster_name", "a_b"),)


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


def test_used_histograms_are_those_with_values() -> None:
    every = [Stat(name, value, name, durations=counted([0] * value)) for name, value in (("a", 0), ("b", 1))]
    assert [stat.name for stat in select(every, used_only=True) if stat is not None] == ["b"]


def test_misses_of_the_watchdog_are_told_by_worker_and_in_all() -> None:
    process = ProcessStats(state=0, uptime_s=0, workers_started=True, connected=True, watchdog=((2, 1), (3, 0)))
    found = {stat.name: (stat.value, stat.labels) for stat in stats_of(process) if "watchdog" in stat.name}
    assert found == {
        "workers.watchdog_miss": (5, ()),
        "workers.watchdog_mega_miss": (1, ()),
        "server.worker_0.watchdog_miss": (2, (("worker_id", "0"),)),
        "server.worker_1.watchdog_miss": (3, (("worker_id", "1"),)),
        "server.worker_0.watchdog_mega_miss": (1, (("worker_id", "0"),)),
        "server.worker_1.watchdog_mega_miss": (0, (("worker_id", "1"),)),
    }
