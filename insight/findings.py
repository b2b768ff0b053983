"""What in one cluster keeps failover or cross-network traffic from working. Rules only; doctor.py runs them.

A rule looks at a compiled model and yields findings with evidence from that model. It states causes as likely ones: a
proxy sees what istiod sent, not why.
"""

from collections.abc import Callable, Iterable, Iterator

from eastgate.xds.record import record
from eastgate.xds.resources import Locality

from .cluster_model import ClusterModel, CompiledModel, NodeModel, describe_localities
from .duplicates import duplicates_of


@record
class Finding:
    """``severity``: error (traffic is or will be lost or misplaced) or warning (less than what was asked for).

    ``yaml``: what to merge into the resource that ``fix`` names, where one line does it; else empty. ``addresses``: the
    endpoints that it is about, none for all of the cluster. The rest is filled in by `examine`. ``proxies``: where it
    was found; ``now`` and ``reached``: the part of all connections, 0 to 1, that is at risk: at present, and once
    failover has come so far.
    """

    rule: str
    severity: str
    cluster: str
    evidence: str
    cause: str
    fix: str
    yaml: str = ""
    addresses: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    now: float = 0.0
    reached: float = 0.0


EJECT = "spec: {trafficPolicy: {outlierDetection: {consecutive5xxErrors: 5, maxEjectionPercent: 100}}}"
EJECT_ALL = "spec: {trafficPolicy: {outlierDetection: {maxEjectionPercent: 100}}}"
NO_PANIC = "spec: {trafficPolicy: {outlierDetection: {minHealthPercent: 0}}}"
MUTUAL = "spec: {trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}"
LOCALITY_ON = "spec: {trafficPolicy: {loadBalancer: {localityLbSetting: {enabled: true}}}}"

NAMELESS = (
    "give the nodes without a locality the label topology.kubernetes.io/region and name that: until then only * means"
    " them"
)

GOOD = ("UNKNOWN", "HEALTHY")
Rule = Callable[[CompiledModel, NodeModel | None], Iterator[Finding]]


def kept_endpoints(compiled: CompiledModel) -> int:
    return sum(first == row for row, first in enumerate(compiled.first_of))


def regions_of(model: ClusterModel) -> list[str]:
    return list(dict.fromkeys(endpoint.locality.region for endpoint in model.endpoints))


def host_weights(model: ClusterModel, priority: int) -> dict[Locality, int]:
    """Sum of endpoint weights by locality of one priority."""
    sums: dict[Locality, int] = {}
    for endpoint in model.endpoints:
        if endpoint.priority == priority:
            sums[endpoint.locality] = sums.get(endpoint.locality, 0) + endpoint.weight
    return sums


def weights_are_set(model: ClusterModel) -> bool:
    """Whether somebody chose locality weights: those that istiod makes up are the sums of the endpoints' weights."""
    for priority in model.priorities:
        sums = host_weights(model, priority)
        given = {entry.locality: entry.weight for entry in model.localities if entry.priority == priority}
        pairs = [(sums[locality], given.get(locality) or 0) for locality in sums]
        if all(weight for _, weight in pairs) and any(
            host * pairs[0][1] != pairs[0][0] * weight for host, weight in pairs
        ):
            return True
    return False


def spread(model: ClusterModel) -> str:
    """Where the endpoints are, when that is more than one place failover could choose between; else empty."""
    gateways = {endpoint.address for endpoint in model.gateways()}
    if len(regions_of(model)) > 1:
        return describe_localities([endpoint.locality for endpoint in model.endpoints])
    if gateways and any(endpoint.address not in gateways for endpoint in model.endpoints):
        return f"local endpoints and gateway {', '.join(sorted(gateways))}"
    return ""


def no_outlier_detection(compiled: CompiledModel, node: NodeModel | None) -> Iterator[Finding]:
    model = compiled.model
    if model.ejection is not None or not model.configured or weights_are_set(model):
        return
    fix = "add outlierDetection to the DestinationRule of this host, for example consecutive5xxErrors: 5"
    if len(model.priorities) > 1:
        if model.health_checked:
            # Endpoints that fail are taken out all the same, by the proxy's own checks.
            return
        yield Finding(
            "no-outlier-detection",
            "warning",
            model.name,
            f"{len(model.priorities)} priorities, no outlier_detection",
            "endpoints that fail connections stay in use; only readiness seen by istiod moves traffic",
            fix,
            EJECT,
        )
    elif spread(model):
        yield Finding(
            "no-outlier-detection",
            "warning",
            model.name,
            f"one priority for {spread(model)}; no outlier_detection",
            "Istio gives localities priorities only where the DestinationRule has outlierDetection, so remote"
            " endpoints get their share all the time and nothing fails over",
            fix,
            EJECT,
        )


def one_priority(compiled: CompiledModel, node: NodeModel | None) -> Iterator[Finding]:
    model = compiled.model
    if model.ejection is None or len(model.priorities) != 1 or len(regions_of(model)) < 2 or weights_are_set(model):
        return
    evidence = f"all {len(model.endpoints)} endpoints at priority {model.priorities[0]}: {spread(model)}"
    if node is not None and not any(node.locality):
        yield Finding(
            "empty-locality",
            "error",
            model.name,
            f"{evidence}; the node's locality is empty",
            "istiod orders endpoints by their distance from the client, and does not know where this client is",
            "label the node with topology.kubernetes.io/region and zone, or set the proxy's locality",
        )
    else:
        yield Finding(
            "one-priority",
            "error",
            model.name,
            evidence,
            "outlier detection is there and priorities are not: localityLbSetting is disabled, or has no rule for"
            " this client's locality",
            "enable localityLbSetting (failover or failoverPriority) for this host",
            LOCALITY_ON,
        )


def ejection_limit(compiled: CompiledModel, node: NodeModel | None) -> Iterator[Finding]:
    model, count = compiled.model, kept_endpoints(compiled)
    if model.ejection is None or count < 2:
        return
    limit = model.ejection.limit(count)
    setting = f"max_ejection_percent {model.ejection.max_ejection_percent} of {count} endpoints"
    if limit == 0:
        yield Finding(
            "never-ejected",
            "error",
            model.name,
            f"{setting}: 1 of {count} would be {100 / count:.0f} %",
            "an ejection is refused when it would pass max_ejection_percent, so failing endpoints stay in use"
            " (Istio leaves the default of 10 % alone)",
            "set outlierDetection.maxEjectionPercent: 100 in the DestinationRule",
            EJECT_ALL,
        )
        return
    first = model.priorities[0]
    rows = [
        row
        for row, endpoint in enumerate(model.endpoints)
        if endpoint.priority == first and compiled.first_of[row] == row
    ]
    if len(model.priorities) < 2 or limit >= len(rows):
        return
    left = compiled.with_down(rows[:limit]).loads()[first]
    if left > 0:
        yield Finding(
            "ejection-cap",
            "error",
            model.name,
            f"{setting}: at most {limit} ejected at once, P{first} has {len(rows)};"
            f" with all of them failing it still gets {left} %",
            "a dead locality is never ejected as a whole, so part of the connections goes on failing",
            "set outlierDetection.maxEjectionPercent: 100 in the DestinationRule",
            EJECT_ALL,
            tuple(model.endpoints[row].address for row in rows),
        )


def duplicate_address(compiled: CompiledModel, node: NodeModel | None) -> Iterator[Finding]:
    if compiled.model.type != "EDS":
        # Envoy keeps what STATIC and STRICT_DNS clusters name twice, with its weight.
        return
    for one in duplicates_of(compiled.model):
        weights = ", ".join(
            f"{entry.weight} at P{entry.priority} {entry.locality}".rstrip() for entry in one.entries[:6]
        )
        total = one.kept + one.lost
        yield Finding(
            "duplicate-address",
            "error",
            compiled.model.name,
            f"{one.address} {len(one.entries)} times (weights {weights}): {one.kept} kept, {one.lost} of {total} lost",
            "istiod names a gateway once per locality behind it; Envoy, and eastgate like it, keeps the first entry of"
            " an address and drops the weight of the others (istio#56355)",
            "give each locality's gateway an address of its own, or keep the pods behind one gateway in one locality;"
            " explain --duplicates sum shows what was meant",
            addresses=(one.address,),
        )


def zero_weight(compiled: CompiledModel, node: NodeModel | None) -> Iterator[Finding]:
    model = compiled.model
    silent = [endpoint.address for endpoint in model.endpoints if endpoint.weight == 0]
    if silent:
        yield Finding(
            "zero-weight",
            "error",
            model.name,
            f"{', '.join(silent[:3])}: weight 0",
            "EDS has no weight 0: Envoy rejects such an assignment, and it is counted as 1 here",
            "remove the endpoint instead of weighing it 0",
            addresses=tuple(silent),
        )
    if not model.locality_weighted:
        return
    given = {(entry.priority, entry.locality): entry.weight or 0 for entry in model.localities}
    for priority in model.priorities:
        places = host_weights(model, priority)
        without = [locality for locality in places if not given.get((priority, locality))]
        if without and len(without) < len(places):
            yield Finding(
                "zero-weight",
                "error",
                model.name,
                f"P{priority}: {describe_localities(without)} has endpoints and no weight",
                "with locality weights on, a locality without one gets no traffic while another has some",
                "give every locality of localityLbSetting.distribute a weight, or leave it out",
            )


def ignored_locality_weights(compiled: CompiledModel, node: NodeModel | None) -> Iterator[Finding]:
    model = compiled.model
    if model.locality_weighted or not model.configured or not weights_are_set(model):
        return
    given = ", ".join(f"{entry.locality or 'no locality'} {entry.weight}" for entry in model.localities if entry.weight)
    yield Finding(
        "locality-weights-ignored",
        "error",
        model.name,
        f"locality weights {given}; no locality_weighted_lb_config",
        "Envoy reads locality weights only in clusters that ask for it: traffic follows the endpoints' weights",
        "have the cluster ask for locality weights; with Istio, use localityLbSetting.distribute, which does",
    )


def name_localities(emptied: Iterable[Locality], host: str) -> str:
    """How a distribute rule of a host comes to name localities; the empty one has no name."""
    places = {str(one) for one in emptied}
    named = ", ".join(sorted(places - {""}))
    steps = [f"name these localities in distribute.to for {host}: {named}"] if named else []
    if "" in places:
        steps.append(NAMELESS)
    return "; ".join(steps)


def partial_distribute(compiled: CompiledModel, node: NodeModel | None) -> Iterator[Finding]:
    model = compiled.model
    held = {(endpoint.priority, endpoint.locality) for endpoint in model.endpoints}
    empty = [entry for entry in model.localities if (entry.priority, entry.locality) not in held]
    emptied = [entry.locality for entry in empty if entry.weight]
    if emptied and held:
        yield Finding(
            "partial-distribute",
            "warning",
            model.name,
            f"{describe_localities(emptied)}: a weight and no endpoints",
            "localityLbSetting.distribute takes the endpoints from localities that its rule does not name, and knows"
            " no failover: when the named ones fail there is nothing to fall back to",
            f"{name_localities(emptied, model.service[2] or model.name)}; weight 1 is enough for those that are for"
            " emergencies",
        )
    bare = [entry.locality for entry in empty if not entry.weight]
    # Where the local endpoints take no mTLS either, as those of gateways, nobody meant to reach remote ones.
    if bare and any(endpoint.tls_mode for endpoint in model.endpoints):
        yield Finding(
            "remote-without-mtls",
            "warning",
            model.name,
            f"{describe_localities(bare)}: neither endpoints nor weight",
            "istiod leaves out endpoints of another network that do not take mTLS: pods without a sidecar, or a"
            " DestinationRule or PeerAuthentication that turns it off; and those whose gateways all have addresses of"
            " an IP family that the proxy does not have",
            "inject the sidecar there, or set tls mode ISTIO_MUTUAL for the host; give the gateways an address of the"
            " proxy's family",
            MUTUAL,
        )


def priority_gap(compiled: CompiledModel, node: NodeModel | None) -> Iterator[Finding]:
    used = compiled.model.priorities
    missing = sorted(set(range(used[-1])) - set(used)) if used else []
    if missing:
        yield Finding(
            "priority-gap",
            "warning",
            compiled.model.name,
            f"priorities {', '.join(map(str, used))}; nothing at {', '.join(map(str, missing))}",
            "priorities are expected without gaps: Envoy treats the missing ones as empty and failed",
            "number the priorities from 0 without gaps",
        )


def single_gateway(compiled: CompiledModel, node: NodeModel | None) -> Iterator[Finding]:
    """One address behind which everything is, and which can be ejected: with local pods, or with nobody to eject it,
    one gateway is what most meshes have, and works.
    """
    model = compiled.model
    if model.sni_dnat or model.ejection is None or model.ejection.limit(kept_endpoints(compiled)) == 0:
        return
    addresses = {endpoint.address: endpoint for endpoint in model.gateways()}
    if len(addresses) != 1:
        return
    ((address, gateway),) = addresses.items()
    rows = [row for row, endpoint in enumerate(model.endpoints) if endpoint.address == address]
    if not compiled.picks() or compiled.with_down(rows).picks():
        return
    remote = gateway.cluster_id or str(gateway.locality) or "the other network"
    yield Finding(
        "single-gateway",
        "warning",
        model.name,
        f"{address} is the only way to {remote}, where all pods are, and may be ejected",
        "one address stands for all pods there: the failures of a single pod count for it, and its ejection removes"
        " them all",
        "run a second east-west gateway there with an address of its own, or take outlierDetection off this host",
        addresses=(address,),
    )


def gateway_without_tls(compiled: CompiledModel, node: NodeModel | None) -> Iterator[Finding]:
    model = compiled.model
    if model.sni_dnat:
        return
    plain = [endpoint.address for endpoint in model.gateways() if endpoint.tls_mode is False]
    if plain:
        yield Finding(
            "gateway-without-tls",
            "error",
            model.name,
            f"{', '.join(dict.fromkeys(plain))}: no tlsMode istio in the endpoint's metadata",
            "a gateway routes by the server name of an mTLS hello: plaintext to its port 15443 is refused",
            "set tls mode ISTIO_MUTUAL for the host, and tlsMode on gateway endpoints of your own control plane",
            MUTUAL,
            tuple(dict.fromkeys(plain)),
        )


def gateway_hostname(compiled: CompiledModel, node: NodeModel | None) -> Iterator[Finding]:
    model = compiled.model
    names = [endpoint.address for endpoint in model.endpoints if not endpoint.is_address and endpoint.address]
    if names and model.type in ("EDS", "STATIC"):
        yield Finding(
            "gateway-hostname",
            "error",
            model.name,
            f"{', '.join(names[:3])}: a name where an IP address belongs",
            "EDS endpoints are addresses: a gateway published by hostname is dropped or never reached (istio#29359)",
            "publish the gateway's IP addresses (externalIPs of its Service, or meshNetworks), or resolve the name",
            addresses=tuple(names),
        )


def sni_cluster_holds_gateway(compiled: CompiledModel, node: NodeModel | None) -> Iterator[Finding]:
    model = compiled.model
    gateways = [endpoint.address for endpoint in model.gateways()] if model.sni_dnat else []
    if gateways:
        yield Finding(
            "sni-cluster-holds-gateway",
            "error",
            model.name,
            f"{', '.join(gateways[:3])} in an SNI-DNAT cluster",
            "this gateway would hand connections from other networks to yet another gateway: a detour, or a loop",
            "set ISTIO_META_REQUESTED_NETWORK_VIEW to the gateway's own network",
            addresses=tuple(gateways),
        )


def panic(compiled: CompiledModel, node: NodeModel | None) -> Iterator[Finding]:
    model = compiled.model
    fix = "set the panic threshold to 0 (Istio does unless minHealthPercent says otherwise)"
    refused = compiled.table.refused
    now = [
        number
        for number, row in enumerate(compiled.table.priorities())
        if row[7] and (compiled.loads()[number] or (refused and row[4] + row[5]))
    ]
    if now:
        table = compiled.table.priorities()
        counts = ", ".join(f"P{number} {table[number][1]} of {table[number][0]} healthy" for number in now)
        yield Finding(
            "panic",
            "error",
            model.name,
            f"{counts}, panic threshold {model.panic_threshold} %",
            f"too few endpoints are healthy, and fail_traffic_on_panic refuses {refused:.0%} of all connections"
            if refused
            else "too few endpoints are healthy, so all of them get traffic, failed ones included",
            "bring endpoints back, or switch fail_traffic_on_panic off" if refused else fix,
            "" if refused else NO_PANIC,
            tuple(one.address for one in model.endpoints if one.failed or one.health not in GOOD),
        )
    elif model.configured and model.panic_threshold > 0 and len(model.priorities) > 1:
        yield Finding(
            "panic-threshold",
            "warning",
            model.name,
            f"panic threshold {model.panic_threshold} % with {len(model.priorities)} priorities",
            "when the priorities together cannot carry 100 %, each below the threshold sends traffic to failed"
            " endpoints instead of refusing it or leaving it to the others",
            fix,
            NO_PANIC,
        )


def none_healthy(compiled: CompiledModel, node: NodeModel | None) -> Iterator[Finding]:
    model = compiled.model
    # Refused because of panic is another cause, and a finding of its own.
    if model.endpoints and not compiled.picks() and not compiled.table.refused:
        states = sorted({endpoint.state for endpoint in model.endpoints})
        yield Finding(
            "none-healthy",
            "error",
            model.name,
            f"none of {kept_endpoints(compiled)} endpoints is healthy ({', '.join(states)}),"
            f" panic threshold {model.panic_threshold} %",
            "every connection is refused: no healthy upstream",
            "look at the readiness of the pods, and at the ejections in /clusters",
        )


RULES: tuple[Rule, ...] = (
    none_healthy,
    panic,
    no_outlier_detection,
    one_priority,
    ejection_limit,
    duplicate_address,
    zero_weight,
    ignored_locality_weights,
    partial_distribute,
    priority_gap,
    single_gateway,
    gateway_without_tls,
    gateway_hostname,
    sni_cluster_holds_gateway,
)


def cluster_findings(compiled: CompiledModel, node: NodeModel | None = None) -> tuple[Finding, ...]:
    """What all rules find in one cluster."""
    found = [finding for rule in RULES for finding in rule(compiled, node)]
    if not compiled.model.configured:
        found.append(
            Finding(
                "settings-unknown",
                "warning",
                compiled.model.name,
                "the dump holds endpoints of this cluster and not its configuration",
                "policy, panic threshold and locality weights are assumed to be Envoy's defaults (ROUND_ROBIN, 50 %,"
                " off), which Istio changes",
                "add the config_dump: --dump CONFIG_DUMP --dump CLUSTERS",
            )
        )
    return tuple(found)
