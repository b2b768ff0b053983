"""From peeked bytes to a filter chain. `python -P -m pytest bench/bench_route.py`.

Every round makes many calls from a native loop, as the engine does; `ns_each` in extra_info is the median round
divided by their number. Names are asked for in random order, so that a large table is not in the nearest cache.
"""

import random
from typing import Any

import pytest
from eastgate.fastpath.match import client_hello
from eastgate.fastpath.match.chains import ISTIO_ALPN, ChainSpec
from eastgate.fastpath.match.route_table import RouteTable

from tests.fastpath.match.hellos import in_records, message_of, real_hello
from tests.oracle import filter_chain

SIZES = (10, 1_000, 10_000)
# A round also lays out the names, 0.7 us each: 4 ns a call at 10,000 names.
CALLS = 2_000_000
OFFERED = ("istio-peer-exchange", "istio")
SERVICE = "outbound_.80_._.reviews.default.svc.cluster.local"


def chains(size: int) -> list[ChainSpec]:
    """Chains as istiod sends them, one for each service."""
    return [
        ChainSpec(
            name := f"outbound_.80_._.service-{number}.namespace-{number % 100}.svc.cluster.local",
            server_names=(name,),
            application_protocols=ISTIO_ALPN,
            targets=((number, 1),),
        )
        for number in range(size)
    ]


def in_random_order(size: int) -> list[str]:
    names = [chain.name for chain in chains(size)]
    random.Random(size).shuffle(names)
    return names


def measure(benchmark: Any, call: Any, *, calls: int = CALLS) -> None:
    benchmark.pedantic(call, args=(calls,), rounds=7, warmup_rounds=1)
    benchmark.extra_info["ns_each"] = round(benchmark.stats.stats.median / calls * 1e9, 2)


@pytest.mark.benchmark(group="route: exact server name and ALPN")
@pytest.mark.parametrize("size", SIZES)
def test_match(benchmark: Any, size: int) -> None:
    table, names = RouteTable.compile(chains(size)), in_random_order(size)
    assert table.spin(names, size, application_protocols=OFFERED) == size
    benchmark.extra_info["bytes_per_chain"] = round(table.memory() / size, 1)
    measure(benchmark, lambda calls: table.spin(names, calls, application_protocols=OFFERED))


@pytest.mark.benchmark(group="route: exact server name and ALPN")
@pytest.mark.parametrize("size", SIZES[:2])
def test_oracle(benchmark: Any, size: int) -> None:
    rows = [
        {"name": c.name, "server_names": c.server_names, "application_protocols": c.application_protocols}
        for c in chains(size)
    ]
    name = in_random_order(size)[0]
    measure(benchmark, lambda calls: [filter_chain.match(rows, sni=name, alpn=OFFERED) for _ in range(calls)], calls=5)


@pytest.mark.benchmark(group="route: exact server name and ALPN")
@pytest.mark.parametrize("size", SIZES)
def test_python_dict(benchmark: Any, size: int) -> None:
    """The floor for Python: one dict of names, ALPN not looked at."""
    table, names = {chain.name: chain for chain in chains(size)}, in_random_order(size)
    repeated = names * (200_000 // size)
    measure(benchmark, lambda calls: [table[name] for name in repeated], calls=200_000)


@pytest.mark.benchmark(group="route: unknown server name")
@pytest.mark.parametrize("wildcards", [0, 10])
def test_unknown_name(benchmark: Any, wildcards: int) -> None:
    more = [ChainSpec(f"w{n}", server_names=(f"*.zone-{n}.example",), targets=((0, 1),)) for n in range(wildcards)]
    table = RouteTable.compile([*chains(10_000), *more])
    names = [f"service-{number}.namespace.svc.cluster.example" for number in range(10_000)]
    measure(benchmark, lambda calls: table.spin(names, calls, application_protocols=OFFERED))


@pytest.mark.benchmark(group="route: compile")
@pytest.mark.parametrize("size", SIZES)
def test_compile(benchmark: Any, size: int) -> None:
    specs = chains(size)
    benchmark.pedantic(RouteTable.compile, args=(specs,), rounds=5, warmup_rounds=1)
    benchmark.extra_info["us_per_chain"] = round(benchmark.stats.stats.median / size * 1e6, 2)


@pytest.mark.benchmark(group="route: nearest known name")
def test_nearest(benchmark: Any) -> None:
    table = RouteTable.compile(chains(10_000))
    benchmark(table.nearest_server_name, "outbound_.80_.v1_.service-77.namespace-7.svc.cluster.local")


@pytest.mark.benchmark(group="parse: ClientHello")
@pytest.mark.parametrize("records", [1, 3])
def test_parse(benchmark: Any, records: int) -> None:
    message = message_of(real_hello(SERVICE, OFFERED))
    data = in_records(message, [len(message) * part // records for part in range(1, records)])
    assert client_hello.spin(data, 1) == 1
    benchmark.extra_info["bytes"] = len(data)
    measure(benchmark, lambda calls: client_hello.spin(data, calls))
