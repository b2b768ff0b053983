"""Statistics of one cluster under Envoy's names."""

from eastgate.fastpath.loop.cluster_slots import ClusterCounters
from eastgate.proxy.admin.cluster_stats import ClusterStats
from eastgate.proxy.admin.exposition import as_prometheus
from eastgate.proxy.admin.stat import Stat
from eastgate.proxy.admin.stats import ProcessStats, stats_of
from eastgate.proxy.membership.outlier import Counters, Detector, EjectionType
from eastgate.xds.resources import CircuitBreakers, OutlierDetection


def counters(*, active: int = 0, pending: int = 0) -> ClusterCounters:
    return ClusterCounters("c", 0, active, 0, 0, 0, 0, 0, pending, 0, 0, 0)


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


def test_colon_of_a_cluster_is_an_underscore_of_its_counters() -> None:
    process = ProcessStats(
        state=0, uptime_s=0, workers_started=True, connected=True, clusters={"a:b": ClusterStats(counters())}
    )
    (total,) = [stat for stat in stats_of(process) if stat.name == "cluster.a_b.upstream_cx_total"]
    assert total.labels == (("cluster_name", "a_b"),)
