"""What a client sends through gateways, beside what stands behind them: rules over one client, and over the dumps that
there are of gateways. Rules only; doctor.py runs them.
"""

from collections.abc import Iterator, Mapping, Sequence

from .cluster_model import ClusterModel, Endpoint, ProxyModel, sni_dnat_name
from .findings import GOOD, MUTUAL, Finding
from .routing_rules import NO_MTLS, TAKE_MTLS, is_router, is_system, named_localities, routed_clusters

ALL_HOSTS = (
    "spec: {servers: [{port: {number: 15443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH},"
    ' hosts: ["*.local"]}]}'
)
# Ports that Istio's own gateways have, and other services have not.
GATEWAY_PORTS = ("15021", "15443")


def gateways_of(proxies: Sequence[ProxyModel]) -> dict[str, ProxyModel]:
    """The gateways that there are dumps of, by the Kubernetes cluster that they stand in."""
    return {one.node.cluster_id: one for one in proxies if is_router(one) and one.node and one.node.cluster_id}


def said_name(model: ClusterModel) -> str:
    """The server name that a client says to endpoints of the cluster that take mTLS."""
    return model.server_name or sni_dnat_name(model)


def healthy_weight(model: ClusterModel) -> tuple[int, int]:
    """(weight of healthy endpoints, weight of all)"""
    good = sum(one.weight for one in model.endpoints if not one.failed and one.health in GOOD)
    return good, sum(one.weight for one in model.endpoints)


def remote_weight(client: ProxyModel, proxies: Sequence[ProxyModel]) -> Iterator[Finding]:
    """A client's weight of a gateway beside what that gateway knows to be healthy; needs dumps of both."""
    gateways = gateways_of(proxies)
    if client.node is None or is_router(client) or not gateways:
        return
    for model in client.clusters.values():
        for endpoint in model.gateways():
            remote = gateways.get(endpoint.cluster_id)
            behind = remote.clusters.get(said_name(model)) if remote else None
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
                    "env: [{name: PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS, value: 'false'}]",
                    (endpoint.address,),
                )


def behind_gateways(client: ProxyModel, proxies: Sequence[ProxyModel]) -> Iterator[Finding]:
    """What a client sends through a gateway, beside what that gateway has; needs dumps of both."""
    gateways = gateways_of(proxies)
    if client.node is None or is_router(client) or not gateways:
        return
    routed = routed_clusters(client)
    for model in client.clusters.values():
        for endpoint in model.gateways():
            gateway = gateways.get(endpoint.cluster_id)
            # A name that no gateway could know is a finding of its own.
            if gateway is not None and gateway.has_configuration and said_name(model) == sni_dnat_name(model):
                yield from _compared(model, endpoint, gateway, routed)


def _compared(
    model: ClusterModel, endpoint: Endpoint, gateway: ProxyModel, routed: Mapping[str, str]
) -> Iterator[Finding]:
    name = sni_dnat_name(model)
    served = {one for chain in gateway.chains for one in (*chain.clusters, *chain.server_names)}
    if name in gateway.clusters and (name in served or not served):
        return
    port, subset, host = model.service
    where = f"the gateway of {endpoint.cluster_id}"
    others = sorted({one.service[0] for one in gateway.clusters.values() if one.service[2] == host})
    yaml = ""
    if subset and f"outbound_.{port}_._.{host}" in gateway.clusters:
        cause = f"{where} knows {host} and no subset {subset}: its cluster lacks the DestinationRule that defines it"
        fix = f"apply the DestinationRule with subset {subset} of {host} in cluster {endpoint.cluster_id} as well"
    elif name in gateway.clusters:
        cause = f"{where} has the cluster, and no filter chain for it: the hosts of its server leave it out"
        fix = "hosts: ['*.local'] in the AUTO_PASSTHROUGH server of the Gateway"
        yaml = ALL_HOSTS
    elif others:
        cause = f"{where} knows {host} with ports {', '.join(others)}, and not {port}"
        fix = f"give the Service {host} the port {port} in cluster {endpoint.cluster_id} as well"
        yaml = f"spec: {{ports: [{{name: tcp-{port}, port: {port}}}]}}"
    else:
        cause = f"{where} does not know the service {host}"
        fix = f"create the Service {host} and its namespace in cluster {endpoint.cluster_id} as well"
    yield Finding(
        "gateway-lacks-cluster",
        "error" if model.name in routed or not routed else "warning",
        model.name,
        f"{endpoint.address} has weight {endpoint.weight} here, and no chain for {name}",
        f"what goes through the gateway is refused: {cause}",
        fix,
        yaml,
        (endpoint.address,),
    )


def sni_override(client: ProxyModel, proxies: Sequence[ProxyModel]) -> Iterator[Finding]:
    """A server name of somebody's own, said to a gateway that routes by Istio's (istio#37134)."""
    del proxies
    if is_router(client):
        return
    for model in client.clusters.values():
        wanted = sni_dnat_name(model)
        if not wanted or model.sni_dnat or said_name(model) == wanted:
            continue
        ways = tuple(dict.fromkeys(one.address for one in model.gateways()))
        if ways:
            yield Finding(
                "sni-override",
                "error",
                model.name,
                f"says {model.server_name} to the gateway {', '.join(ways[:3])}, which routes {wanted}",
                "a gateway finds the service by the server name that Istio makes: with another one it refuses the"
                " connection",
                "take sni out of the DestinationRule's tls, for this host or port",
                MUTUAL,
                ways,
            )


def same_network(client: ProxyModel, proxies: Sequence[ProxyModel]) -> Iterator[Finding]:
    """Gateways that say they are in the client's own network; needs dumps of both."""
    if client.node is None or is_router(client) or not client.node.network:
        return
    here: dict[str, set[str]] = {}
    for one in proxies:
        if is_router(one) and one.node and one.node.cluster_id:
            here.setdefault(one.node.cluster_id, set()).add(one.node.network)
    for model in client.clusters.values():
        ways = {
            one.address: one.cluster_id
            for one in model.gateways()
            if here.get(one.cluster_id) == {client.node.network} and one.cluster_id != client.node.cluster_id
        }
        for address, cluster in ways.items():
            yield Finding(
                "detour-in-network",
                "warning",
                model.name,
                f"{address} is a gateway of cluster {cluster}, and its proxies say that they are in"
                f" {client.node.network}, where this client is",
                "the label topology.istio.io/network of the gateway's Service, or of the pods' namespace, differs from"
                " ISTIO_META_NETWORK of the proxies there: connections inside one network take a gateway",
                "give the Service, the namespace and the proxies of that cluster one network",
                f"metadata: {{labels: {{topology.istio.io/network: {client.node.network}}}}}",
                (address,),
            )


def no_remote_member(client: ProxyModel, proxies: Sequence[ProxyModel]) -> Iterator[Finding]:
    """Services of which the clients of another cluster have this one's pods, and this client has none of theirs.

    Pods of one cluster alone, or clusterLocal, look the same from both sides; a remote secret that is missing does not.
    """
    node = client.node
    if node is None or is_router(client) or not node.cluster_id:
        return
    told: set[str] = set()
    for other in proxies:
        there = other.node
        if there is None or is_router(other) or there.cluster_id in ("", node.cluster_id):
            continue
        for name, theirs in other.clusters.items():
            mine = client.clusters.get(name)
            clusters = {one.cluster_id for one in theirs.endpoints}
            own = [one for one in theirs.endpoints if one.cluster_id == there.cluster_id and one.tls_mode]
            if name in told or mine is None or not own or node.cluster_id not in clusters or not _known(mine):
                continue
            if there.cluster_id not in {one.cluster_id for one in mine.endpoints}:
                told.add(name)
                yield Finding(
                    "no-remote-member",
                    "error",
                    name,
                    f"clients of {there.cluster_id} have {len(own)} pods of their own and those of {node.cluster_id};"
                    f" here is nothing of {there.cluster_id}",
                    f"the istiod of {node.cluster_id} does not see these pods: its remote secret for"
                    f" {there.cluster_id} is missing or does not reach the namespace, or the service is clusterLocal in"
                    " its meshConfig alone",
                    f"istioctl remote-clusters in {node.cluster_id}; compare the service in both clusters",
                )


def _known(model: ClusterModel) -> bool:
    """Whether all there is of the service can be seen: nobody took endpoints away, and each says its cluster."""
    there = {endpoint.locality for endpoint in model.endpoints}
    return (
        model.name.startswith("outbound|")
        and bool(model.endpoints)
        and all(one.cluster_id for one in model.endpoints)
        and all(one.locality in there for one in model.localities)
    )


def other_networks_pods(client: ProxyModel, proxies: Sequence[ProxyModel]) -> Iterator[Finding]:
    """Pods of a cluster whose proxies say another network, dialled directly; needs dumps of both."""
    networks: dict[str, str] = {}
    for proxy in proxies:
        if proxy.node is not None and proxy.node.cluster_id and proxy.node.network:
            networks.setdefault(proxy.node.cluster_id, proxy.node.network)
    if client.node is None or not client.node.network:
        return
    for model in client.clusters.values():
        far = [
            one
            for one in model.endpoints
            if not model.is_gateway(one) and networks.get(one.cluster_id, client.node.network) != client.node.network
        ]
        if far and model.name.startswith("outbound|"):
            network = networks[far[0].cluster_id]
            yield Finding(
                "remote-pods-direct",
                "error",
                model.name,
                f"{far[0].address} of cluster {far[0].cluster_id}"
                + (f" and {len(far) - 1} more" if len(far) > 1 else "")
                + f"; this proxy is in {client.node.network}, that cluster in {network}",
                "istiod knows no gateway of that network, and so it sends the addresses of pods, which are not"
                " reachable from here",
                "label the gateway's Service with topology.istio.io/network, and see that it has an address outside"
                f" (kubectl get svc -n istio-system -l topology.istio.io/network={network})",
                f"metadata: {{labels: {{topology.istio.io/network: {network}}}}}",
                tuple(one.address for one in far),
            )


def suspected_pods(client: ProxyModel, proxies: Sequence[ProxyModel]) -> Iterator[Finding]:
    """The same from one side: another cluster's pods, dialled directly in a mesh that has gateways for that.

    On a flat network this is right, so something else has to speak against it: every connect failed; or east-west
    gateways are there, and no connect is known to have succeeded.
    """
    node = client.node
    if node is None or is_router(client) or not node.cluster_id:
        return
    answered = {one.node.cluster_id for one in proxies if one.node is not None}
    by_gateway = {one.cluster_id for model in client.clusters.values() for one in model.gateways()}
    expected = by_gateway or _has_eastwest_gateway(client, proxies)
    for model in client.clusters.values():
        far: dict[str, list[Endpoint]] = {}
        for one in model.endpoints:
            # What a dump of both sides can say is said by `other_networks_pods`.
            if one.cluster_id not in ("", node.cluster_id, *answered) and not model.is_gateway(one):
                far.setdefault(one.cluster_id, []).append(one)
        for cluster, pods in far.items():
            connects, failures = sum(one.connects for one in pods), sum(one.connect_failures for one in pods)
            failing = 0 < connects <= failures
            if connects > failures or not (failing or expected) or not model.name.startswith("outbound|"):
                continue
            if failing:
                why = f"all {connects} connects to them failed"
            elif cluster in by_gateway:
                why = f"other services have a gateway to {cluster}"
            else:
                why = "there is an east-west gateway in this cluster, and none of that one is known"
            yield Finding(
                "remote-pods-suspected",
                "error" if failing else "warning",
                model.name,
                f"{pods[0].address} of cluster {cluster}"
                + (f" and {len(pods) - 1} more" if len(pods) > 1 else "")
                + f", dialled directly from {node.cluster_id}; {why}",
                "where the two clusters are not on one flat network, istiod lacks a gateway of the other network and"
                " sends the addresses of pods, which are not reachable from here",
                f"label the gateway's Service in {cluster} with its network, and see that it has an address outside;"
                " nothing, where pods of both clusters reach each other",
                addresses=tuple(one.address for one in pods),
            )


def _has_eastwest_gateway(client: ProxyModel, proxies: Sequence[ProxyModel]) -> bool:
    """Whether the client's own cluster has a gateway for other networks: as a service, or among the dumps."""
    assert client.node is not None
    beside = any(
        is_router(one) and one.node and one.node.cluster_id == client.node.cluster_id and one.node.network_view
        for one in proxies
    )
    return beside or any(model.service[0] == "15443" and model.endpoints for model in client.clusters.values())


def emptied_for_clients(gateway: ProxyModel) -> Iterator[Finding]:
    """Services of which a gateway has pods, and nothing behind the name that clients of other networks say.

    istiod leaves pods without mTLS out of what a gateway has for other networks, and keeps their localities
    (istio#28798). Istio's gateways themselves, and what is the cluster's own, are never meant to be reached so.
    """
    if not is_router(gateway) or gateway.node is None:
        return
    gateway_hosts = {one.service[2] for one in gateway.clusters.values() if one.service[0] in GATEWAY_PORTS}
    meshed = {one.host for model in gateway.clusters.values() for one in model.endpoints if one.tls_mode}
    for name in routed_clusters(gateway):
        model = gateway.clusters.get(name)
        if model is None or not model.sni_dnat or model.endpoints or not model.localities:
            continue
        port, subset, host = model.service
        twin = gateway.clusters.get(f"outbound|{port}|{subset}|{host}")
        plain = [one for one in twin.endpoints if not one.tls_mode] if twin is not None else []
        if host in gateway_hosts or is_system(host) or any(one.host == gateway.node.host for one in plain):
            continue
        if not plain and not _is_left_by_istiod(model, twin):
            continue
        # A pod that takes mTLS on another port has a sidecar: it is this port that was switched off.
        sure = any(one.host in meshed for one in plain)
        ports = sorted({one.port for one in plain})
        if plain:
            who = f"{len(plain)} pods at port {', '.join(map(str, ports))} take no mTLS"
            who += (", and do on other ports" if sure else "") + "; behind this name is nobody"
        else:
            who = f"{named_localities(model)}: a locality of pods, and none of them behind this name"
        yield Finding(
            "sni-cluster-without-mtls",
            "error" if sure else "warning",
            name,
            who,
            f"clients of other networks are refused here, and reach nobody in this one: {NO_MTLS}",
            TAKE_MTLS,
            "" if len(ports) != 1 else f"spec: {{portLevelMtls: {{{ports[0]}: {{mode: STRICT}}}}}}",
        )


def _is_left_by_istiod(model: ClusterModel, twin: ClusterModel | None) -> bool:
    """Whether localities stand there for pods that were left out, where the pods themselves are not known.

    eastgate asks for the endpoints of clusters that it routes to, and so a dump of its own has none of the twin's. A
    distribute rule empties localities too, and leaves them their weight.
    """
    known = twin is not None and (twin.endpoints or twin.localities)
    return not known and not any(one.weight for one in model.localities)
