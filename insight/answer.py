"""Everything that `eastgate explain` says about one cluster: shares, findings, what-if, failover runway. As data."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from difflib import get_close_matches
from typing import Any

from eastgate.xds.record import record

from .cluster_model import ClusterModel, CompiledModel, ProxyModel, compile_model
from .duplicates import duplicates_of, merged
from .errors import DumpError, InsightError
from .explain import Explanation, explain
from .findings import Finding, cluster_findings
from .runway import Runway, runways
from .so_far import SoFar, so_far
from .what_if import apply_outages, parse_outages


@record
class Answer:
    """Everything that is said about one cluster. ``after`` is None without a what-if; ``runways`` go on from there."""

    source: str
    before: Explanation
    findings: tuple[Finding, ...]
    runways: tuple[Runway, ...]
    duplicates: str
    changes: tuple[str, ...] = ()
    after: Explanation | None = None
    so_far: tuple[SoFar, ...] = ()


def find_cluster(models: Sequence[ProxyModel], name: str) -> tuple[ProxyModel, ClusterModel]:
    """The cluster of that name, in the first proxy that has it. Raises DumpError with the nearest names."""
    for proxy in models:
        if name in proxy.clusters:
            return proxy, proxy.clusters[name]
    known = [cluster for proxy in models for cluster in proxy.clusters]
    holding = [cluster for cluster in known if name and name in cluster]
    near = (holding or get_close_matches(name, known, n=3, cutoff=0.4))[:3]
    where = ", ".join(proxy.source for proxy in models)
    hint = f"; did you mean {' or '.join(near)}?" if near else f"; it has {len(known)} clusters, none alike"
    raise DumpError(f"unknown cluster {name!r} in {where}{hint}")


def compiled_cluster(proxy: ProxyModel, model: ClusterModel) -> CompiledModel:
    """Raises DumpError for a cluster that has no shares to explain."""
    if not model.endpoints and not proxy.has_endpoints:
        raise DumpError(
            f"{proxy.source}: the config_dump has no endpoints: take it with /config_dump?include_eds, or add /clusters"
        )
    try:
        return compile_model(model)
    except ValueError as error:
        raise DumpError(f"{model.name}: no shares to explain: {error}") from None


def answer(proxy: ProxyModel, model: ClusterModel, *, what_if: Sequence[str], duplicates: str) -> Answer:
    """Explain the cluster. Raises InsightError."""
    found = compiled_cluster(proxy, model)
    # What is wrong with the cluster is wrong however duplicates are counted.
    findings = cluster_findings(found, proxy.node)
    if duplicates == "sum" and duplicates_of(model):
        found = compiled_cluster(proxy, merged(model))
    said = Answer(proxy.source, explain(found), findings, (), duplicates, so_far=so_far(model.endpoints))
    if not what_if:
        return replace(said, runways=runways(found))
    try:
        outages = parse_outages(what_if)
        after = apply_outages(found, outages)
    except ValueError as error:
        raise InsightError(f"--what-if: {error}") from None
    return replace(said, changes=tuple(map(str, outages)), after=explain(after), runways=runways(after))


def answer_json(said: Answer) -> dict[str, Any]:
    """The answer as JSON; shares are between 0 and 1."""
    shown: dict[str, Any] = asdict(replace(said.before, endpoints=()))
    shown["endpoints"] = [one._asdict() for one in said.before.endpoints]
    shown["duplicates"] = said.duplicates
    if said.after:
        shown["what_if"] = {
            "changes": list(said.changes),
            "refused": said.after.refused,
            "refused_share": said.after.refused_share,
            "priorities": [asdict(one) for one in said.after.priorities],
            "endpoints": [
                {**then._asdict(), "share_before": now.share}
                for now, then in zip(said.before.endpoints, said.after.endpoints, strict=True)
            ],
        }
    shown["runway"] = [asdict(one) for one in said.runways]
    shown["so_far"] = [asdict(one) for one in said.so_far]
    shown["findings"] = [asdict(one) for one in said.findings]
    return shown
