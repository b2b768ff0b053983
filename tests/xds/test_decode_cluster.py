"""What of a Cluster is honoured, warned about and rejected."""

from typing import Any

import pytest
from eastgate.xds.decode_cluster import decode_cluster
from eastgate.xds.errors import XdsError
from eastgate.xds.message import encode
from eastgate.xds.resources import (
    CircuitBreakers,
    Cluster,
    Hashing,
    OutlierDetection,
    SlowStart,
    TcpKeepalive,
    ZoneAware,
)
from eastgate.xds.tls_records import PLAIN

from ..support.encoded import field
from .istiod import assignment, cluster, endpoint, locality_endpoints
from .rows import rows_of

NAME = "outbound_.80_._.a.svc"
POLICIES = "type.googleapis.com/envoy.extensions.load_balancing_policies"


def decoded(**fields: Any) -> Cluster:
    return decode_cluster(cluster(NAME, **fields))


def rejected(**fields: Any) -> str:
    with pytest.raises(XdsError) as caught:
        decoded(**fields)
    assert (caught.value.kind, caught.value.resource) == ("CDS", NAME)
    return caught.value.reason


def policy(kind: str, **config: Any) -> dict[str, Any]:
    any_config = {"@type": f"{POLICIES}.{kind}", **config}
    return {"typed_extension_config": {"name": "x", "typed_config": any_config}}


def test_defaults_are_envoys() -> None:
    raw = encode("envoy.config.cluster.v3.Cluster", {"name": "c", "type": "EDS", "eds_cluster_config": {}})
    one = decode_cluster(raw)
    assert one == Cluster(name="c", type="EDS")
    assert (one.assignment_name, one.raw) == ("c", raw)
    assert (one.connect_timeout_s, one.healthy_panic_threshold_percent, one.lb_policy) == (5.0, 50, "ROUND_ROBIN")


def test_honoured_fields() -> None:
    one = decoded(
        eds_cluster_config={"service_name": "s"},
        lb_policy="LEAST_REQUEST",
        least_request_lb_config={"choice_count": 3},
        common_lb_config={"healthy_panic_threshold": {"value": 30.5}, "locality_weighted_lb_config": {}},
        circuit_breakers={
            "thresholds": [
                {"priority": "HIGH", "max_connections": 1},
                {"max_connections": 7, "max_pending_requests": 8, "track_remaining": True},
                {"max_connections": 9},
            ]
        },
        upstream_connection_options={"tcp_keepalive": {"keepalive_time": 5}},
        alt_stat_name="alt",
    )
    assert one.assignment_name == "s"
    assert (one.lb_policy, one.least_request_choice_count) == ("LEAST_REQUEST", 3)
    assert (one.healthy_panic_threshold_percent, one.locality_weighted) == (30, True)
    assert one.circuit_breakers == CircuitBreakers(7, 8, True)
    assert one.tcp_keepalive == TcpKeepalive(None, 5, None)
    assert (one.alt_stat_name, one.warnings) == ("alt", ())


def test_fail_traffic_on_panic_stands_among_the_zone_settings() -> None:
    zone_aware = {"zone_aware_lb_config": {"fail_traffic_on_panic": True}}
    assert decoded(common_lb_config=zone_aware).fail_traffic_on_panic
    assert not decoded(common_lb_config={"zone_aware_lb_config": {}}).fail_traffic_on_panic
    extension = {"policies": [policy("round_robin.v3.RoundRobin", locality_lb_config=zone_aware)]}
    assert decoded(load_balancing_policy=extension).fail_traffic_on_panic


def test_zone_settings_in_both_places() -> None:
    assert decoded().zone_aware == ZoneAware(100, 6, 0, False)
    said = {"routing_enabled": {"value": 57.0}, "min_cluster_size": 3}
    # In Envoy's arithmetic 57 % is 56.
    assert decoded(common_lb_config={"zone_aware_lb_config": said}).zone_aware == ZoneAware(56, 3)
    for more, force in (
        ({"force_locality_direct_routing": True}, 1),
        ({"force_locality_direct_routing": True, "force_local_zone": {"min_size": 4}}, 4),
        ({"force_local_zone": {}}, 1),
    ):
        config = {"zone_aware_lb_config": {**more, "locality_basis": "HEALTHY_HOSTS_WEIGHT", "routing_enabled": {}}}
        one = decoded(
            load_balancing_policy={"policies": [policy("random.v3.Random", locality_lb_config=config)]},
        )
        assert (one.zone_aware, one.warnings) == (ZoneAware(0, 6, force, True), ())
    wrong = {"zone_aware_lb_config": {"routing_enabled": {"value": 100.5}}}
    assert "routing_enabled is 100.5" in rejected(common_lb_config=wrong)


def test_slow_start_in_both_places_and_what_switches_it_off() -> None:
    config = {
        "slow_start_config": {
            "slow_start_window": "1.5s",
            "aggression": {"default_value": 2.0, "runtime_key": "k"},
            "min_weight_percent": {"value": 25.0},
        }
    }
    assert decoded(round_robin_lb_config=config).slow_start == SlowStart(1500, 2.0, 25.0)
    extension = {"policies": [policy("least_request.v3.LeastRequest", **config)]}
    assert decoded(load_balancing_policy=extension).slow_start == SlowStart(1500, 2.0, 25.0)
    window = {"slow_start_window": "60s"}
    assert decoded(round_robin_lb_config={"slow_start_config": window}).slow_start == SlowStart(60_000, 1.0, 10.0)
    # As in Envoy: present and empty is 0, and what is no aggression is the default.
    odd = {**window, "min_weight_percent": {}, "aggression": {"default_value": -1.0, "runtime_key": "k"}}
    assert decoded(round_robin_lb_config={"slow_start_config": odd}).slow_start == SlowStart(60_000, 1.0, 0.0)
    assert decoded(round_robin_lb_config={"slow_start_config": {}}).slow_start is None
    assert decoded(lb_policy="LEAST_REQUEST", round_robin_lb_config=config).slow_start is None
    with pytest.raises(XdsError, match="min_weight_percent is 101"):
        decoded(round_robin_lb_config={"slow_start_config": {**window, "min_weight_percent": {"value": 101.0}}})
    with pytest.raises(XdsError, match="slow_start_window is -1s"):
        decoded(round_robin_lb_config={"slow_start_config": {"slow_start_window": "-1s"}})


def test_present_but_empty_panic_threshold_is_zero() -> None:
    assert decoded(common_lb_config={"healthy_panic_threshold": {}}).healthy_panic_threshold_percent == 0


def test_outlier_detection_defaults_and_values() -> None:
    assert decoded().outlier_detection is None
    assert decoded(outlier_detection={}).outlier_detection == OutlierDetection()
    one = decoded(
        outlier_detection={
            "consecutive_5xx": 1,
            "interval": "1s",
            "base_ejection_time": "600s",
            "enforcing_success_rate": 0,
            "split_external_local_origin_errors": True,
            "max_ejection_time_jitter": "2s",
            "successful_active_health_check_uneject_host": False,
            "always_eject_one_host": True,
        }
    ).outlier_detection
    # Without a maximum of its own the longer of 300 s and the base counts.
    assert one == OutlierDetection(
        consecutive_5xx=1,
        interval_s=1.0,
        base_ejection_time_s=600.0,
        max_ejection_time_s=600.0,
        max_ejection_time_jitter_s=2.0,
        enforcing_success_rate=0,
        split_external_local_origin_errors=True,
        always_eject_one_host=True,
        successful_active_health_check_uneject_host=False,
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"connect_timeout": "-1s"}, "connect_timeout is -1s, must be above 0s"),
        ({"connect_timeout": "0s"}, "connect_timeout is 0s, must be above 0s"),
        ({"common_lb_config": {"healthy_panic_threshold": {"value": 101.0}}}, "healthy_panic_threshold is 101.0"),
        ({"common_lb_config": {"healthy_panic_threshold": {"value": float("nan")}}}, "healthy_panic_threshold is nan"),
        ({"lb_policy": "LEAST_REQUEST", "least_request_lb_config": {"choice_count": 1}}, "choice_count is 1"),
        ({"outlier_detection": {"interval": "0s"}}, "interval is 0s"),
        ({"outlier_detection": {"max_ejection_percent": 101}}, "max_ejection_percent is 101, must be at most 100"),
        ({"outlier_detection": {"max_ejection_time": "1s"}}, "max_ejection_time is shorter than base_ejection_time"),
        (
            {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 20, "maximum_ring_size": 10}},
            "ring hash: minimum_ring_size (20) > maximum_ring_size (10)",
        ),
        (
            # Envoy's default minimum is 1024.
            {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"maximum_ring_size": 1000}},
            "ring hash: minimum_ring_size (1024) > maximum_ring_size (1000)",
        ),
        (
            {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 8388609}},
            "minimum_ring_size is 8388609, must be at most 8388608",
        ),
        (
            {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"hash_function": 7}},
            "hash_function 7 is not known",
        ),
        (
            {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 8}},
            "The table size of maglev must be prime number: table_size is 8",
        ),
        (
            {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 5000012}},
            "table_size is 5000012, must be at most 5000011",
        ),
        (
            {
                "lb_policy": "MAGLEV",
                "common_lb_config": {"consistent_hashing_lb_config": {"hash_balance_factor": 99}},
            },
            "hash_balance_factor is 99, must be at least 100",
        ),
        (
            {"load_balancing_policy": {"policies": [policy("ring_hash.v3.RingHash", maximum_ring_size=0)]}},
            "ring hash: minimum_ring_size (1024) > maximum_ring_size (0)",
        ),
        (
            {"common_lb_config": {"consistent_hashing_lb_config": {"hash_balance_factor": 1}}},
            "hash_balance_factor is 1",
        ),
        (
            {"common_lb_config": {"consistent_hashing_lb_config": {"use_hostname_for_hashing": True}}},
            "use_hostname_for_hashing of common_lb_config is for STRICT_DNS only, not for type EDS",
        ),
        *(
            (
                {"load_balancing_policy": {"policies": [policy("maglev.v3.Maglev")]}, "common_lb_config": {name: {}}},
                f"load_balancing_policy cannot be combined with common_lb_config.{name}",
            )
            for name in ("locality_weighted_lb_config", "consistent_hashing_lb_config")
        ),
        (
            {"load_balancing_policy": {"policies": [policy("maglev.v3.Maglev")]}, "lb_subset_config": {}},
            "load_balancing_policy cannot be combined with lb_subset_config",
        ),
        ({"lb_policy": "LOAD_BALANCING_POLICY_CONFIG"}, "lb_policy LOAD_BALANCING_POLICY_CONFIG"),
        ({"lb_policy": 77}, "lb_policy 77 is not supported"),
        ({"lb_subset_config": {"subset_selectors": [{}]}}, "a selector has no keys"),
        ({"type": 9}, "cluster type 9 is not supported"),
        ({"cluster_type": {}}, "cluster_type  is not supported"),
        ({"load_balancing_policy": {}}, "load_balancing_policy holds no known policy"),
        (
            {"load_balancing_policy": {"policies": [policy("wrr_locality.v3.WrrLocality", **{"@value": b""})]}},
            "lb_policy wrr_locality.v3.WrrLocality",
        ),
        (
            {"load_balancing_policy": {"policies": [policy("pick_first.v3.PickFirst", **{"@value": b""})]}},
            "load_balancing_policy holds no known policy",
        ),
    ],
)
def test_rejections_name_the_reason(fields: dict[str, Any], reason: str) -> None:
    assert reason in rejected(**fields)


def test_random_is_selected_by_either_field() -> None:
    assert decoded(lb_policy="RANDOM").lb_policy == "RANDOM"
    weighted = policy("random.v3.Random", locality_lb_config={"locality_weighted_lb_config": {}})
    one = decoded(load_balancing_policy={"policies": [weighted]})
    assert (one.lb_policy, one.locality_weighted, one.warnings) == ("RANDOM", True, ())


def test_hashing_policies_have_envoys_defaults() -> None:
    assert decoded().hashing is None
    assert decoded(lb_policy="RING_HASH").hashing == decoded(lb_policy="MAGLEV").hashing == Hashing()


def test_settings_of_hashing_policies() -> None:
    common = {
        "consistent_hashing_lb_config": {"hash_balance_factor": 150},
        "locality_weighted_lb_config": {},
    }
    ring = {"minimum_ring_size": 7, "maximum_ring_size": 9, "hash_function": "MURMUR_HASH_2"}
    one = decoded(lb_policy="RING_HASH", ring_hash_lb_config=ring, common_lb_config=common)
    assert one.hashing == Hashing("MURMUR_HASH_2", 7, 9, balance_factor=150)
    assert (one.locality_weighted, one.warnings) == (True, ())
    named = assignment("x", [locality_endpoints("", [endpoint("db.example", 80)])])
    common = {"consistent_hashing_lb_config": {"use_hostname_for_hashing": True}}
    one = decoded(type="STRICT_DNS", load_assignment=named, lb_policy="RING_HASH", common_lb_config=common)
    assert one.hashing == Hashing(use_hostname=True)
    maglev = decoded(lb_policy="MAGLEV", maglev_lb_config={"table_size": 251})
    assert (maglev.hashing, maglev.locality_weighted) == (Hashing(table_size=251), False)


def test_settings_of_hashing_extensions() -> None:
    shared = {"use_hostname_for_hashing": True, "hash_balance_factor": 120}
    ring = policy(
        "ring_hash.v3.RingHash",
        hash_function="MURMUR_HASH_2",
        minimum_ring_size=3,
        use_hostname_for_hashing=True,
        hash_balance_factor=110,
        locality_weighted_lb_config={},
    )
    one = decoded(load_balancing_policy={"policies": [ring]})
    assert one.lb_policy == "RING_HASH"
    assert one.hashing == Hashing("MURMUR_HASH_2", 3, balance_factor=110, use_hostname=True)
    assert one.locality_weighted
    # The message that both policies share wins over the fields that RingHash had before.
    ring = policy("ring_hash.v3.RingHash", hash_balance_factor=110, consistent_hashing_lb_config={})
    assert decoded(load_balancing_policy={"policies": [ring]}).hashing == Hashing()
    maglev = policy("maglev.v3.Maglev", table_size=7, consistent_hashing_lb_config=shared)
    one = decoded(load_balancing_policy={"policies": [maglev]})
    assert (one.lb_policy, one.locality_weighted) == ("MAGLEV", False)
    assert one.hashing == Hashing(table_size=7, balance_factor=120, use_hostname=True)
    spoken = policy("maglev.v3.Maglev", consistent_hashing_lb_config={"hash_policy": [b""]})
    (warning,) = decoded(load_balancing_policy={"policies": [spoken]}).warnings
    assert warning.startswith("consistent_hashing_lb_config.hash_policy: only tcp_proxy.hash_policy")


def test_settings_of_least_request() -> None:
    bias = {"default_value": 0.5, "runtime_key": "of a runtime that nobody sets"}
    one = decoded(lb_policy="LEAST_REQUEST", least_request_lb_config={"active_request_bias": bias})
    assert (one.least_request_bias, one.least_request_full_scan, one.warnings) == (0.5, False, ())
    nothing = {"active_request_bias": {"runtime_key": "k"}}
    assert decoded(lb_policy="LEAST_REQUEST", least_request_lb_config=nothing).least_request_bias == 0.0
    # As in Envoy, a bias that cannot be is that of the default.
    below = {"active_request_bias": {"default_value": -2.0, "runtime_key": "k"}}
    assert decoded(lb_policy="LEAST_REQUEST", least_request_lb_config=below).least_request_bias == 1.0
    for scan in ({"selection_method": "FULL_SCAN"}, {"enable_full_scan": True}):
        scanning = policy("least_request.v3.LeastRequest", **scan)
        one = decoded(load_balancing_policy={"policies": [scanning]})
        assert (one.least_request_full_scan, one.warnings) == (True, ())


def test_policies_that_envoy_does_not_know_are_passed_over() -> None:
    unknown = policy("pick_first.v3.PickFirst", **{"@value": b""})
    assert decoded(load_balancing_policy={"policies": [unknown, policy("maglev.v3.Maglev")]}).lb_policy == "MAGLEV"


def test_eds_without_its_config_and_clusters_without_name_are_rejected() -> None:
    with pytest.raises(XdsError, match="CDS c rejected: type EDS without eds_cluster_config"):
        decode_cluster(encode("envoy.config.cluster.v3.Cluster", {"name": "c", "type": "EDS"}))
    with pytest.raises(XdsError, match="CDS rejected: no name"):
        decode_cluster(b"")


def test_broken_bytes_are_rejected_by_name() -> None:
    with pytest.raises(XdsError, match=f"CDS {NAME} rejected: malformed message"):
        decode_cluster(cluster(NAME) + b"\x0b")


def test_policy_extensions_win_over_the_enum() -> None:
    extensions = [
        {"typed_extension_config": {"name": "unheard", "typed_config": {"@type": "x/y.Z", "@value": b""}}},
        policy("least_request.v3.LeastRequest", choice_count=4, locality_lb_config={"locality_weighted_lb_config": {}}),
        policy("round_robin.v3.RoundRobin"),
    ]
    one = decoded(lb_policy="RING_HASH", load_balancing_policy={"policies": extensions})
    assert (one.lb_policy, one.least_request_choice_count, one.locality_weighted) == ("LEAST_REQUEST", 4, True)
    one = decoded(
        load_balancing_policy={"policies": [policy("round_robin.v3.RoundRobin")]},
        common_lb_config={"healthy_panic_threshold": {"value": 1.0}},
    )
    assert (one.lb_policy, one.locality_weighted, one.healthy_panic_threshold_percent) == ("ROUND_ROBIN", False, 1)


@pytest.mark.parametrize(
    ("fields", "warning"),
    [
        (
            {"upstream_bind_config": {"socket_options": [{"level": 6, "name": 13, "int_value": 1}]}},
            "upstream_bind_config.socket_options: level 6, name 13 (no description) is not set",
        ),
        (
            {"filters": [field(1, b"envoy.filters.network.upstream.other")]},
            "upstream filter envoy.filters.network.upstre",
        ),
        (
            {
                "upstream_bind_config": {},
                "health_checks": [
                    {
                        "timeout": "1s",
                        "interval": "1s",
                        "unhealthy_threshold": 1,
                        "healthy_threshold": 1,
                        "grpc_health_check": {},
                    }
                ],
            },
            "upstream_bind_config: checks by gRPC come from where the kernel chooses",
        ),
    ],
)
def test_what_is_not_honoured_is_warned_about(fields: dict[str, Any], warning: str) -> None:
    (found,) = decoded(**fields).warnings
    assert warning in found


def test_limit_per_endpoint_is_the_first_of_the_default_priority() -> None:
    def limits(**fields: Any) -> CircuitBreakers:
        return decoded(circuit_breakers=fields).circuit_breakers

    high, low = {"priority": "HIGH", "max_connections": 3}, {"max_connections": 5}
    assert limits(per_host_thresholds=[high, low, {"max_connections": 6}]) == CircuitBreakers(
        max_connections_per_endpoint=5
    )
    both = limits(thresholds=[{"max_connections": 7}], per_host_thresholds=[low])
    assert (both.max_connections, both.max_connections_per_endpoint) == (7, 5)
    assert limits(per_host_thresholds=[{}]) == limits() == CircuitBreakers()
    assert limits(per_host_thresholds=[{"max_connections": 0}]).max_connections_per_endpoint == 0


@pytest.mark.parametrize("field", ["max_pending_requests", "max_requests", "max_retries", "max_connection_pools"])
def test_other_limits_per_endpoint_are_refused(field: str) -> None:
    with pytest.raises(XdsError, match=f"per_host_thresholds: {field} is not supported"):
        decoded(circuit_breakers={"per_host_thresholds": [{field: 1}]})


def test_inert_upstream_filters_and_unused_fields_are_silent() -> None:
    one = decoded(filters=[field(1, b"istio.metadata_exchange")], metadata=b"\x0a\x00", cleanup_interval="5s")
    assert one.warnings == ()


def test_unknown_fields_are_warned_about() -> None:
    assert decode_cluster(cluster(NAME) + b"\xc8\x3e\x01").warnings == ("#1001: unknown field",)


def test_static_cluster_has_its_endpoints() -> None:
    inline = assignment("ignored", [locality_endpoints("r", [endpoint("127.0.0.1", 80)])])
    one = decoded(type="STATIC", load_assignment=inline)
    assert one.load_assignment is not None
    assert [row.address for row in rows_of(one.load_assignment.columns)] == ["127.0.0.1"]
    assert one.assignment_name == ""
    bad = assignment("ignored", [locality_endpoints("r", [endpoint("localhost", 80)])])
    assert "must be an IP address, not 'localhost'" in rejected(type="STATIC", load_assignment=bad)


def test_original_destination_has_no_endpoints_of_its_own() -> None:
    kind = {"type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"}
    one = decoded(**kind)
    assert one.load_assignment is one.dns is None
    assert (one.upstream_port_override, one.warnings) == (0, ())
    config = {"upstream_port_override": 8080, "use_http_header": True, "metadata_key": b""}
    one = decoded(**kind, original_dst_lb_config=config)
    assert one.upstream_port_override == 8080
    assert [warning.partition(":")[0] for warning in one.warnings] == ["original_dst_lb_config.use_http_header"]
    provided = {"policies": [policy("cluster_provided.v3.ClusterProvided", **{"@value": b""})]}
    assert decoded(type="ORIGINAL_DST", load_balancing_policy=provided).lb_policy == "CLUSTER_PROVIDED"
    inline = assignment("x", [locality_endpoints("", [endpoint("10.0.0.1", 80)])])
    assert rejected(**kind, load_assignment=inline) == "load_assignment: an ORIGINAL_DST cluster has none"
    port = {"upstream_port_override": 70000}
    assert "upstream_port_override is 70000" in rejected(**kind, original_dst_lb_config=port)


def test_policy_of_the_cluster_belongs_to_original_destination_alone() -> None:
    assert "does not go with cluster type ORIGINAL_DST" in rejected(type="ORIGINAL_DST")
    assert "does not go with cluster type EDS" in rejected(lb_policy="CLUSTER_PROVIDED")


def test_dns_clusters_have_names_and_no_assignment_yet() -> None:
    named = assignment("x", [locality_endpoints("", [endpoint("db.example", 80)])])
    one = decoded(type="STRICT_DNS", load_assignment=named, dns_refresh_rate="7s")
    assert one.dns is not None
    assert (one.load_assignment, one.dns.targets, one.dns.refresh_rate_s) == (None, (("db.example", 80),), 7.0)
    assert (one.dns.first_only, one.warnings) == (False, ())
    logical = decoded(type="LOGICAL_DNS", load_assignment=named).dns
    assert logical is not None
    assert logical.first_only
    hashed = {"type": "STRICT_DNS", "load_assignment": named, "lb_policy": "MAGLEV"}
    assert decoded(**hashed).lb_policy == "MAGLEV"
    assert "table_size is 4" in rejected(**hashed, maglev_lb_config={"table_size": 4})


def test_dns_cluster_extension_holds_the_settings() -> None:
    named = assignment("x", [locality_endpoints("", [endpoint("db.example", 80)])])
    url = "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster"
    config = {"@type": url, "dns_refresh_rate": "9s", "dns_lookup_family": "UNSPECIFIED"}
    # Settings of the cluster itself are for the older types.
    given = {"load_assignment": named, "dns_refresh_rate": "7s"}
    raw = {"name": NAME, "cluster_type": {"name": "envoy.clusters.dns", "typed_config": config}, **given}
    one = decode_cluster(encode("envoy.config.cluster.v3.Cluster", raw))
    assert one.dns is not None
    assert (one.type, one.dns.refresh_rate_s, one.dns.lookup_family) == ("STRICT_DNS", 9.0, "AUTO")
    raw["cluster_type"] = {"name": "x", "typed_config": {**config, "all_addresses_in_single_endpoint": True}}
    assert decode_cluster(encode("envoy.config.cluster.v3.Cluster", raw)).type == "LOGICAL_DNS"
    raw["cluster_type"] = {"name": "envoy.clusters.aggregate"}
    with pytest.raises(XdsError, match=r"cluster_type envoy.clusters.aggregate is not supported"):
        decode_cluster(encode("envoy.config.cluster.v3.Cluster", raw))


def test_tls_to_endpoints_is_told() -> None:
    raw_buffer = field(1, b"envoy.transport_sockets.raw_buffer")
    assert decoded().upstream_tls == decoded(transport_socket=raw_buffer).upstream_tls == PLAIN
    unknown = decoded(transport_socket=field(1, b"envoy.transport_sockets.tls")).upstream_tls
    assert unknown.mesh == unknown.others
    assert unknown.mesh is not None
    assert unknown.mesh.refusal == "transport socket envoy.transport_sockets.tls is not spoken"


def test_equality_ignores_bytes() -> None:
    assert decoded() == decoded(metadata=b"\x0a\x00")
    assert decoded() != decoded(connect_timeout="1s")
