"""Tables of a cluster and of its subsets: what the fast path picks from. Publishes nothing."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.fastpath.tables.zones import Census
from eastgate.proxy.membership.endpoint_flags import judged
from eastgate.proxy.membership.slow_start import FULL_WEIGHTS, Weights
from eastgate.proxy.slices import Errand, Steps
from eastgate.xds.columns import EndpointRow, Family, columns_of
from eastgate.xds.hashing import endpoint_hash_keys
from eastgate.xds.resources import Assignment, Cluster, Locality

from .cluster_plan import ClusterSpec
from .subsets import subset_columns

# A hashed table of more endpoints or entries than these takes milliseconds: it is made on a thread.
HASHED_ROWS = 4096
HASHED_ENTRIES = 131072


def table_steps(spec: ClusterSpec, previous: ClusterTable | None) -> Steps[ClusterTable | None]:
    """The table of a cluster, None without endpoints; what takes long is yielded as an errand.

    Raises ValueError naming the field for what cannot be compiled.
    """
    if spec.cluster.type == "ORIGINAL_DST":
        return stand_in_table(previous)
    if not spec.has_endpoints or spec.assignment is None:
        return None
    make = partial(
        compile_table,
        spec.cluster,
        spec.assignment,
        previous,
        spec.flags,
        spec.own_locality,
        spec.weights,
        spec.local,
    )
    if not takes_long(spec.cluster, spec.assignment):
        return make()
    errand = Errand(make)
    yield errand
    return errand.result()


def hash_keys(cluster: Cluster, assignment: Assignment) -> list[bytes | None] | None:
    """By row, what is hashed for an endpoint instead of its address; None when it is the address everywhere."""
    if cluster.hashing is None:
        return None
    keys = endpoint_hash_keys(assignment.raw, use_hostname=cluster.hashing.use_hostname)
    return [keys.get(key) for key in assignment.columns.all_keys()] if keys else None


def compile_table(
    cluster: Cluster,
    assignment: Assignment,
    previous: ClusterTable | None,
    flags: bytes = b"",
    own_locality: Locality | None = None,
    weights: Weights = FULL_WEIGHTS,
    local: Census | None = None,
) -> ClusterTable:
    """Table of a cluster with its endpoints. Raises ValueError naming the field for what cannot be compiled.

    ``own_locality``: where this proxy runs, None when that is not known. ``weights``: of endpoints in slow start;
    ``local``: census of the local cluster where zones are looked at.
    """
    columns, failed = judged(assignment.columns, flags)
    return ClusterTable.compile(
        columns,
        policy=cluster.lb_policy,
        overprovisioning_factor=assignment.overprovisioning_factor,
        panic_threshold=cluster.healthy_panic_threshold_percent,
        locality_weighted=cluster.locality_weighted,
        weighted_priority_health=assignment.weighted_priority_health,
        choice_count=cluster.least_request_choice_count,
        active_request_bias=cluster.least_request_bias,
        full_scan=cluster.least_request_full_scan,
        hashing=cluster.hashing,
        hash_keys=hash_keys(cluster, assignment),
        own_locality=own_locality,
        fail_on_panic=cluster.fail_traffic_on_panic,
        factors=weights.factors,
        by_weight=weights.by_weight,
        zone_aware=cluster.zone_aware,
        local=local,
        previous=previous,
        failed=failed,
    )


def takes_long(cluster: Cluster, assignment: Assignment) -> bool:
    """Whether the table of a cluster would hold the loop for long. RING_HASH and MAGLEV do what cannot be cut."""
    if cluster.lb_policy not in ("RING_HASH", "MAGLEV"):
        return False
    columns = assignment.columns
    if columns.count > HASHED_ROWS or not columns.count:
        return columns.count > HASHED_ROWS
    if cluster.hashing is None:
        size = 0
    else:
        size = cluster.hashing.table_size if cluster.lb_policy == "MAGLEV" else cluster.hashing.minimum_ring_size
    if cluster.lb_policy == "RING_HASH":
        # The least part of the ring is one entry at least.
        weights = columns.weights
        size = max(size, sum(weights) // max(1, min(weights)))
        parts = [entry.weight for entry in columns.localities if entry.weight] if cluster.locality_weighted else []
        size *= sum(parts) // min(parts) if parts else 1
    return size > HASHED_ENTRIES


def compile_subset(spec: ClusterSpec, assignment: Assignment, table: ClusterTable, rows: Sequence[int]) -> ClusterTable:
    """Table of some of a cluster's endpoints, which keep their states. Raises ValueError as compile_table does."""
    cluster, subsets = spec.cluster, spec.cluster.subsets
    assert subsets is not None
    weighted = cluster.locality_weighted and subsets.locality_weight_aware
    if len(rows) == assignment.columns.count and weighted == cluster.locality_weighted:
        return table
    columns = subset_columns(assignment.columns, rows, scale_weights=weighted and subsets.scale_locality_weight)
    flags = bytes(spec.flags[row] for row in rows) if spec.flags else b""
    return compile_table(
        replace(cluster, locality_weighted=weighted),
        replace(assignment, columns=columns),
        table,
        flags,
        spec.own_locality,
        spec.weights.of_rows(rows),
        spec.local,
    )


def census_of_local(table: ClusterTable) -> Census:
    """Raises ValueError for endpoints that a local cluster cannot have."""
    if len(table.priorities()) > 1:
        raise ValueError("an endpoint of the local cluster has another priority than 0: zones could not be told apart")
    return table.census()


def stand_in_table(previous: ClusterTable | None) -> ClusterTable:
    """Table of a cluster without endpoints of its own: one that counts connections and is never connected to."""
    return ClusterTable.compile(columns_of([EndpointRow(Family.IPV4, bytes(4))]), previous=previous)
