"""Random filter chains and connections for comparisons: few values each, so that they meet."""

import random
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

NAMES = ("a.test", "b.a.test", "c.b.a.test", "test")
WILDCARDS = ("*.test", "*.a.test", "*.b.a.test")
PROTOCOLS = ("h2", "http/1.1", "x", "y")
LOOPBACK = ("127.0.0.1", "127.0.0.2", "127.0.1.1", "127.0.1.2", "127.9.0.1")
CONVEYED = (
    *("10.1.2.3", "10.1.2.2", "10.1.9.9", "10.2.0.1", "192.0.2.1", "127.0.0.1", "127.0.0.2"),
    *("fd00::1", "fd00:1::1", "fd00:1::2", "2001:db8::5", "::1"),
)
PREFIXES = (
    *("127.0.0.0/8", "127.0.1.0/24", "127.0.1.0/31", "127.0.1.1/32", "127.0.0.2/31", "128.0.0.0/1"),
    *("10.0.0.0/8", "10.1.0.0/16", "10.1.2.2/31", "10.1.2.3/32", "192.0.0.0/4"),
    *("::/1", "::1/128", "fd00::/8", "fd00:1::/32", "fd00:1::/127", "2001:db8::/32"),
)
PORTS = (80, 443)
SOURCE_TYPES = ("SAME_IP_OR_LOOPBACK", "EXTERNAL")


@dataclass(frozen=True)
class Asked:
    """One connection; addresses as ipaddress writes them."""

    destination: str
    destination_port: int
    source: str
    source_port: int
    direct_source: str
    tls: bool
    server_name: str
    application_protocols: tuple[str, ...]


def packed(prefix: str) -> tuple[bytes, int]:
    """The prefix as a ChainSpec has it."""
    network = ip_network(prefix)
    return network.network_address.packed, network.prefixlen


def some(rng: random.Random, values: tuple[Any, ...], *, often: float) -> list[Any]:
    """A few of the values, or none."""
    return rng.sample(values, rng.randint(1, 3)) if rng.random() < often else []


def random_chains(rng: random.Random, count: int, *, source_ports: tuple[int, ...] = PORTS) -> list[dict[str, Any]]:
    """Chains in the oracle's form, numbered by name. Most of them name two or three of the fields."""
    often = rng.choice((0.1, 0.25, 0.5))
    # Some tables are about prefixes, some are not.
    prefixes = often * rng.choice((0, 0.5, 1, 2))
    return [
        {
            "name": number,
            "destination_port": rng.choice(PORTS) if rng.random() < often / 2 else 0,
            "destination_prefixes": some(rng, PREFIXES, often=prefixes),
            "server_names": some(rng, NAMES + WILDCARDS, often=often),
            "transport_protocol": rng.choice(("tls", "raw_buffer")) if rng.random() < often else "",
            "application_protocols": some(rng, PROTOCOLS, often=often),
            "direct_source_prefixes": some(rng, PREFIXES, often=prefixes / 2),
            "source_type": rng.choice(SOURCE_TYPES) if rng.random() < often else "ANY",
            "source_prefixes": some(rng, PREFIXES, often=prefixes),
            "source_ports": some(rng, source_ports * 2, often=often / 2)[:1],
        }
        for number in range(count)
    ]


def random_hello(rng: random.Random) -> tuple[bool, str, tuple[str, ...]]:
    """(TLS or not, server name, ALPN) of a client."""
    tls = rng.random() < 0.7
    name = rng.choice(("", "d.test", "x.b.a.test", "other", *NAMES)) if tls else ""
    return tls, name, tuple(rng.sample(PROTOCOLS, rng.randint(0, 3))) if tls else ()
