"""Why failover or cross-network traffic cannot work: the rules of findings.py over all clusters, and those that need
more than one cluster or more than one proxy to see. Prints nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches

from .at_risk import AtRisk, Risks
from .cluster_model import ClusterModel, CompiledModel, ProxyModel, compile_model, sni_dnat_name
from .findings import Finding, cluster_findings
from .gateway_rules import (
    behind_gateways,
    emptied_for_clients,
    no_remote_member,
    other_networks_pods,
    remote_weight,
    same_network,
    sni_override,
    suspected_pods,
)
from .routing_rules import (
    gateway_without_endpoints,
    is_router,
    routed_clusters,
    routed_without_endpoints,
    same_match,
    silent_listener,
)

ProxyRule = Callable[[ProxyModel], Iterator[Finding]]
ComparedRule = Callable[[ProxyModel, Sequence[ProxyModel]], Iterator[Finding]]
# Clusters that Envoy makes up for chains that lead nowhere by name.
BUILT_IN = ("BlackHoleCluster", "PassthroughCluster", "InboundPassthroughCluster")


def network_view_missing(proxy: ProxyModel) -> Iterator[Finding]:
    node = proxy.node
    if node is not None and node.type == "router" and node.network and not node.network_view:
        yield Finding(
            "network-view-missing",
            "error",
            "",
            f"{node.id}: NETWORK {node.network}, REQUESTED_NETWORK_VIEW empty",
            "without a view istiod sends a gateway the endpoints of all networks: connections from one network are"
            " handed on to another gateway instead of a pod",
            f"set ISTIO_META_REQUESTED_NETWORK_VIEW={node.network} (eastgate: --network-view) on the gateway",
            f"env: [{{name: ISTIO_META_REQUESTED_NETWORK_VIEW, value: {node.network}}}]",
        )


def unknown_cluster(proxy: ProxyModel) -> Iterator[Finding]:
    if not proxy.has_configuration:
        return
    missing: dict[str, list[str]] = {}
    for chain in proxy.chains:
        for name in chain.clusters:
            if name not in proxy.clusters and name not in BUILT_IN:
                missing.setdefault(name, []).append(f"{chain.listener} {chain.name}".strip())
    for name, chains in missing.items():
        near = get_close_matches(name, proxy.clusters, n=1, cutoff=0.8)
        yield Finding(
            "unknown-cluster",
            "error",
            name,
            f"named by {chains[0]}{f' and {len(chains) - 1} more chains' if len(chains) > 1 else ''}; CDS has no such"
            f" cluster{f', nearest is {near[0]}' if near else ''}",
            "connections of these chains are refused: the cluster was rejected, or a DestinationRule lacks the subset"
            " that a route names",
            "look for a rejected cluster in this report, and compare the route's subset with the DestinationRule",
        )


def rejected_resource(proxy: ProxyModel) -> Iterator[Finding]:
    for one in proxy.rejected:
        yield Finding(
            "rejected-resource",
            "error",
            one.name if one.kind in ("CDS", "EDS") else "",
            f"{one.kind} {one.name}: {one.reason}",
            "the proxy did not accept what istiod sent, and there is no earlier version: nothing of it is served"
            if one.first
            else "the proxy did not accept what istiod sent; its last good version is still in use",
            "change the resource behind it (DestinationRule, Gateway, EnvoyFilter) so that it is accepted",
        )


def control_plane_away(proxy: ProxyModel) -> Iterator[Finding]:
    """Without this a proxy that has never got anything looks healthy: there is nothing in it to find."""
    evidence = f"no stream to istiod: {proxy.no_stream}"
    fix = "docs/control-plane.md#what-went-wrong has the likely cause of each reason"
    if proxy.no_stream and proxy.clusters:
        cause = "what changes in the mesh is not known here, and what was accepted last serves on"
        yield Finding("control-plane-away", "warning", "", evidence, cause, fix)
    elif proxy.no_stream:
        cause = "no configuration has come, so nothing is served"
        yield Finding("never-configured", "error", "", evidence, cause, fix)


def warming_cluster(proxy: ProxyModel) -> Iterator[Finding]:
    for model in proxy.clusters.values():
        if model.warming:
            yield Finding(
                "warming-cluster",
                "error",
                model.name,
                "in dynamic_warming_clusters",
                "istiod has not sent its endpoints yet, so connections to it are refused",
                "look at istiod's log and /debug/syncz for this proxy",
            )


def noticed(proxy: ProxyModel, sort: str) -> Iterator[tuple[str, str]]:
    """Of notices of a sort: the cluster, if it is about one, and evidence; a sentence about many is one."""
    same: dict[tuple[str, str], list[str]] = {}
    for one in proxy.notices:
        if one.sort == sort:
            same.setdefault((one.kind, one.text), []).append(one.name)
    for (kind, said), names in same.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield names[0] if kind == "CDS" else "", f"{kind} {names[0]}{more}: {said}"


# How `proxy/compile` ends what it says of a secret that is waited for.
WITHOUT_SECRET = "has not arrived"


def connections_refused(proxy: ProxyModel) -> Iterator[Finding]:
    for cluster, evidence in noticed(proxy, "refused"):
        cause = "eastgate accepted the resource and refuses its connections; no fallback takes them"
        fix = (
            "change what makes istiod send it (Gateway, AuthorizationPolicy, EnvoyFilter); docs/xds-support.md says"
            " what is served"
        )
        if evidence.endswith(WITHOUT_SECRET):
            cause = "eastgate has no certificate to speak TLS with, and refuses what needs one until it comes"
            fix = (
                "see sds_disconnected or certificate_refused in the proxy's log; --sds-socket, --ca-address or"
                " --workload-cert says where certificates come from"
            )
        yield Finding("connections-refused", "error", cluster, evidence, cause, fix)


def not_honoured(proxy: ProxyModel) -> Iterator[Finding]:
    for cluster, evidence in noticed(proxy, "not_honoured"):
        yield Finding(
            "not-honoured",
            "warning",
            cluster,
            evidence,
            "eastgate accepted the resource, and this part of it has no effect",
            "nothing, where the part does not matter; else change what makes istiod send it, see docs/xds-support.md",
        )


PROXY_RULES: tuple[ProxyRule, ...] = (
    control_plane_away,
    network_view_missing,
    unknown_cluster,
    rejected_resource,
    warming_cluster,
    connections_refused,
    not_honoured,
    routed_without_endpoints,
    gateway_without_endpoints,
    same_match,
    silent_listener,
    emptied_for_clients,
)
COMPARED_RULES: tuple[ComparedRule, ...] = (
    remote_weight,
    no_remote_member,
    behind_gateways,
    sni_override,
    same_network,
    other_networks_pods,
    suspected_pods,
)

# Names of everything that can be found, which --ignore may name.
RULE_NAMES = frozenset(
    {
        "connections-refused",
        "control-plane-away",
        "detour-in-network",
        "duplicate-address",
        "ejection-cap",
        "empty-locality",
        "gateway-hostname",
        "gateway-lacks-cluster",
        "gateway-without-endpoints",
        "gateway-without-tls",
        "listener-silent",
        "locality-weights-ignored",
        "network-view-missing",
        "never-configured",
        "never-ejected",
        "no-outlier-detection",
        "no-remote-member",
        "none-healthy",
        "not-honoured",
        "one-priority",
        "panic",
        "panic-threshold",
        "partial-distribute",
        "priority-gap",
        "rejected-resource",
        "remote-pods-direct",
        "remote-pods-suspected",
        "remote-weight-counts-unready",
        "remote-without-mtls",
        "routed-without-endpoints",
        "same-match",
        "settings-unknown",
        "single-gateway",
        "sni-cluster-holds-gateway",
        "sni-cluster-without-mtls",
        "sni-override",
        "unknown-cluster",
        "warming-cluster",
        "zero-weight",
    }
)


def compiled_or_none(model: ClusterModel) -> CompiledModel | None:
    """None for a cluster that has no shares to talk about, such as one of type ORIGINAL_DST."""
    try:
        return compile_model(model)
    except ValueError:
        return None


def is_echo(model: ClusterModel, proxy: ProxyModel) -> bool:
    """Whether a gateway has an SNI-DNAT cluster with the same endpoints: what is found need not be said twice."""
    twin = proxy.clusters.get(sni_dnat_name(model))
    return twin is not None and not model.sni_dnat and twin.endpoints == model.endpoints


def is_unrouted(model: ClusterModel, proxy: ProxyModel) -> bool:
    """Whether nobody can come to a client's cluster: routes lead to its subsets instead. False where routes are not
    known, as in a dump without them.
    """
    if is_router(proxy) or not proxy.http_clusters or not model.name.startswith("outbound|"):
        return False
    return model.name not in proxy.http_clusters and model.name not in routed_clusters(proxy)


def found_in(proxy: ProxyModel, proxies: Sequence[ProxyModel]) -> Iterator[Finding]:
    """Everything that is found in one proxy, by itself and beside the others."""
    for rule in PROXY_RULES:
        yield from rule(proxy)
    for model in proxy.clusters.values():
        asked = model.endpoints and not is_echo(model, proxy) and not is_unrouted(model, proxy)
        compiled = compiled_or_none(model) if asked else None
        if compiled is not None:
            yield from cluster_findings(compiled, proxy.node)
    for compared in COMPARED_RULES:
        yield from compared(proxy, proxies)


def examine(proxies: Sequence[ProxyModel]) -> tuple[Finding, ...]:
    """Everything found in these proxies: errors first, then by the traffic at risk, then by rule.

    One and the same finding in several proxies is one, with the names of all of them.
    """
    weighed: dict[Finding, list[tuple[str, AtRisk]]] = {}
    for proxy in proxies:
        risks = Risks(proxy)
        for finding in dict.fromkeys(found_in(proxy, proxies)):
            weighed.setdefault(finding, []).append((proxy.source, risks.of(finding)))
    found = [
        replace(
            finding,
            proxies=tuple(source for source, _ in places),
            # Of the mesh as far as it was looked at: proxies without this finding have none of its risk.
            now=sum(risk.now for _, risk in places) / len(proxies),
            reached=sum(risk.reached for _, risk in places) / len(proxies),
        )
        for finding, places in weighed.items()
    ]
    return tuple(sorted(found, key=lambda one: (one.severity != "error", -one.now, -one.reached, one.rule)))
