"""Numbers and texts at their limits, from bytes of a response to a published table: in range, or rejected by name."""

from collections.abc import Iterator
from math import inf, nan
from typing import Any

import pytest
from eastgate.xds.decode import CDS, EDS, LDS
from eastgate.xds.fields import CHOICES_MAX, LONGEST_S
from eastgate.xds.message import encode

from ..support.control_side import GOOD, ControlSide, packed
from ..xds import istiod as build

NAME = "outbound_.80_._.probe.svc"
LONGEST = "315576000000s"
UINT32 = 2**32 - 1
UINT64 = 2**64 - 1
RR = {"least_request_lb_config": {}, "lb_policy": "ROUND_ROBIN"}


@pytest.fixture(scope="module")
def control() -> Iterator[ControlSide]:
    with ControlSide() as control:
        yield control


def static(**fields: Any) -> bytes:
    value = {"type": "STATIC", "eds_cluster_config": {}, "load_assignment": endpoints(build.endpoint("127.0.0.1"))}
    return build.cluster(NAME, **{**value, **fields})


def endpoints(*lb_endpoints: bytes, **more: bytes) -> bytes:
    return build.assignment(NAME, [build.locality_endpoints("r", lb_endpoints)], **more)


def pushed(control: ControlSide, type_url: str, payload: bytes) -> tuple[str, ...]:
    """Why a resource beside the good ones is rejected, if it is; the good route serves whatever it is."""
    rejected = control.push(type_url, "v", [packed(type_url, control.good[type_url]), packed(type_url, payload)])
    assert control.serves()
    return tuple(f"{one.name}: {one.reason}" for one in rejected)


DURATIONS = {
    "connect_timeout": lambda text: {"connect_timeout": text},
    "slow_start_window": lambda text: {
        "lb_policy": "ROUND_ROBIN",
        "round_robin_lb_config": {"slow_start_config": {"slow_start_window": text}},
    },
    "interval": lambda text: {"outlier_detection": {"interval": text}},
    "base_ejection_time": lambda text: {
        "outlier_detection": {"base_ejection_time": text, "max_ejection_time": LONGEST}
    },
    "max_ejection_time_jitter": lambda text: {"outlier_detection": {"max_ejection_time_jitter": text}},
    "timeout": lambda text: {"health_checks": [check(timeout=text)]},
    "no_traffic_interval": lambda text: {"health_checks": [check(no_traffic_interval=text)]},
    "interval_jitter": lambda text: {"health_checks": [check(interval_jitter=text)]},
}


def check(**fields: Any) -> dict[str, Any]:
    value = {
        "timeout": "1s",
        "interval": "1s",
        "unhealthy_threshold": 1,
        "healthy_threshold": 1,
        "tcp_health_check": {},
    }
    return {**value, **fields}


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize("text", ["0.000000001s", "4294967s", "4294967.295s", "4294967.296s", "4294968s", LONGEST])
def test_durations_of_clusters_are_brought_into_range(control: ControlSide, name: str, text: str) -> None:
    assert pushed(control, CDS, static(**DURATIONS[name](text))) == ()
    assert control.compiler.clusters[NAME].table is not None


@pytest.mark.parametrize("name", DURATIONS)
def test_negative_durations_of_clusters_are_rejected_by_name(control: ControlSide, name: str) -> None:
    for text in ("-0.000000001s", "-4294968s", f"-{LONGEST}"):
        (reason,) = pushed(control, CDS, static(**DURATIONS[name](text)))
        assert reason.startswith(f"{NAME}: {name} is {text}, must be")


def raw_duration(seconds: int, nanos: int) -> bytes:
    return build.number_field(1, seconds & UINT64) + build.number_field(2, nanos & UINT64)


@pytest.mark.parametrize(
    ("seconds", "nanos"), [(315_576_000_001, 0), (1, 1_000_000_000), (1, -1), (2**63 - 1, 0), (-1, 1)]
)
def test_durations_that_protobuf_does_not_have_are_rejected(control: ControlSide, seconds: int, nanos: int) -> None:
    # connect_timeout is field 4 of a Cluster; the last value wins.
    (reason,) = pushed(control, CDS, static(connect_timeout="1s") + build.field(4, raw_duration(seconds, nanos)))
    assert reason.startswith(f"{NAME}: malformed message: not a valid duration")


CHAIN_DURATIONS = ("idle_timeout", "max_downstream_connection_duration")


@pytest.mark.parametrize("text", ["0s", "0.000000001s", "4294967.296s", "4294968s", LONGEST])
def test_durations_of_listeners_are_brought_into_range(control: ControlSide, text: str) -> None:
    chain = build.chain(GOOD, filters=[build.tcp_proxy(GOOD, **dict.fromkeys(CHAIN_DURATIONS, text))])
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    payload = build.listener("probe", [chain], address=address, listener_filters_timeout=text)
    assert pushed(control, LDS, payload) == ()
    # It listens: the engine took the timeout too.
    (bound,) = control.listeners.open["probe"].bound.values()
    assert (bound.error, bound.number is not None) == ("", True)
    assert control.compiler.listeners["probe"].listener.listener_filters_timeout_s <= LONGEST_S


NUMBERS: list[tuple[dict[str, Any], str]] = [
    ({"circuit_breakers": {"thresholds": [{"max_connections": UINT32, "max_pending_requests": UINT32}]}}, ""),
    ({"circuit_breakers": {"per_host_thresholds": [{"max_connections": UINT32}]}}, ""),
    (
        {
            "upstream_connection_options": {
                "tcp_keepalive": dict.fromkeys(("keepalive_probes", "keepalive_time", "keepalive_interval"), UINT32)
            }
        },
        "",
    ),
    ({"outlier_detection": {"consecutive_5xx": UINT32, "success_rate_stdev_factor": UINT32}}, ""),
    ({"outlier_detection": {"max_ejection_percent": 101}}, "outlier_detection.max_ejection_percent is 101"),
    ({"lb_policy": "LEAST_REQUEST", "least_request_lb_config": {"choice_count": UINT32}}, ""),
    ({"lb_policy": "LEAST_REQUEST", "least_request_lb_config": {"choice_count": 1}}, "choice_count is 1"),
    ({"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 8388609}}, "minimum_ring_size is 8388609"),
    (
        {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"maximum_ring_size": UINT64}},
        f"maximum_ring_size is {UINT64}",
    ),
    ({"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 5000011}}, ""),
    ({"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 5000012}}, "table_size is 5000012"),
    ({"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": UINT64}}, f"table_size is {UINT64}"),
    (
        {"common_lb_config": {"consistent_hashing_lb_config": {"hash_balance_factor": UINT32}}, "lb_policy": "MAGLEV"},
        "",
    ),
    ({"common_lb_config": {"zone_aware_lb_config": {"min_cluster_size": UINT64}}}, ""),
    ({"common_lb_config": {"zone_aware_lb_config": {"routing_enabled": {"value": nan}}}}, "routing_enabled is nan"),
    ({"common_lb_config": {"zone_aware_lb_config": {"routing_enabled": {"value": inf}}}}, "routing_enabled is inf"),
    ({"common_lb_config": {"healthy_panic_threshold": {"value": nan}}}, "healthy_panic_threshold is nan"),
    ({"common_lb_config": {"healthy_panic_threshold": {"value": 100.1}}}, "healthy_panic_threshold is 100.1"),
    ({"common_lb_config": {"healthy_panic_threshold": {"value": 5e-324}}}, ""),
    ({"health_checks": [check(unhealthy_threshold=UINT32, interval_jitter_percent=UINT32)]}, ""),
    ({"health_checks": [check(http_health_check={"path": "/", "response_buffer_size": UINT64})]}, ""),
    ({"health_checks": [check(http_health_check={"path": "/a\r\nb"})]}, "path /a\\r\\nb holds control characters"),
    ({"alt_stat_name": "a\nb"}, "alt_stat_name a\\nb holds control characters"),
]
BIASES = {
    "least_request_lb_config": ("active_request_bias", {"lb_policy": "LEAST_REQUEST"}),
    "round_robin_lb_config": ("aggression", {"lb_policy": "ROUND_ROBIN"}),
}


@pytest.mark.parametrize(("fields", "reason"), NUMBERS)
def test_numbers_and_texts_of_clusters(control: ControlSide, fields: dict[str, Any], reason: str) -> None:
    found = pushed(control, CDS, static(**fields))
    if not reason:
        assert found == ()
        assert control.compiler.clusters[NAME].table is not None
    else:
        assert len(found) == 1
        assert found[0].startswith(NAME)
        assert reason in found[0]


@pytest.mark.parametrize("value", [0.0, 5e-324, 1e308, -1.0, nan, inf, -inf])
@pytest.mark.parametrize("message", BIASES)
def test_doubles_are_finite(control: ControlSide, message: str, value: float) -> None:
    name, more = BIASES[message]
    config: dict[str, Any] = {name: {"default_value": value, "runtime_key": "k"}}
    if name == "aggression":
        config = {"slow_start_config": {"slow_start_window": "10s", **config}}
    found = pushed(control, CDS, static(**more, **{message: config}))
    finite = value == value and abs(value) != inf
    assert found == (() if finite else (f"{NAME}: {name} is {value}, must be a finite number",))
    if finite:
        table = control.compiler.clusters[NAME].table
        assert table is not None
        assert [table.pick() for _ in range(3)] == [0, 0, 0]


def test_choices_beyond_what_helps_do_not_hold_up_a_worker(control: ControlSide) -> None:
    fields = {"lb_policy": "LEAST_REQUEST", "least_request_lb_config": {"choice_count": UINT32}}
    two = endpoints(build.endpoint("127.0.0.1"), build.endpoint("127.0.0.2"))
    assert pushed(control, CDS, static(load_assignment=two, **fields)) == ()
    assert control.store.snapshot.clusters[NAME].least_request_choice_count == CHOICES_MAX
    table = control.compiler.clusters[NAME].table
    assert table is not None
    assert table.spin(100) == 100


ENDPOINTS: list[tuple[bytes, str]] = [
    (endpoints(build.endpoint("127.0.0.1", 65535)), ""),
    (endpoints(build.endpoint("127.0.0.1", 65536)), "an endpoint's port is above 65535"),
    (endpoints(build.endpoint("127.0.0.1", weight=UINT32)), ""),
    (endpoints(build.endpoint("127.0.0.1", weight=UINT32), build.endpoint("127.0.0.2")), "sum past 2^32-1"),
    (endpoints(build.endpoint("127.0.0.1"), policy=build.field(3, build.number_field(1, UINT32))), ""),
    (endpoints(build.endpoint("127.0.0.1"), policy=build.field(3, b"")), "overprovisioning_factor is 0"),
    (build.assignment(NAME, [build.locality_endpoints("r", [], priority=128)]), "a priority is above 127"),
    (build.assignment(NAME, [build.locality_endpoints("r", [], weight=UINT32)] * 2), ""),
    (endpoints(build.field(1, build.field(1, build.field(2, build.field(1, b"/" + b"a" * 106))))), ""),
    (
        endpoints(build.field(1, build.field(1, build.field(2, build.field(1, b"/" + b"a" * 107))))),
        "longer than 107 bytes",
    ),
    (endpoints(build.field(1, build.field(1, build.field(2, build.field(1, b"/a\0b"))))), "or holds NUL"),
    (endpoints(build.field(1, build.field(1, build.field(2, build.field(1, b"@a\0b"))))), ""),
]


@pytest.mark.parametrize(("assignment", "reason"), ENDPOINTS)
def test_numbers_and_paths_of_assignments(control: ControlSide, assignment: bytes, reason: str) -> None:
    assert pushed(control, CDS, build.cluster(NAME)) == ()
    rejected = control.push(EDS, "v", [packed(EDS, assignment)])
    assert control.serves()
    assert [one.name for one in rejected] == ([NAME] if reason else [])
    assert all(reason in one.reason for one in rejected)


@pytest.mark.parametrize("port", [65535, 65536, UINT32])
def test_port_of_an_endpoints_own_check(control: ControlSide, port: int) -> None:
    # Endpoint.health_check_config is its field 2, port_value field 1 of that.
    socket_address = build.field(1, build.socket_address("127.0.0.1", 80))
    endpoint = build.field(1, socket_address + build.field(2, build.number_field(1, port)))
    assert pushed(control, CDS, build.cluster(NAME, health_checks=[check()])) == ()
    rejected = control.push(EDS, "v", [packed(EDS, endpoints(endpoint))])
    reason = f"health_check_config: port_value is {port}, must be at most 65535"
    assert [one.reason for one in rejected] == ([] if port == 65535 else [reason])


def listening(**fields: Any) -> bytes:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    return build.listener("probe", [build.chain(GOOD, **fields)], address=address)


LISTENERS: list[tuple[dict[str, Any], str]] = [
    ({"filters": [build.tcp_proxy("a\0b")], "filter_chain_match": {"server_names": ["*a*"]}}, "'*a*'"),
    ({"filters": [build.tcp_proxy("a\0b")]}, "tcp_proxy.cluster a\\x00b holds control characters"),
    ({"filters": [build.tcp_proxy(GOOD, stat_prefix="a\nb")]}, "stat_prefix a\\nb holds control characters"),
    ({"name": "a\nb"}, "name a\\nb holds control characters"),
    ({"filter_chain_match": {"server_names": ["a\0b"]}}, "server_names a\\x00b holds control characters"),
    ({"filter_chain_match": {"application_protocols": ["a\0b"]}}, "application_protocols a\\x00b holds"),
    ({"filter_chain_match": {"destination_port": 65535}}, ""),
    ({"filter_chain_match": {"destination_port": 65536}}, "destination_port is 65536, must be at most 65535"),
    ({"filters": [build.tcp_proxy(GOOD, max_connect_attempts=UINT32)]}, ""),
]


@pytest.mark.parametrize(("fields", "reason"), LISTENERS)
def test_numbers_and_texts_of_listeners(control: ControlSide, fields: dict[str, Any], reason: str) -> None:
    found = pushed(control, LDS, listening(**fields))
    assert len(found) == bool(reason)
    assert all(one.startswith("probe: ") and reason in one for one in found)


def test_weights_of_a_chain_sum_in_32_bits(control: ControlSide) -> None:
    for first, fits in ((UINT32 - 1, True), (UINT32, False)):
        weighted = {"clusters": [{"name": GOOD, "weight": first}, {"name": NAME, "weight": 1}]}
        proxy = build.tcp_proxy("", weighted_clusters=weighted)
        found = pushed(control, LDS, listening(filters=[proxy]))
        assert found == (() if fits else ("probe: tcp_proxy.weighted_clusters: weights sum past 2^32-1",))


def test_name_of_a_host_to_resolve_holds_no_control_characters(control: ControlSide) -> None:
    where = build.field(1, build.field(1, build.socket_address("a\0.example", 80)))
    found = pushed(control, CDS, static(type="STRICT_DNS", load_assignment=endpoints(where)))
    assert found == (f"{NAME}: load_assignment: the name a\\x00.example holds control characters",)


def test_fetch_timeout_and_staleness_are_times_that_a_timer_holds(control: ControlSide) -> None:
    config = encode("envoy.config.core.v3.ConfigSource", {"ads": b"", "initial_fetch_timeout": LONGEST})
    assert pushed(control, CDS, static()) == ()
    assert pushed(control, CDS, build.cluster(NAME, eds_cluster_config={"eds_config": config})) == ()
    assert control.store.seconds_to_deadline == LONGEST_S
    stale = build.field(4, build.number_field(1, 315_576_000_000))
    assert control.push(EDS, "v", [packed(EDS, endpoints(build.endpoint("127.0.0.1"), policy=stale))]) == ()
    assert (control.store.seconds_to_deadline or 0) > LONGEST_S
    control.now_s += LONGEST_S
    assert control.store.expire().ended == ()


DAMAGED_METADATA = build.endpoint("127.0.0.9") + build.field(3, b"\xff")
READERS = {
    "subsets": {"lb_subset_config": {"subset_selectors": [{"keys": ["stage"]}]}},
    "hash keys": {"lb_policy": "RING_HASH"},
}


@pytest.mark.parametrize("reader", READERS)
def test_damage_where_columns_do_not_look_keeps_the_last_good_assignment(control: ControlSide, reader: str) -> None:
    assert pushed(control, CDS, build.cluster(NAME, **READERS[reader])) == ()
    assert control.push(EDS, "v", [packed(EDS, endpoints(build.endpoint("127.0.0.1")))]) == ()
    # The word without which nobody looks for hash keys.
    damaged = endpoints(DAMAGED_METADATA + build.field(3, build.field(9, b"hash_key")))
    (rejection,) = control.push(EDS, "v", [packed(EDS, damaged)])
    assert rejection.name == NAME
    assert "malformed message" in rejection.reason
    assert control.faults() == []
    assert control.compiler.clusters[NAME].table is not None
    assert control.store.snapshot.assignments[NAME].columns.address[:4] == b"\x7f\0\0\1"
    assert control.serves()
