"""Whatever a dump file holds, reading it gives a model or DumpShapeError, and a model can be explained and examined."""

import copy
import json
import random
from typing import Any

from eastgate.insight.cluster_model import compile_model
from eastgate.insight.doctor import examine
from eastgate.insight.duplicates import merged
from eastgate.insight.explain import explain
from eastgate.insight.read_dump import DumpShapeError, read_documents
from eastgate.insight.runway import runways
from hypothesis import given, settings
from hypothesis import strategies as st

from ..support import dumps

ODD = (None, 0, -1, 128, 300, 1 << 32, 1.5, "", "x", "7", True, [], {}, [[]], {"value": 3}, [None], float("nan"))
RECORDED = [
    dumps.recorded_dump("3-one-not-ready", "anthos-sidecar"),
    dumps.recorded_dump("9-subsets", "anthos-gateway"),
    json.loads((dumps.ENVOY / "anthos-sidecar" / "clusters.json").read_text()),
]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside a document."""
    found: list[tuple[Any, Any]] = []
    pending = [value]
    while pending:
        one = pending.pop()
        for key in list(one) if isinstance(one, dict) else range(len(one)):
            found.append((one, key))
            if isinstance(one[key], (dict, list)):
                pending.append(one[key])
    return found


def interesting(document: Any) -> Any:
    """The parts that are read, so that changes hit them: less TLS, fewer listeners, no node."""
    kept = copy.deepcopy(document)
    for container, key in places(kept):
        if key in ("transport_socket_matches", "transport_socket", "stats", "access_log"):
            container[key] = {} if isinstance(container[key], dict) else []
        elif key in ("dynamic_listeners", "filter_chains"):
            container[key] = container[key][:2]
    return kept


BASES = [interesting(document) for document in RECORDED]


@given(st.integers(0, len(BASES) - 1), st.integers(0, 2**32), st.integers(1, 12))
@settings(max_examples=300, deadline=None)
def test_changed_dump_is_read_or_refused(base: int, seed: int, changes: int) -> None:
    rng = random.Random(seed)
    document = copy.deepcopy(BASES[base])
    for _ in range(changes):
        container, key = rng.choice(places(document) or [({"": 0}, "")])
        if rng.random() < 0.2:
            del container[key]
        else:
            container[key] = rng.choice(ODD)
    check([("changed", document)])


@given(st.recursive(st.sampled_from(ODD), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
@settings(max_examples=200, deadline=None)
def test_any_json_is_read_or_refused(document: Any) -> None:
    check([("any", document), ("configs", {"configs": document}), ("statuses", {"cluster_statuses": document})])


def check(documents: list[tuple[str, Any]]) -> None:
    for one in documents:
        try:
            proxies = read_documents([one])
        except DumpShapeError:
            continue
        examine(proxies)
        for proxy in proxies:
            for model in proxy.clusters.values():
                for each in (model, merged(model)):
                    try:
                        compiled = compile_model(each)
                    except ValueError:
                        continue
                    assert len(explain(compiled).endpoints) == len(each.endpoints)
                    runways(compiled)
