"""Turn dumps into models: Envoy's and eastgate's config_dump and /clusters JSON, alone or joined. Opens no files.

A config_dump has what decides shares; its endpoints are there with include_eds only, and carry the health that results
from everything. /clusters has what a proxy found out by itself (ejections), but no settings and no metadata. Joined,
the endpoints are those of the config_dump and their health that of /clusters.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from eastgate.xds.record import record
from eastgate.xds.resources import Locality

from .cluster_model import (
    HEALTH_NAMES,
    ChainModel,
    ClusterModel,
    Endpoint,
    NodeModel,
    NoticeModel,
    ProxyModel,
    RejectedResource,
    with_zones,
)
from .dump_fields import flat_address, get, text
from .read_cluster import checked, locality_of, read_cluster, with_assignment
from .read_pages import read_ledger, read_listeners

CLUSTER_FIELDS = ("static_clusters", "dynamic_active_clusters", "dynamic_warming_clusters")
ENDPOINT_FIELDS = ("static_endpoint_configs", "dynamic_endpoint_configs")
LISTENER_FIELDS = ("static_listeners", "dynamic_listeners")
ROUTE_FIELDS = ("static_route_configs", "dynamic_route_configs")


class DumpShapeError(ValueError):
    """A document that is not what an admin interface writes."""


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
        active=counted.get("cx_active", 0),
        further=tuple(map(flat_address, host.get("eastgate_additional_addresses", ()))),
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


@record(frozen=False)
class _Found:
    """What the sections of a dump have said so far. The first of a name wins for clusters, the last for endpoints."""

    clusters: dict[str, ClusterModel] = field(default_factory=dict)
    assignments: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    chains: list[ChainModel] = field(default_factory=list)
    rejected: list[RejectedResource] = field(default_factory=list)
    notices: list[NoticeModel] = field(default_factory=list)
    http: set[str] = field(default_factory=set)
    has_configuration: bool = False

    def read_clusters(self, section: Mapping[str, Any]) -> None:
        for kind in CLUSTER_FIELDS:
            for entry in get(section, kind, ()):
                self.has_configuration = True
                named = entry.get("cluster", {}) or failed_configuration(entry)
                name = text(named.get("name", ""))
                self.rejected += read_rejection("CDS", entry, name, first="cluster" not in entry)
                self.notices += read_notices("CDS", entry, name)
                if entry.get("cluster", {}).get("name"):
                    one = read_cluster(entry["cluster"], warming=kind == "dynamic_warming_clusters")
                    self.clusters.setdefault(one.name, one)
                    inline = get(entry["cluster"], "load_assignment")
                    if inline is not None:
                        self.assignments.setdefault(one.name, inline)

    def read_endpoints(self, section: Mapping[str, Any]) -> None:
        for kind in ENDPOINT_FIELDS:
            for entry in get(section, kind, ()):
                assignment = get(entry, "endpoint_config")
                if assignment is None:
                    name = text(get(failed_configuration(entry), "cluster_name", ""))
                    self.rejected += read_rejection("EDS", entry, name, first=True)
                    continue
                name = text(get(assignment, "cluster_name", ""))
                self.rejected += read_rejection("EDS", entry, name, first=False)
                self.assignments[name] = assignment

    def read_listeners(self, section: Mapping[str, Any]) -> None:
        for kind in LISTENER_FIELDS:
            for entry in get(section, kind, ()):
                active = get(entry, "active_state") or get(entry, "warming_state")
                # Of what was never accepted, only what failed is there.
                listener = (active or entry).get("listener", {}) or failed_configuration(entry)
                self.rejected += read_rejection("LDS", entry, text(entry.get("name", "")), first=not active)
                self.notices += read_notices("LDS", entry, text(entry.get("name", "")))
                self.chains += read_chains(listener)

    def read_routes(self, section: Mapping[str, Any]) -> None:
        for kind in ROUTE_FIELDS:
            for entry in get(section, kind, ()):
                routes = get(entry, "route_config", {}) or failed_configuration(entry)
                first = get(entry, "route_config") is None
                self.rejected += read_rejection("RDS", entry, text(routes.get("name", "")), first=first)
                self.notices += read_notices("RDS", entry, text(routes.get("name", "")))
                self.http.update(read_routes(routes) if not first else ())

    def placed_clusters(self, own: Locality | None, local_cluster: str) -> dict[str, ClusterModel]:
        """The clusters with their endpoints. ``own``: where the proxy runs, where that decides what it picks."""
        clusters = dict(self.clusters)
        for name, assignment in self.assignments.items():
            clusters[name] = with_assignment(clusters.get(name, ClusterModel(name, configured=False)), assignment)
        if own is not None and any(own):
            for name, cluster in clusters.items():
                if cluster.hashing is not None or local_cluster:
                    clusters[name] = replace(cluster, own_locality=own)
        return clusters


def read_config_dump(document: Mapping[str, Any], source: str) -> ProxyModel:
    """admin.v3.ConfigDump."""
    found = _Found()
    node, local_cluster = None, ""
    for section in document["configs"]:
        if "bootstrap" in section:
            node = read_node(get(section["bootstrap"], "node", {}))
            local_cluster = str(get(get(section["bootstrap"], "cluster_manager", {}), "local_cluster_name", ""))
        found.read_clusters(section)
        found.read_endpoints(section)
        found.read_listeners(section)
        found.read_routes(section)
    return with_zones(
        ProxyModel(
            source,
            found.placed_clusters(node.locality if node is not None else None, local_cluster),
            node,
            tuple(found.chains),
            tuple(found.rejected),
            found.has_configuration,
            has_endpoints=bool(found.assignments),
            local_cluster=local_cluster,
            notices=tuple(found.notices),
            http_clusters=frozenset(found.http),
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
    """The proxy with what a page of it says: rejected resources, listeners that do not listen, a lost stream."""
    # The ledger knows of each resource whether it ever served, and of those that no dump shows.
    known = {(one.kind, one.name): one for one in (*proxy.rejected, *page.rejected)}
    silent = dict.fromkeys((*proxy.silent_listeners, *page.silent_listeners))
    return replace(
        proxy,
        rejected=tuple(known.values()),
        silent_listeners=tuple(silent),
        no_stream=proxy.no_stream or page.no_stream,
    )


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
                active=host.active,
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
