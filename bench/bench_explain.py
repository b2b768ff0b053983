"""What explaining costs. `python -P -m pytest bench/bench_explain.py`.

`explain` is what an operator waits for once the dump is read: compile, shares with reasons, findings, failover runway.
Target: 100 ms at 10,000 endpoints. `read` is the dump before that, `text` all of it up to printed JSON.
"""

import json
from typing import Any

import pytest
from eastgate.insight.answer import answer, answer_json
from eastgate.insight.read_dump import read_document

from tests.support import dumps

SIZES = (10, 1_000, 10_000)


def document(size: int) -> Any:
    """Three priorities of six zones, one endpoint in ten unhealthy."""
    members: dict[tuple[int, int], list[Any]] = {}
    for i, one in enumerate(dumps.places(size, unhealthy=size // 10)):
        members.setdefault((i % 3, i // 3 % 6), []).append(one)
    entries = [
        dumps.locality(f"region/zone-{zone}", each, priority=priority) for (priority, zone), each in members.items()
    ]
    return dumps.config_dump([dumps.cluster(outlier={})], [dumps.assignment(*entries)])


@pytest.mark.benchmark(group="explain: a compiled answer")
@pytest.mark.parametrize("size", SIZES)
def test_explain(benchmark: Any, size: int) -> None:
    proxy = read_document(document(size), "bench")
    model = proxy.clusters[dumps.NAME]
    benchmark.pedantic(lambda: answer(proxy, model, what_if=(), duplicates="envoy"), rounds=10, warmup_rounds=1)


@pytest.mark.benchmark(group="explain: with what-if")
@pytest.mark.parametrize("size", SIZES)
def test_what_if(benchmark: Any, size: int) -> None:
    proxy = read_document(document(size), "bench")
    model = proxy.clusters[dumps.NAME]
    outage = ("zone=zone-1",)
    benchmark.pedantic(lambda: answer(proxy, model, what_if=outage, duplicates="envoy"), rounds=10, warmup_rounds=1)


@pytest.mark.benchmark(group="explain: reading the dump")
@pytest.mark.parametrize("size", SIZES)
def test_read(benchmark: Any, size: int) -> None:
    text = json.dumps(document(size))
    benchmark.pedantic(lambda: read_document(json.loads(text), "bench"), rounds=10, warmup_rounds=1)


@pytest.mark.benchmark(group="explain: dump to JSON")
@pytest.mark.parametrize("size", SIZES)
def test_text(benchmark: Any, size: int) -> None:
    text = json.dumps(document(size))

    def whole() -> str:
        proxy = read_document(json.loads(text), "bench")
        said = answer(proxy, proxy.clusters[dumps.NAME], what_if=(), duplicates="envoy")
        return json.dumps(answer_json(said))

    benchmark.pedantic(whole, rounds=5, warmup_rounds=1)
