"""Outlier detection as the proxy runs it, from the counters of the workers on, beside the oracle.

Random settings, and random sequences of connects, intervals and updates of the endpoints.
"""

from dataclasses import asdict
from typing import Any

from eastgate.proxy.membership.endpoint_health import address_text, key_of
from eastgate.proxy.membership.outlier import EjectionType
from eastgate.xds.resources import Assignment, OutlierDetection
from hypothesis import given, settings
from hypothesis import strategies as st

from ..oracle import outlier as oracle
from ..proxy.compile.test_compiler import NAME, assignment, cluster
from ..proxy.membership.test_ejections import Proxy

HOSTS = 4
TIMES = ("interval_s", "base_ejection_time_s", "max_ejection_time_s", "max_ejection_time_jitter_s")

SETTINGS = st.builds(
    OutlierDetection,
    consecutive_5xx=st.integers(0, 3),
    consecutive_gateway_failure=st.integers(0, 3),
    consecutive_local_origin_failure=st.integers(0, 3),
    interval_s=st.sampled_from([1.0, 10.0]),
    base_ejection_time_s=st.sampled_from([1.0, 10.0, 15.0]),
    max_ejection_time_s=st.sampled_from([15.0, 40.0]),
    max_ejection_time_jitter_s=st.sampled_from([0.0, 3.0]),
    max_ejection_percent=st.sampled_from([100, 100, 50, 25, 10]),
    enforcing_consecutive_5xx=st.sampled_from([100, 50, 0]),
    enforcing_consecutive_gateway_failure=st.sampled_from([100, 50, 0]),
    enforcing_consecutive_local_origin_failure=st.sampled_from([100, 0]),
    enforcing_success_rate=st.sampled_from([100, 50, 0]),
    enforcing_local_origin_success_rate=st.sampled_from([100, 0]),
    enforcing_failure_percentage=st.sampled_from([100, 0]),
    enforcing_failure_percentage_local_origin=st.sampled_from([100, 0]),
    success_rate_minimum_hosts=st.integers(1, 5),
    success_rate_request_volume=st.integers(0, 4),
    success_rate_stdev_factor=st.sampled_from([0, 500, 1900]),
    failure_percentage_threshold=st.sampled_from([0, 40, 85, 100]),
    failure_percentage_minimum_hosts=st.integers(1, 5),
    failure_percentage_request_volume=st.integers(0, 4),
    split_external_local_origin_errors=st.booleans(),
    always_eject_one_host=st.sampled_from([False, False, True]),
)
# (host, connected, times), an interval, or the hosts that there are from now on.
EVENT = st.one_of(
    st.tuples(st.integers(0, HOSTS - 1), st.booleans(), st.integers(1, 4)),
    st.tuples(st.integers(0, 1), st.just(False), st.integers(1, 4)),
    st.just("tick"),
    st.just("tick"),
    st.lists(st.integers(0, HOSTS - 1), unique=True, min_size=1),
)


def address(number: int) -> str:
    return f"10.0.0.{number}"


def hosts_of(numbers: list[int]) -> Assignment:
    return assignment(*((address(number), 80) for number in numbers))


def draws() -> Any:
    """The same numbers for both."""
    state = 1
    while True:
        state = state * 6364136223846793005 + 1442695040888963407 & 0xFFFFFFFFFFFFFFFF
        yield state >> 33


def oracle_settings(detection: OutlierDetection) -> dict[str, int]:
    return {
        name.removesuffix("_s"): round(value * 1000) if name in TIMES else int(value)
        for name, value in asdict(detection).items()
    }


@given(SETTINGS, st.lists(EVENT, min_size=20, max_size=80))
@settings(max_examples=200)
def test_same_hosts_are_out_after_the_same_events(detection: OutlierDetection, events: list[Any]) -> None:
    one = cluster(outlier_detection=detection)
    numbers = list(range(HOSTS))
    product = Proxy(one, hosts_of(numbers), draws())
    model = oracle.Detector(oracle_settings(detection), draws())
    for number in numbers:
        model.add(address(number))
    for event in events:
        if event == "tick":
            product.wait(product.now + detection.interval_s)
            model.tick(round(product.now * 1000))
        elif isinstance(event, list):
            for number in numbers:
                if number not in event:
                    model.remove(address(number))
            # Envoy keeps its hosts in no order that could be told; ours is that of the message, kept ones included.
            kept = {address(number): model.hosts.get(address(number)) for number in event}
            model.hosts = {name: host or oracle.Host() for name, host in kept.items()}
            numbers = event
            product.apply(one, hosts_of(numbers))
        elif event[0] in numbers:
            for _ in range(event[2]):
                product.end(numbers.index(event[0]), event[1])
                product.ejections.take()
                if event[1]:
                    model.connected(address(event[0]))
                else:
                    model.failed(address(event[0]), round(product.now * 1000))
        compare(product, model)


def compare(product: Proxy, model: oracle.Detector) -> None:
    compiled = product.compiler.clusters[NAME]
    detector = product.ejections.detector(NAME)
    assert compiled.assignment is not None
    assert detector is not None
    keys = [key_of(compiled.assignment.columns, row) for row in range(compiled.assignment.columns.count)]
    out = {address_text(keys[row]).removesuffix(":80") for row in product.out}
    assert out == {name for name, host in model.hosts.items() if host.ejected}
    backoffs = {address_text(key).removesuffix(":80"): detector.backoff(key) for key in keys}
    assert backoffs == {name: host.backoff for name, host in model.hosts.items()}
    counters = product.ejections.counters[NAME]
    assert {kind.value: count for kind, count in counters.detected.items()} == model.detected
    assert {kind.value: count for kind, count in counters.enforced.items()} == model.enforced
    assert (counters.overflow, counters.active) == (model.overflow, len(out))


def test_kinds_are_those_of_the_oracle() -> None:
    assert {kind.value for kind in EjectionType} == set(oracle.KINDS)
