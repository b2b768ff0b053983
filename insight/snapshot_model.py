"""A store's snapshot as the models that dumps are read into. Reads no files.

What a snapshot does not hold is left open: health that a proxy found out by itself, and the workloads of endpoints.
"""

from collections.abc import Iterator

from eastgate.xds.columns import EndpointFlag
from eastgate.xds.decode import SHORT_NAMES
from eastgate.xds.hashing import endpoint_hash_keys
from eastgate.xds.resources import Assignment, Cluster, Hashing, Listener, Snapshot

from .cluster_model import HEALTH_NAMES, ChainModel, ClusterModel, Ejection, Endpoint, ProxyModel, RejectedResource


def endpoints_of(assignment: Assignment, hashing: Hashing | None = None) -> Iterator[Endpoint]:
    """Endpoints in message order; with what stands for them where a policy hashes."""
    keys = endpoint_hash_keys(assignment.raw, use_hostname=hashing.use_hostname) if hashing is not None else {}
    columns = assignment.columns
    weights, places = columns.weights, columns.places
    for row in range(columns.count):
        yield Endpoint(
            columns.text(row),
            columns.priority[row],
            columns.localities[places[row]].locality,
            weights[row],
            HEALTH_NAMES[columns.health[row]],
            tls_mode=bool(columns.flags[row] & EndpointFlag.TLS_MODE_ISTIO),
            hash_key=keys.get(columns.key(row), b"").decode() if keys else "",
            further=tuple(columns.further_texts(row)),
        )


def cluster_of(cluster: Cluster, assignment: Assignment | None, *, warming: bool = False) -> ClusterModel:
    """A cluster with what is assigned to it."""
    outlier = cluster.outlier_detection
    return ClusterModel(
        name=cluster.name,
        type=cluster.type,
        policy=cluster.lb_policy,
        panic_threshold=cluster.healthy_panic_threshold_percent,
        locality_weighted=cluster.locality_weighted,
        choice_count=cluster.least_request_choice_count,
        hashing=cluster.hashing,
        fail_on_panic=cluster.fail_traffic_on_panic,
        zone_aware=cluster.zone_aware,
        slow_start_ms=cluster.slow_start.window_ms if cluster.slow_start else 0,
        ejection=Ejection(outlier.max_ejection_percent, outlier.always_eject_one_host) if outlier else None,
        overprovisioning_factor=assignment.overprovisioning_factor if assignment else 140,
        weighted_priority_health=assignment.weighted_priority_health if assignment else False,
        endpoints=tuple(endpoints_of(assignment, cluster.hashing)) if assignment else (),
        localities=assignment.columns.localities if assignment else (),
        warming=warming,
        server_name=cluster.upstream_tls.mesh.server_name if cluster.upstream_tls.mesh else "",
    )


def chains_of(listener: Listener) -> Iterator[ChainModel]:
    """The filter chains of a listener, named as dumps name them."""
    default = listener.default_filter_chain
    for chain in (*listener.filter_chains, *((default,) if default else ())):
        name = chain.name or ", ".join(chain.match.server_names)
        clusters = tuple(cluster for cluster, _ in chain.clusters)
        yield ChainModel(listener.name, name, clusters, server_names=chain.match.server_names)


def proxy_of(snapshot: Snapshot, source: str) -> ProxyModel:
    """Everything that is accepted."""
    clusters = {}
    held = {"CDS": snapshot.clusters, "EDS": snapshot.assignments, "LDS": snapshot.listeners, "RDS": snapshot.routes}
    for name, cluster in snapshot.clusters.items():
        assignment = cluster.load_assignment
        if cluster.assignment_name:
            assignment = snapshot.assignments.get(cluster.assignment_name)
        clusters[name] = cluster_of(cluster, assignment, warming=name in snapshot.warming)
    return ProxyModel(
        source,
        clusters,
        chains=tuple(chain for listener in snapshot.listeners.values() for chain in chains_of(listener)),
        rejected=tuple(
            RejectedResource(kind, one.name, one.reason, first=one.name not in held.get(kind, ()))
            for one in snapshot.rejections
            for kind in (SHORT_NAMES[one.type_url],)
        ),
        has_configuration=True,
        has_endpoints=True,
    )
