"""Turn dumps into models: Envoy's and eastgate's config_dump and /clusters JSON, alone or joined. Opens no files.

A config_dump has what decides shares; its endpoints are there with include_eds only, and carry the health that results
from everything. /clusters has what a proxy found out by itself (ejections), but no settings and no metadata. Joined,
the endpoints are those of the config_dump and their health that of /clusters.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from eastgate.xds.fields import whole_percent
from eastgate.xds.resources import Locality, LocalityEntry, ZoneAware

from .cluster_model import (
    HEALTH_NAMES,
    ChainModel,
    ClusterModel,
    Ejection,
    Endpoint,
    NodeModel,
    NoticeModel,
    ProxyModel,
    RejectedResource,
    with_zones,
)
from .dump_fields import flat_address, get, number, text
from .read_hashing import endpoint_key, read_hashing, whole
from .read_pages import read_ledger, read_listeners

POLICIES = {"round_robin": "ROUND_ROBIN", "least_request": "LEAST_REQUEST", "random": "RANDOM"}
POLICIES |= {"ring_hash": "RING_HASH", "maglev": "MAGLEV"}
CLUSTER_FIELDS = ("static_clusters", "dynamic_active_clusters", "dynamic_warming_clusters")
ENDPOINT_FIELDS = ("static_endpoint_configs", "dynamic_endpoint_configs")


class DumpShapeError(ValueError):
    """A document that is not what an admin interface writes."""


def locality_of(message: Mapping[str, Any] | None) -> Locality:
    if not message:
        return Locality()
    return Locality(text(message.get("region", "")), text(message.get("zone", "")), text(get(message, "sub_zone", "")))


def checked(endpoint: Endpoint) -> Endpoint:
    """The endpoint, when its numbers are ones that a proxy can hold. Raises ValueError."""
    if not 0 <= endpoint.priority <= 127:
        raise ValueError(f"priority {endpoint.priority} of {endpoint.address} is outside 0..127")
    if not 0 <= endpoint.weight <= 0xFFFFFFFF:
        raise ValueError(f"weight {endpoint.weight} of {endpoint.address} is outside 0..4294967295")
    return endpoint


def read_policy(cluster: Mapping[str, Any]) -> tuple[str, Mapping[str, Any], Mapping[str, Any]]:
    """Policy, its own settings, and the message that may ask for locality weights.

    As in Envoy, load_balancing_policy wins over lb_policy.
    """
    extensions = get(get(cluster, "load_balancing_policy", {}), "policies", ())
    for entry in extensions:
        config = get(get(entry, "typed_extension_config", {}), "typed_config", {})
        kind = str(config.get("@type", "")).rpartition("/")[2]
        name = kind.removeprefix("envoy.extensions.load_balancing_policies.").partition(".")[0]
        # The two that hash have locality_weighted_lb_config without a message around it.
        return POLICIES.get(name, kind), config, get(config, "locality_lb_config", config)
    policy = str(get(cluster, "lb_policy", "ROUND_ROBIN"))
    return policy, get(cluster, f"{policy.lower()}_lb_config", {}), get(cluster, "common_lb_config", {})


def read_type(cluster: Mapping[str, Any]) -> str:
    """Envoy's enum name, also where DNS is configured as an extension; the name of any other extension."""
    extension = get(cluster, "cluster_type")
    if extension is None:
        return str(get(cluster, "type", "STATIC"))
    config = get(extension, "typed_config", {})
    if str(config.get("@type", "")).endswith(".clusters.dns.v3.DnsCluster"):
        return "LOGICAL_DNS" if get(config, "all_addresses_in_single_endpoint") else "STRICT_DNS"
    return text(extension.get("name", ""))


def read_cluster(cluster: Mapping[str, Any], *, warming: bool = False) -> ClusterModel:
    """A Cluster as config_dump shows it, still without endpoints."""
    policy, settings, locality_settings = read_policy(cluster)
    panic = get(get(cluster, "common_lb_config", {}), "healthy_panic_threshold")
    outlier = get(cluster, "outlier_detection")
    return ClusterModel(
        name=text(cluster["name"]),
        type=read_type(cluster),
        policy=policy,
        panic_threshold=50 if panic is None else whole_percent(float(panic.get("value", 0))),
        locality_weighted=get(locality_settings, "locality_weighted_lb_config") is not None,
        choice_count=max(2, number(settings, "choice_count", 2)),
        hashing=read_hashing(policy, settings, locality_settings, get),
        fail_on_panic=bool(get(get(locality_settings, "zone_aware_lb_config", {}), "fail_traffic_on_panic")),
        zone_aware=read_zone_aware(get(locality_settings, "zone_aware_lb_config", {})),
        slow_start_ms=read_slow_start(policy, settings),
        ejection=None
        if outlier is None
        else Ejection(
            number(outlier, "max_ejection_percent", 10), bool(number(outlier, "always_eject_one_host", False))
        ),
        warming=warming,
        subset_fallback=read_subset_fallback(cluster),
        health_checked=bool(get(cluster, "health_checks")),
        server_name=read_server_name(cluster),
    )


def read_server_name(cluster: Mapping[str, Any]) -> str:
    """What the proxy says to endpoints that take Istio's mTLS; empty for a cluster without TLS."""
    sockets = [
        get(one, "transport_socket", {})
        for one in get(cluster, "transport_socket_matches", ())
        if get(one.get("match") or {}, "tlsMode", "istio") == "istio"
    ]
    chosen = sockets[0] if sockets else get(cluster, "transport_socket", {})
    return text(get(chosen, "typed_config", {}).get("sni", ""))


def read_zone_aware(said: Mapping[str, Any]) -> ZoneAware:
    """Envoy's defaults where a dump says nothing."""
    enabled = get(said, "routing_enabled")
    force = get(said, "force_local_zone")
    return ZoneAware(
        100 if enabled is None else whole_percent(float(enabled.get("value", 0))),
        whole(get(said, "min_cluster_size"), 6),
        int(bool(get(said, "force_locality_direct_routing"))) if force is None else whole(get(force, "min_size"), 1),
        get(said, "locality_basis") == "HEALTHY_HOSTS_WEIGHT",
    )


def read_slow_start(policy: str, settings: Mapping[str, Any]) -> int:
    """Window in milliseconds; 0 without, and for policies that know none."""
    window = get(get(settings, "slow_start_config", {}), "slow_start_window")
    if window is None or policy not in ("ROUND_ROBIN", "LEAST_REQUEST"):
        return 0
    return int(float(str(window).removesuffix("s")) * 1000)


def read_subset_fallback(cluster: Mapping[str, Any]) -> str:
    """Fallback policy of a cluster that has subsets; empty without. load_balancing_policy switches them off."""
    config = get(cluster, "lb_subset_config", {})
    if not get(config, "subset_selectors") or get(cluster, "load_balancing_policy") is not None:
        return ""
    return str(get(config, "fallback_policy", "NO_FALLBACK"))


def read_metadata(metadata: Mapping[str, Any] | None) -> tuple[bool, str | None]:
    """(tlsMode is istio, workload)"""
    fields = get(metadata or {}, "filter_metadata", {})
    workload = fields.get("istio", {}).get("workload")
    tls_mode = fields.get("envoy.transport_socket_match", {}).get("tlsMode") == "istio"
    return tls_mode, None if workload is None else text(workload)


def read_assignment(
    assignment: Mapping[str, Any], *, use_hostname: bool = False
) -> tuple[tuple[Endpoint, ...], tuple[LocalityEntry, ...]]:
    """Endpoints and locality entries of a ClusterLoadAssignment."""
    endpoints, entries = [], {}
    for entry in assignment.get("endpoints", ()):
        locality, priority = locality_of(entry.get("locality")), int(entry.get("priority", 0))
        weight = number(entry, "load_balancing_weight", 0) if "locality" in entry else 0
        # Of several entries for one place the last weight wins, as in Envoy.
        entries[priority, locality] = LocalityEntry(locality, priority, weight or None)
        for one in get(entry, "lb_endpoints", ()):
            health = str(get(one, "health_status", "UNKNOWN"))
            tls_mode, workload = read_metadata(one.get("metadata"))
            found = Endpoint(
                flat_address(one["endpoint"]["address"]),
                priority,
                locality,
                number(one, "load_balancing_weight", 1),
                health if health in HEALTH_NAMES else "UNKNOWN",
                tls_mode=tls_mode,
                workload=workload,
                hash_key=endpoint_key(one, get, use_hostname=use_hostname),
            )
            endpoints.append(checked(found))
    return tuple(endpoints), tuple(entries.values())


def with_assignment(cluster: ClusterModel, assignment: Mapping[str, Any]) -> ClusterModel:
    """The cluster with the endpoints, and the policy, of its assignment."""
    policy = assignment.get("policy", {})
    use_hostname = cluster.hashing is not None and cluster.hashing.use_hostname
    endpoints, localities = read_assignment(assignment, use_hostname=use_hostname)
    return replace(
        cluster,
        endpoints=endpoints,
        localities=localities,
        overprovisioning_factor=number(policy, "overprovisioning_factor", 140),
        weighted_priority_health=bool(get(policy, "weighted_priority_health", False)),
    )


def read_host(host: Mapping[str, Any]) -> Endpoint:
    """One of host_statuses."""
    status = get(host, "health_status", {})
    health = str(get(status, "eds_health_status", "UNKNOWN"))
    failed = ""
    if get(status, "pending_active_hc") or get(status, "excluded_via_immediate_hc_fail"):
        # Out, and not counted among the endpoints: what DRAINING means to the table.
        health = "DRAINING"
    if get(status, "failed_outlier_check"):
        failed = "outlier"
    elif get(status, "failed_active_health_check"):
        failed = "active check"
    elif get(status, "failed_active_degraded_check") and health in ("UNKNOWN", "HEALTHY"):
        health = "DEGRADED"
    counted = {one.get("name"): int(one.get("value", 0)) for one in host.get("stats", ())}
    found = Endpoint(
        flat_address(host.get("address", {})),
        int(host.get("priority", 0)),
        locality_of(host.get("locality")),
        int(host.get("weight", 1)),
        health if health in HEALTH_NAMES else "UNKNOWN",
        failed,
        stated_share=host.get("eastgate_share"),
        weight_factor=float(host.get("eastgate_weight_factor", 1.0)),
        removed=bool(get(status, "pending_dynamic_removal")),
        connects=counted.get("cx_total", 0),
        connect_failures=counted.get("cx_connect_fail", 0),
    )
    return checked(found)


def read_clusters(document: Mapping[str, Any], source: str) -> ProxyModel:
    """admin.v3.Clusters."""
    clusters = {}
    for status in get(document, "cluster_statuses", ()):
        hosts = tuple(read_host(host) for host in get(status, "host_statuses", ()))
        name = text(status["name"])
        clusters[name] = ClusterModel(
            name,
            type="EDS" if get(status, "eds_service_name") else "",
            policy=text(status.get("eastgate_policy", "ROUND_ROBIN")),
            endpoints=hosts,
            configured=False,
        )
    return ProxyModel(source, clusters, has_endpoints=True)


def read_node(node: Mapping[str, Any]) -> NodeModel | None:
    """The Node of a bootstrap; None when there is none."""
    if not node.get("id"):
        return None
    metadata = node.get("metadata", {})
    return NodeModel(
        id=str(node["id"]),
        type=str(node["id"]).partition("~")[0],
        cluster_id=str(metadata.get("CLUSTER_ID", "")),
        network=str(metadata.get("NETWORK", "")),
        network_view=str(metadata.get("REQUESTED_NETWORK_VIEW", "")),
        locality=locality_of(node.get("locality")),
    )


def read_chains(listener: Mapping[str, Any]) -> Iterable[ChainModel]:
    """Where the TCP chains of a listener lead."""
    chains = list(get(listener, "filter_chains", ()))
    default = get(listener, "default_filter_chain")
    for chain in [*chains, *(default if isinstance(default, list) else filter(None, (default,)))]:
        names = get(get(chain, "filter_chain_match", {}), "server_names", ())
        clusters: list[str] = []
        for one in chain.get("filters", ()):
            config = get(one, "typed_config", {})
            if not str(config.get("@type", "")).endswith(".TcpProxy"):
                continue
            clusters += map(text, filter(None, (config.get("cluster"),)))
            clusters += [text(each["name"]) for each in get(config, "weighted_clusters", {}).get("clusters", ())]
        match = get(chain, "filter_chain_match") or {}
        yield ChainModel(
            str(listener.get("name", "")),
            str(chain.get("name", "") or ", ".join(map(text, names))),
            tuple(clusters),
            json.dumps(match, sort_keys=True) if match else "",
            tuple(map(text, names)),
        )


def read_routes(routes: Mapping[str, Any]) -> Iterable[str]:
    """Clusters that a RouteConfiguration leads to."""
    for host in get(routes, "virtual_hosts", ()):
        for one in host.get("routes", ()):
            action = one.get("route", {})
            yield from filter(None, (action.get("cluster"),))
            yield from (text(each["name"]) for each in get(action, "weighted_clusters", {}).get("clusters", ()))


def read_config_dump(document: Mapping[str, Any], source: str) -> ProxyModel:
    """admin.v3.ConfigDump."""
    clusters: dict[str, ClusterModel] = {}
    assignments: dict[str, Mapping[str, Any]] = {}
    chains: list[ChainModel] = []
    rejected: list[RejectedResource] = []
    notices: list[NoticeModel] = []
    http: set[str] = set()
    node, has_configuration, local_cluster = None, False, ""
    for section in document["configs"]:
        if "bootstrap" in section:
            node = read_node(get(section["bootstrap"], "node", {}))
            local_cluster = str(get(get(section["bootstrap"], "cluster_manager", {}), "local_cluster_name", ""))
        for field in CLUSTER_FIELDS:
            for entry in get(section, field, ()):
                has_configuration = True
                named = entry.get("cluster", {}) or failed_configuration(entry)
                rejected += read_rejection("CDS", entry, text(named.get("name", "")), first="cluster" not in entry)
                notices += read_notices("CDS", entry, text(named.get("name", "")))
                if entry.get("cluster", {}).get("name"):
                    one = read_cluster(entry["cluster"], warming=field == "dynamic_warming_clusters")
                    clusters.setdefault(one.name, one)
                    inline = get(entry["cluster"], "load_assignment")
                    if inline is not None:
                        assignments.setdefault(one.name, inline)
        for field in ENDPOINT_FIELDS:
            for entry in get(section, field, ()):
                assignment = get(entry, "endpoint_config")
                if assignment is None:
                    name = text(get(failed_configuration(entry), "cluster_name", ""))
                    rejected += read_rejection("EDS", entry, name, first=True)
                    continue
                rejected += read_rejection("EDS", entry, text(get(assignment, "cluster_name", "")), first=False)
                assignments[text(get(assignment, "cluster_name", ""))] = assignment
        for field in ("static_listeners", "dynamic_listeners"):
            for entry in get(section, field, ()):
                active = get(entry, "active_state") or get(entry, "warming_state")
                # Of what was never accepted, only what failed is there.
                listener = (active or entry).get("listener", {}) or failed_configuration(entry)
                rejected += read_rejection("LDS", entry, text(entry.get("name", "")), first=not active)
                notices += read_notices("LDS", entry, text(entry.get("name", "")))
                chains += read_chains(listener)
        for entry in (*get(section, "static_route_configs", ()), *get(section, "dynamic_route_configs", ())):
            routes = get(entry, "route_config", {}) or failed_configuration(entry)
            first = get(entry, "route_config") is None
            rejected += read_rejection("RDS", entry, text(routes.get("name", "")), first=first)
            notices += read_notices("RDS", entry, text(routes.get("name", "")))
            http.update(read_routes(routes) if not first else ())
    for name, assignment in assignments.items():
        cluster = clusters.get(name, ClusterModel(name, configured=False))
        clusters[name] = with_assignment(cluster, assignment)
    if node is not None and any(node.locality):
        for name, cluster in clusters.items():
            if cluster.hashing is not None or local_cluster:
                clusters[name] = replace(cluster, own_locality=node.locality)
    return with_zones(
        ProxyModel(
            source,
            clusters,
            node,
            tuple(chains),
            tuple(rejected),
            has_configuration,
            has_endpoints=bool(assignments),
            local_cluster=local_cluster,
            notices=tuple(notices),
            http_clusters=frozenset(http),
        )
    )


def failed_configuration(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was rejected, of an entry that has it: of what was never accepted nothing else is there."""
    found: Mapping[str, Any] = get(get(entry, "error_state") or {}, "failed_configuration") or {}
    return found


def read_notices(kind: str, entry: Mapping[str, Any], name: str) -> list[NoticeModel]:
    """What eastgate itself says of a resource; Envoy says nothing."""
    return [
        NoticeModel(kind, name, text(one.get("kind", "")), text(one.get("text", "")))
        for one in entry.get("eastgate_notices", ())
    ]


def read_rejection(kind: str, entry: Mapping[str, Any], name: str, *, first: bool) -> list[RejectedResource]:
    error = get(entry, "error_state")
    return [RejectedResource(kind, name, str(error.get("details", "no reason given")), first)] if error else []


def read_document(document: Any, source: str) -> ProxyModel:
    """A dump of any form. Raises DumpShapeError naming `source` for anything else."""
    try:
        if isinstance(document, dict) and get(document, "cluster_statuses") is not None:
            return read_clusters(document, source)
        if isinstance(document, dict) and "configs" in document:
            return read_config_dump(document, source)
        if isinstance(document, dict) and get(document, "listener_statuses") is not None:
            return read_listeners(document, source)
        if isinstance(document, dict) and "stream" in document and "resources" in document:
            return read_ledger(document, source)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DumpShapeError(
            f"{source}: not the shape that Envoy's admin has: {type(error).__name__}: {error}"
        ) from None
    raise DumpShapeError(f"{source}: neither a config_dump nor /clusters?format=json")


def is_page(proxy: ProxyModel) -> bool:
    """Whether it was read off a page that says something beside configuration and endpoints."""
    return not proxy.has_configuration and not proxy.has_endpoints and not proxy.clusters and proxy.node is None


def with_page(proxy: ProxyModel, page: ProxyModel) -> ProxyModel:
    """The proxy with what a page of it says: what is rejected, and which listeners do not listen."""
    # The ledger knows of each resource whether it ever served, and of those that no dump shows.
    known = {(one.kind, one.name): one for one in (*proxy.rejected, *page.rejected)}
    silent = dict.fromkeys((*proxy.silent_listeners, *page.silent_listeners))
    return replace(proxy, rejected=tuple(known.values()), silent_listeners=tuple(silent))


def join(configured: ProxyModel, live: ProxyModel) -> ProxyModel:
    """One proxy from its config_dump and its /clusters, or another page of it."""
    if is_page(live):
        return with_page(configured, live)
    clusters = dict(configured.clusters)
    for name, status in live.clusters.items():
        known = clusters.get(name)
        if known is None:
            clusters[name] = status
        elif not known.endpoints or known.resolves_names:
            # The configuration of a DNS cluster has names; the addresses are known to the running proxy alone.
            clusters[name] = replace(known, endpoints=status.endpoints)
        else:
            clusters[name] = replace(known, endpoints=with_live_health(known.endpoints, status.endpoints))
    joined = replace(
        configured,
        source=f"{configured.source} and {live.source}" if configured.source != live.source else live.source,
        clusters=clusters,
        has_endpoints=True,
    )
    return with_zones(joined)


def with_live_health(endpoints: Sequence[Endpoint], hosts: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """What the proxy knows of the same address right now goes before what the assignment says."""
    by_address: dict[str, Endpoint] = {}
    for host in hosts:
        by_address.setdefault(host.address, host)
    found = [(one, by_address.get(one.address)) for one in endpoints]
    known = {one.address for one in endpoints}
    kept = [host for host in hosts if host.removed and host.address not in known]
    return (
        *(
            one
            if host is None
            else one._replace(
                health=host.health,
                failed=host.failed,
                weight_factor=host.weight_factor,
                connects=host.connects,
                connect_failures=host.connect_failures,
            )
            for one, host in found
        ),
        *kept,
    )


def read_documents(documents: Iterable[tuple[str, Any]]) -> tuple[ProxyModel, ...]:
    """Models of several dumps: each config_dump is a proxy of its own, a /clusters belongs to the one beside it.

    A /clusters is joined to the config_dump before it, or to the first one after it when none came before; so is a
    /listeners, or a ledger. Raises DumpShapeError.
    """
    proxies: list[ProxyModel] = []
    for source, document in documents:
        read = read_document(document, source)
        before = proxies[-1] if proxies else None
        if before is not None and (is_page(read) or (before.has_configuration and not read.has_configuration)):
            proxies[-1] = join(before, read)
        elif before is not None and (is_page(before) or (read.has_configuration and not before.has_configuration)):
            proxies[-1] = join(read, before)
        else:
            proxies.append(read)
    return tuple(proxies)
