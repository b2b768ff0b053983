"""A gateway whose endpoints are pushed anew a hundred times a second: connections are shared out as if nothing was."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import count

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import ClusterLbPolicy
from envoy_data_plane.envoy.config.core.v3 import HealthStatus

from ..envoy.numbered import REFUSED, NumberedEndpoints, connect, host_of
from ..envoy.share_statistics import one_sample
from ..support import messages
from ..support.ads_thread import AdsThread
from ..support.gateway_process import Eastgate
from ..support.hellos import client_hello
from ..support.messages import At
from ..support.recordings import CDS, EDS, Resources

PUSH_S = 0.01
CONNECTIONS = 1500
LEAST_PUSHES = 40
NODE = "router~127.0.0.1~gateway.test~test.svc.cluster.local"
# For each of 96 endpoints: chance fails one run in ten million.
LEVEL = 1e-9
WEIGHTS = [100] * 6 + [10] * 10
DOWN = len(WEIGHTS)
POLICIES = {
    messages.sni("turns"): ClusterLbPolicy.ROUND_ROBIN,
    messages.sni("least"): ClusterLbPolicy.LEAST_REQUEST,
}


@pytest.fixture
def endpoints() -> Iterator[NumberedEndpoints]:
    with closing(NumberedEndpoints()) as made:
        yield made


def assignments(port: int, number: int) -> Resources:
    """What push `number` says: the same shares every time, by other weights and with or without one that is down."""
    members = [At((host_of(n), port), weight=weight * (1 + number % 7)) for n, weight in enumerate(WEIGHTS)]
    if number % 2:
        members.append(At((host_of(DOWN), port), HealthStatus.UNHEALTHY))
        # Where an endpoint stands in the message decides nothing either.
        random.Random(number).shuffle(members)
    return {EDS: {name: messages.assignment(name, members) for name in POLICIES}}


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_shares_hold_while_endpoints_are_pushed(endpoints: NumberedEndpoints, workers: int) -> None:
    resources = messages.resources({name: [] for name in POLICIES})
    resources[CDS] = {name: messages.cluster(name, lb_policy=policy) for name, policy in POLICIES.items()}
    resources |= assignments(endpoints.port, 0)
    over = threading.Event()
    with (
        closing(AdsThread(resources)) as control,
        Eastgate(control.address, "--node-id", NODE, "--workers", str(workers)) as gateway,
    ):
        gateway.wait_ready()
        port = gateway.bound_address(messages.LISTENER)[1]

        def churn() -> None:
            for number in count(1):
                if over.wait(PUSH_S):
                    return
                control.push(EDS, assignments(endpoints.port, number)[EDS])

        churning = threading.Thread(target=churn)
        churning.start()
        found: list[Counter[int]] = [Counter() for _ in POLICIES]
        taken = 0
        try:
            while not taken or applied(control) < LEAST_PUSHES:
                hellos = [client_hello(name) for name in POLICIES]
                for position, counts in enumerate(connect([port], hellos, CONNECTIONS)[0]):
                    found[position] += counts
                taken += CONNECTIONS
        finally:
            over.set()
            churning.join()
        assert not [one.error for one in control.settled() if one.error]
    for counts in found:
        assert counts[REFUSED] == counts[DOWN] == 0
        for number, weight in enumerate(WEIGHTS):
            p = one_sample(counts[number], taken, weight / sum(WEIGHTS))
            assert p > LEVEL, f"endpoint {number}: {counts}, p {p}"


def applied(control: AdsThread) -> int:
    """How many pushes the gateway has acknowledged."""
    return max(int(one.acked_version.removeprefix("v") or 0) for one in control.status() if one.type_url == EDS)
