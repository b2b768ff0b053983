"""What a cluster of a snapshot is to become: pure, no table and no slot yet.

Everything is decided here that does not need what is published already: the endpoints that are used, what is known of
their health, how connections are made, and why they are refused.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from eastgate.fastpath.tables.zones import ZONED, Census
from eastgate.proxy.membership.endpoint_flags import Live
from eastgate.proxy.membership.slow_start import FULL_WEIGHTS, Ramp, Weights
from eastgate.xds.bind_config import NO_BIND, Bind, FamilyOption, SourceAddress
from eastgate.xds.columns import EndpointFlag
from eastgate.xds.record import record
from eastgate.xds.resources import Assignment, Cluster, Locality, OutlierDetection

from .socket_trial import why_not_set
from .tls_contexts import PLAIN_TEXT, ClusterTls

_TLS_MODE_ISTIO = int(EndpointFlag.TLS_MODE_ISTIO)


@record
class SlotSpec:
    """How connections of a cluster are made, as ClusterSlots.publish takes it. Times in the units of their names."""

    connect_timeout_ms: int
    max_connections: int
    max_pending: int
    max_per_endpoint: int
    keepalive_time_s: int = 0
    keepalive_interval_s: int = 0
    keepalive_probes: int = 0
    original_dst: bool = False
    port_override: int = 0
    failure_threshold: int = 0
    gateway_threshold: int = 0
    sources: tuple[SourceAddress, ...] = ()
    socket_options: tuple[FamilyOption, ...] = ()
    first_family: int = 0
    first_family_count: int = 1

    def as_arguments(self) -> dict[str, Any]:
        return asdict(self)


@record
class ClusterSpec:
    """A cluster to be: with what its table is made, and what is told of it.

    ``discovered`` is the assignment as xDS or DNS has it, ``assignment`` the one in use, which may hold endpoints that
    discovery has removed; ``flags`` by row of it, see endpoint_flags. ``waiting``: it is not to be used before more is
    known. ``local``: census of the local cluster where zones are looked at. ``closed``: why its connections are
    refused although it has endpoints; empty when they are not.
    """

    cluster: Cluster
    discovered: Assignment | None
    assignment: Assignment | None
    flags: bytes
    waiting: bool
    slot: SlotSpec
    closed: str = ""
    tls: ClusterTls = PLAIN_TEXT
    ramp: Ramp | None = None
    local: Census | None = None
    own_locality: Locality | None = None

    @property
    def weights(self) -> Weights:
        """Of endpoints in slow start."""
        return self.ramp.weights if self.ramp is not None else FULL_WEIGHTS

    @property
    def secured(self) -> bool:
        """Whether some of its endpoints are spoken to with TLS."""
        return self.tls != PLAIN_TEXT

    @property
    def has_endpoints(self) -> bool:
        """Whether there is something to make a table of."""
        return self.discovered is not None and not self.waiting


def plan_cluster(
    cluster: Cluster,
    discovered: Assignment | None,
    live: Live | None,
    *,
    ramp: Ramp | None = None,
    local: Census | None = None,
    own_locality: Locality | None = None,
    tls: ClusterTls = PLAIN_TEXT,
    bind: Bind = NO_BIND,
) -> ClusterSpec:
    """What becomes of a cluster. `live`: its endpoints as they are used, None without any. `bind`: what its connections
    come from where it does not say it itself.
    """
    reachable = discovered is not None or cluster.type == "ORIGINAL_DST"
    closed = why_closed(cluster, discovered, tls, bind=bind) if reachable else ""
    return ClusterSpec(
        cluster,
        discovered,
        live.assignment if live is not None else None,
        live.flags if live is not None else b"",
        waiting=live is not None and live.waiting,
        slot=slot_spec(cluster, bind),
        closed=closed,
        tls=tls,
        ramp=ramp,
        local=local if looks_at_zones(cluster) else None,
        own_locality=own_locality,
    )


def slot_spec(cluster: Cluster, bind: Bind = NO_BIND) -> SlotSpec:
    """How its connections are made; `bind` as in `plan_cluster`."""
    bind = cluster.bound_by(bind)
    keepalive, breakers = cluster.tcp_keepalive, cluster.circuit_breakers
    failures, gateway = consecutive_thresholds(cluster.outlier_detection)
    return SlotSpec(
        connect_timeout_ms=round(cluster.connect_timeout_s * 1000),
        max_connections=breakers.max_connections,
        max_pending=breakers.max_pending_requests,
        max_per_endpoint=breakers.max_connections_per_endpoint,
        keepalive_time_s=(keepalive and keepalive.time_s) or 0,
        keepalive_interval_s=(keepalive and keepalive.interval_s) or 0,
        keepalive_probes=(keepalive and keepalive.probes) or 0,
        original_dst=cluster.type == "ORIGINAL_DST",
        port_override=cluster.upstream_port_override,
        failure_threshold=failures,
        gateway_threshold=gateway,
        sources=bind.sources,
        socket_options=bind.socket_options(),
        first_family=cluster.happy_eyeballs.first_family,
        first_family_count=cluster.happy_eyeballs.first_count,
    )


def looks_at_zones(cluster: Cluster) -> bool:
    """Whether what is known of the local cluster changes its table."""
    return not cluster.locality_weighted and cluster.lb_policy in ZONED


def consecutive_thresholds(settings: OutlierDetection | None) -> tuple[int, int]:
    """After how many failed connects in a row workers call, and the same for gateway failures; 0: never."""
    if settings is None:
        return 0, 0
    if settings.split_external_local_origin_errors:
        # What TCP reports is all of local origin: nothing feeds the other two counters.
        return settings.consecutive_local_origin_failure, 0
    return settings.consecutive_5xx, settings.consecutive_gateway_failure


def why_closed(cluster: Cluster, assignment: Assignment | None, tls: ClusterTls, *, bind: Bind) -> str:
    """Why no endpoint may be connected to: one of them expects TLS that cannot be spoken, or sockets cannot be made as
    they should. Empty when all can be.

    To speak to it in plain text would show what was meant to be sealed. SNI-DNAT clusters carry the client's own TLS
    and never ask for it.
    """
    if unset := why_not_set(cluster.bound_by(bind).socket_options()):
        return unset
    if cluster.upstream_tls.refusal:
        return cluster.upstream_tls.refusal
    if tls == PLAIN_TEXT:
        return ""
    mesh = mesh_rows(assignment) if assignment is not None else b""
    if any(mesh) and tls.mesh is not None and tls.mesh.closed:
        return tls.mesh.closed
    return tls.others.closed if not all(mesh or b"\0") and tls.others is not None else ""


def mesh_rows(assignment: Assignment) -> bytes:
    """By row, whether an endpoint's metadata says that it is one of the mesh."""
    return bytes(flags & _TLS_MODE_ISTIO for flags in assignment.columns.flags)


def spoken_to(spec: ClusterSpec, rows: Sequence[int] | None = None) -> dict[str, Any]:
    """How endpoints are spoken to, as ClusterSlots.publish takes it. `rows`: those of the table, None for all."""
    if spec.tls == PLAIN_TEXT:
        return {}
    mesh, others = spec.tls.mesh, spec.tls.others
    found: dict[str, Any] = {
        "mesh_tls": mesh.context if mesh is not None else None,
        "other_tls": others.context if others is not None else None,
    }
    if spec.assignment is not None and spec.cluster.type != "ORIGINAL_DST":
        by_row = mesh_rows(spec.assignment)
        found["mesh"] = by_row if rows is None else bytes(by_row[row] for row in rows)
    return found
