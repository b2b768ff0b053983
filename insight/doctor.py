"""Why failover or cross-network traffic cannot work: the rules of findings.py over all clusters, and those that need
more than one cluster or more than one proxy to see. Prints nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches

from .cluster_model import ClusterModel, CompiledModel, ProxyModel, compile_model, sni_dnat_name
from .findings import Finding, cluster_findings
from .routing_rules import behind_gateways, emptied_locality, other_networks_pods, routed_without_endpoints, same_match

ProxyRule = Callable[[ProxyModel], Iterator[Finding]]
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
            one.name if one.kind == "CDS" else "",
            f"{one.kind} {one.name}: {one.reason}",
            "the proxy did not accept what istiod sent; its last good version, if there was one, is still in use",
            "change the resource behind it (DestinationRule, Gateway, EnvoyFilter) so that it is accepted",
        )


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


def no_remote_member(proxy: ProxyModel) -> Iterator[Finding]:
    """Of services whose pods could be reached from elsewhere, those that no other network has a gateway entry for."""
    if proxy.node is not None and proxy.node.type == "router":
        return
    outbound = [
        model for model in proxy.clusters.values() if model.name.startswith("outbound|") and not model.service[1]
    ]
    with_remote = [model.name for model in outbound if any(model.gateways())]
    if not with_remote:
        return
    for model in outbound:
        # Endpoints without mTLS could not be reached through a gateway in any case: no service that spans networks.
        if model.name in with_remote or not any(endpoint.tls_mode for endpoint in model.endpoints):
            continue
        yield Finding(
            "no-remote-member",
            "warning",
            model.name,
            f"{len(model.endpoints)} local endpoints, no gateway; {len(with_remote)} other services have one"
            f" ({with_remote[0]})",
            "likely one of: the service or its pods do not exist there, pods there have no sidecar (no mTLS), the"
            " service is clusterLocal, the gateway's hosts leave it out, or a remote secret does not reach that"
            " namespace",
            "compare the service in both clusters; nothing to do where it is meant to be local",
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


def connections_refused(proxy: ProxyModel) -> Iterator[Finding]:
    for cluster, evidence in noticed(proxy, "refused"):
        yield Finding(
            "connections-refused",
            "error",
            cluster,
            evidence,
            "eastgate accepted the resource and refuses its connections; no fallback takes them",
            "change what makes istiod send it (Gateway, AuthorizationPolicy, EnvoyFilter); docs/xds-support.md says"
            " what is served",
        )


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
    network_view_missing,
    unknown_cluster,
    rejected_resource,
    warming_cluster,
    no_remote_member,
    connections_refused,
    not_honoured,
    routed_without_endpoints,
    emptied_locality,
    same_match,
)


# Names of everything that can be found, which --ignore may name.
RULE_NAMES = frozenset(
    {
        "connections-refused",
        "duplicate-address",
        "ejection-cap",
        "emptied-locality",
        "empty-locality",
        "gateway-hostname",
        "gateway-lacks-cluster",
        "gateway-without-tls",
        "locality-weights-ignored",
        "network-view-missing",
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
        "remote-weight-counts-unready",
        "remote-without-mtls",
        "routed-without-endpoints",
        "same-match",
        "settings-unknown",
        "single-gateway",
        "sni-cluster-holds-gateway",
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


def healthy_weight(model: ClusterModel) -> tuple[int, int]:
    """(weight of healthy endpoints, weight of all)"""
    good = sum(one.weight for one in model.endpoints if not one.failed and one.health in ("UNKNOWN", "HEALTHY"))
    return good, sum(one.weight for one in model.endpoints)


def remote_weight(proxies: Sequence[ProxyModel]) -> Iterator[Finding]:
    """Clients' weight of a gateway beside what that gateway knows to be healthy; needs dumps of both."""
    gateways = {
        proxy.node.cluster_id: proxy
        for proxy in proxies
        if proxy.node is not None and proxy.node.type == "router" and proxy.node.cluster_id
    }
    for client in proxies:
        if client.node is None or client.node.type == "router":
            continue
        for model in client.clusters.values():
            for endpoint in model.gateways():
                remote = gateways.get(endpoint.cluster_id)
                behind = remote.clusters.get(sni_dnat_name(model)) if remote else None
                # Weights are scaled by the number of gateways, so only parts can be compared.
                if behind is None or not behind.endpoints:
                    continue
                good, total = healthy_weight(behind)
                if good < total:
                    yield Finding(
                        "remote-weight-counts-unready",
                        "error" if good == 0 else "warning",
                        model.name,
                        f"{endpoint.address} (cluster {endpoint.cluster_id}) has weight {endpoint.weight} and health"
                        f" {endpoint.health}; behind it {good} of {total} by weight are healthy",
                        "istiod counts pods that are not ready in their gateway's weight and passes on no health:"
                        " clients of other networks send as much as before"
                        + (", and the gateway refuses all of it" if good == 0 else ""),
                        "PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS=false on the remote istiod, or minHealthPercent above 0"
                        " in the DestinationRule, takes pods that are not ready out of the weight",
                    )


def is_echo(model: ClusterModel, proxy: ProxyModel) -> bool:
    """Whether a gateway has an SNI-DNAT cluster with the same endpoints: what is found need not be said twice."""
    twin = proxy.clusters.get(sni_dnat_name(model))
    return twin is not None and not model.sni_dnat and twin.endpoints == model.endpoints


def examine(proxies: Sequence[ProxyModel]) -> tuple[Finding, ...]:
    """Everything found in these proxies, errors first, then in the order of the rules."""
    found: list[Finding] = []
    for proxy in proxies:
        found += [finding for rule in PROXY_RULES for finding in rule(proxy)]
        for model in proxy.clusters.values():
            compiled = compiled_or_none(model) if model.endpoints and not is_echo(model, proxy) else None
            if compiled is not None:
                found += cluster_findings(compiled, proxy.node)
    for compared in (remote_weight, behind_gateways, other_networks_pods):
        found += compared(proxies)
    return tuple(sorted(dict.fromkeys(found), key=lambda finding: (finding.severity != "error", finding.rule)))
