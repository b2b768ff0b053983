"""What keeps connections from an endpoint although a route leads there: rules over one proxy. Rules only; doctor.py
runs them.
"""

from collections.abc import Iterator

from eastgate.xds.record import record

from .cluster_model import ClusterModel, ProxyModel
from .findings import Finding, name_localities

# What istiod keeps inside each cluster: nobody looks for these from a proxy that cannot see them.
LOCAL_HOSTS = ("kubernetes.default.svc.", "istiod.istio-system.svc.")


def is_system(host: str) -> bool:
    """Whether a host is the cluster's own."""
    return host.startswith(LOCAL_HOSTS) or ".kube-system.svc." in host


def is_router(proxy: ProxyModel) -> bool:
    """Whether a proxy is a gateway, by what its node says of itself."""
    return proxy.node is not None and proxy.node.type == "router"


def routed_clusters(proxy: ProxyModel) -> dict[str, str]:
    """Clusters that a chain leads to, with the first such chain."""
    found: dict[str, str] = {}
    for chain in proxy.chains:
        for name in chain.clusters:
            found.setdefault(name, f"{chain.listener} {chain.name}".strip())
    return found


NO_MTLS = (
    "a PeerAuthentication (portLevelMtls) or the DestinationRule's tls is DISABLE for this port, or the pods have no"
    " sidecar"
)
TAKE_MTLS = "take DISABLE away for this port, or inject the sidecar; nothing, where nobody comes from other networks"


@record
class Emptied:
    """Why a cluster has no endpoints. ``by_rule``: a subset, a distribute rule or mTLS took them away; else istiod
    knows none.
    """

    cause: str
    fix: str
    by_rule: bool = True


def why_empty(model: ClusterModel, *, whole: bool) -> Emptied:
    """Why an assignment has no endpoints, by what istiod leaves in it; ``model`` has none.

    ``whole``: whether the service's cluster without the subset has some. A distribute rule leaves an emptied locality
    its weight, missing mTLS leaves it none, and labels that nobody has leave no locality.
    """
    _, subset, host = model.service
    if any(one.weight for one in model.localities):
        return Emptied(
            "a distribute rule names none of the localities where the endpoints are, and so istiod removed them",
            name_localities((one.locality for one in model.localities), host),
        )
    if model.localities and model.sni_dnat:
        return Emptied(f"the pods take no mTLS: {NO_MTLS}", TAKE_MTLS)
    if model.localities:
        return Emptied(
            "the endpoints are in another network and accept no mTLS: no sidecar, or TLS is DISABLE for them",
            "look at PeerAuthentication and the DestinationRule's tls for this port, and at the pods' sidecars",
        )
    # What a gateway has for others is in its own network.
    where = " in this gateway's network" if model.sni_dnat else ""
    if subset and whole:
        return Emptied(
            f"no endpoint of the service{where} has the labels of subset {subset}",
            f"compare the labels of subset {subset} in the DestinationRule of {host} with those of the pods",
        )
    return Emptied(
        f"istiod knows no endpoint{where}: no pod is selected, none has the port, or all are cluster local elsewhere",
        f"kubectl get endpointslices for {host or model.name} in each cluster",
        by_rule=False,
    )


def named_localities(model: ClusterModel) -> str:
    """The localities that istiod left in an assignment without endpoints; empty where it left none."""
    return ", ".join(str(one.locality) or "(no locality)" for one in model.localities)


def routed_without_endpoints(proxy: ProxyModel) -> Iterator[Finding]:
    """Clients route to what they use, and so do routes of gateways.

    What a gateway has for other networks (SNI-DNAT) is there for everything, and rightly nothing behind some of it.
    """
    if not proxy.has_endpoints:
        return
    router = is_router(proxy)
    for name, chain in routed_clusters(proxy).items():
        model = proxy.clusters.get(name)
        if model is None or model.endpoints or model.warming or model.type != "EDS" or not model.configured:
            continue
        if router and model.sni_dnat:
            continue
        port, _, host = model.service
        if is_system(host):
            continue
        service = proxy.clusters.get(f"outbound|{port}||{host}")
        why = why_empty(model, whole=service is not None and bool(service.endpoints))
        places = named_localities(model)
        yield Finding(
            "routed-without-endpoints",
            # Nothing is wrong with a service that was scaled to nothing.
            "error" if why.by_rule else "warning",
            name,
            f"{chain} leads here; no endpoints" + (f", emptied: {places}" if places else ""),
            f"connections are refused: {why.cause}",
            why.fix,
        )


def gateway_without_endpoints(proxy: ProxyModel) -> Iterator[Finding]:
    """A gateway of which every chain leads to nobody: some may be empty, all of them are a network of another name."""
    node = proxy.node
    if node is None or not is_router(proxy) or not proxy.has_endpoints:
        return
    models = [proxy.clusters.get(name) for name in routed_clusters(proxy)]
    known = [model for model in models if model is not None and model.type == "EDS" and model.configured]
    # A single service may well live in other clusters alone.
    if len(known) < 2 or any(model.endpoints or model.warming for model in known):
        return
    yield Finding(
        "gateway-without-endpoints",
        "error",
        "",
        f"{node.id}: chains lead to {len(known)} clusters, and none has an endpoint;"
        f" NETWORK {node.network or '(empty)'}, REQUESTED_NETWORK_VIEW {node.network_view or '(empty)'}",
        "every connection is refused: istiod knows nobody in a network of that name, or nobody there has a sidecar",
        "kubectl get namespace istio-system --show-labels: topology.istio.io/network is what this gateway has to say"
        " (eastgate: --network)",
    )


def same_match(proxy: ProxyModel) -> Iterator[Finding]:
    """Envoy refuses a listener two of whose chains match the same, the whole of it."""
    seen: dict[tuple[str, str], str] = {}
    told: set[str] = set()
    for chain in proxy.chains:
        key = (chain.listener, chain.match)
        if not chain.match or key not in seen:
            seen[key] = chain.name
        elif chain.listener not in told:
            told.add(chain.listener)
            yield Finding(
                "same-match",
                "error",
                "",
                f"listener {chain.listener}: chains {seen[key] or '(unnamed)'} and {chain.name or '(unnamed)'} match"
                f" the same: {chain.match}",
                "Envoy rejects the whole listener: nothing of it is served, or its last good version is",
                "take one of the two away: two servers of Gateways, or two routes, are for the same hosts and port",
            )


def silent_listener(proxy: ProxyModel) -> Iterator[Finding]:
    """Listeners that are accepted and do not listen, as eastgate's /listeners says."""
    for one in proxy.silent_listeners:
        yield Finding(
            "listener-silent",
            "error",
            "",
            f"listener {one.name}" + (f" at {one.address}" if one.address else "") + f": {one.reason}",
            "the configuration is accepted and nobody can connect: the address could not be bound",
            "free the address or grant what is missing; eastgate tries again by itself, at least every 30 s",
        )
