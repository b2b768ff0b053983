"""Random filter chains of all criteria: the compiled table beside the slow model."""

import os
import random
from collections.abc import Iterator
from itertools import product
from typing import Any

from eastgate.fastpath.match.chains import ChainSpec
from eastgate.fastpath.match.facts import Observed
from eastgate.fastpath.match.route_table import RouteTable

from ..oracle import filter_chain
from ..oracle.random_chains import CONVEYED, PORTS, PROTOCOLS, Asked, packed, random_chains, random_hello

TABLES = 400
CONNECTIONS = 60


def spec_of(chain: dict[str, Any]) -> ChainSpec:
    return ChainSpec(
        name=str(chain["name"]),
        destination_port=chain["destination_port"],
        destination_prefixes=tuple(map(packed, chain["destination_prefixes"])),
        server_names=tuple(chain["server_names"]),
        transport_protocol=chain["transport_protocol"],
        application_protocols=tuple(chain["application_protocols"]),
        direct_source_prefixes=tuple(map(packed, chain["direct_source_prefixes"])),
        source_type=chain["source_type"],
        source_prefixes=tuple(map(packed, chain["source_prefixes"])),
        source_ports=tuple(chain["source_ports"]),
        targets=((0, 1),),
    )


def criteria(chain: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """All that a chain is taken by: a value of each field, None where it names none."""
    values = [chain[field] for field in sorted(filter_chain.FIELDS - {"name"})]
    return product(*[(one if isinstance(one, list) else [one]) or [None] for one in values])


def clash(chains: list[dict[str, Any]]) -> bool:
    """Whether two chains have equal criteria."""
    seen: set[tuple[Any, ...]] = set()
    for chain in chains:
        own = set(criteria(chain))
        if own & seen:
            return True
        seen |= own
    return False


def compiled(rng: random.Random) -> tuple[list[dict[str, Any]], RouteTable]:
    """Chains no two of which have equal criteria, and their table."""
    while True:
        chains = random_chains(rng, rng.randint(1, 10))
        # Equal criteria of two chains are refused, and nothing else is here.
        if not clash(chains):
            return chains, RouteTable.compile([spec_of(chain) for chain in chains])


def random_connection(rng: random.Random) -> Asked:
    tls, name, protocols = random_hello(rng)
    source = rng.choice(CONVEYED)
    return Asked(
        destination=rng.choice((*CONVEYED, "")),
        destination_port=rng.choice((*PORTS, 8080)),
        source=source,
        source_port=rng.choice((*PORTS, 5000)),
        direct_source=rng.choice((source, rng.choice(CONVEYED))),
        tls=tls,
        server_name=name,
        # Without TLS: what an HTTP inspector found.
        application_protocols=protocols or tuple(rng.sample(PROTOCOLS, rng.randint(0, 1))),
    )


def expected(chains: list[dict[str, Any]], asked: Asked) -> int | None:
    found = filter_chain.match(
        chains,
        port=asked.destination_port,
        destination=asked.destination or filter_chain.NO_ADDRESS,
        sni=asked.server_name,
        transport="tls" if asked.tls else "raw_buffer",
        alpn=asked.application_protocols,
        direct_source=asked.direct_source,
        source=asked.source,
        source_port=asked.source_port,
    )
    return None if found is None else int(found)


def test_every_connection_takes_the_chain_of_the_model() -> None:
    seed = int(os.environ.get("EASTGATE_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"EASTGATE_SEED={seed}")
    rng = random.Random(seed)
    seen: dict[int | None, int] = {}
    for _ in range(TABLES):
        chains, table = compiled(rng)
        for _ in range(CONNECTIONS):
            asked = random_connection(rng)
            wanted = expected(chains, asked)
            found = table.match(Observed(**{field: getattr(asked, field) for field in asked.__dataclass_fields__}))
            assert (found if found >= 0 else None) == wanted, f"EASTGATE_SEED={seed}: {asked} of {chains}"
            seen[wanted] = seen.get(wanted, 0) + 1
    # They do meet: neither nearly all nor nearly none find a chain, and not always the same.
    assert 0.2 < seen[None] / sum(seen.values()) < 0.8
    assert len(seen) > 8
