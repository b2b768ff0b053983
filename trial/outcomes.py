"""What clusters come to for a node: endpoints and shares, compiled once for all that differ in names alone. Pure.

Messages are made, read and compiled as a proxy does it for the first cluster of a kind: its settings, and priorities,
localities, weights and health of its endpoints. Where a policy hashes, their addresses are part of the kind.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

from eastgate.insight.cluster_model import compile_model
from eastgate.insight.explain import explain
from eastgate.insight.routing_rules import named_localities, why_empty
from eastgate.insight.snapshot_model import cluster_of
from eastgate.mesh.assignments import assignment_of, health_of, place_of
from eastgate.mesh.clusters import keys, outbound_cluster
from eastgate.mesh.documents import Progress, silent
from eastgate.mesh.endpoints import ClusterKey, groups
from eastgate.mesh.istio import Policy
from eastgate.mesh.listeners import has_passthrough
from eastgate.mesh.locality import Group
from eastgate.mesh.model import Mesh
from eastgate.mesh.node_view import NodeView
from eastgate.mesh.part import Part
from eastgate.mesh.policy import effective
from eastgate.mesh.rules import rule_of
from eastgate.xds.decode import decode_assignment
from eastgate.xds.decode_cluster import decode_cluster
from eastgate.xds.resources import Assignment, Cluster

PARTS = tuple(Policy.model_fields)


@dataclass(frozen=True, slots=True)
class Row:
    """One endpoint of a cluster but for its address, as `insight.explain` has it."""

    priority: int
    locality: str
    weight: int
    health: str
    share: float
    why: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """A cluster of a node. ``shape``: its settings, under the name of one that is alike. ``rows``: address and port of
    each endpoint, and what it gets; of names that are looked up and of original destinations nothing. ``groups``: what
    istiod sends of it.
    """

    key: ClusterKey
    shape: Cluster
    rows: tuple[tuple[str, Row], ...] = ()
    groups: tuple[Group, ...] = ()


def outcomes(
    mesh: Mesh, node: NodeView, hosts: frozenset[str] | None, *, gateway: bool, progress: Progress = silent
) -> Iterator[Outcome]:
    """Clusters that a sidecar routes to, or that a gateway has for its clients. ``hosts``: of these alone."""
    if gateway and not has_passthrough(mesh, node):
        return
    known: set[str] = set()
    asked = keys(mesh, node, sni_dnat=gateway, hosts=hosts)
    for at, key in enumerate(asked):
        progress(at, len(asked))
        if key.name not in known:
            known.add(key.name)
            yield _outcome(mesh, node, key)


def _outcome(mesh: Mesh, node: NodeView, key: ClusterKey) -> Outcome:
    kind, shape = _shape(mesh, node, key)
    if shape.type != "EDS":
        return Outcome(key, shape)
    found = groups(mesh, node, key)
    places = [place_of(one.endpoint) for group in found for one in group.candidates]
    # An address that stands there twice is one endpoint.
    first: dict[str, int] = {}
    alike = tuple(places) if shape.hashing else tuple(first.setdefault(one, at) for at, one in enumerate(places))
    rows = mesh.known(
        ("rows", kind, _weights(found), alike),
        lambda: _rows(shape, decode_assignment(bytes(assignment_of(key.name, found))), places),
    )
    return Outcome(key, shape, tuple((places[at], row) for at, row in rows), found)


def why_refused(mesh: Mesh, node: NodeView, one: Outcome) -> str:
    """Why a cluster without endpoints has none, in doctor's words."""
    assigned = decode_assignment(bytes(assignment_of(one.key.name, one.groups)))
    model = cluster_of(replace(one.shape, name=one.key.name), assigned)
    whole = groups(mesh, node, replace(one.key, subset="")) if one.key.subset else ()
    places = named_localities(model)
    cause = why_empty(model, whole=any(group.candidates for group in whole)).cause
    return cause + (f"; emptied: {places}" if places else "")


def _shape(mesh: Mesh, node: NodeView, key: ClusterKey) -> tuple[Hashable, Cluster]:
    """The cluster's settings, and what they depend on; names that are looked up stand in it."""
    rule = rule_of(mesh, node.cluster, key.service, node.namespace, node.labels)
    policy = effective(rule, key.subset, key.port.number).policy
    parts = tuple(_said(mesh, getattr(policy, name)) for name in PARTS)
    service = key.service
    # In which family names are looked up depends on the proxy's own.
    own = (node.cluster, node.network, node.wildcards, key.name) if service.by_name else ()
    kind = (node.type, parts, service.traffic_distribution, service.headless, service.resolution, own)
    return kind, mesh.known(("shape", kind), lambda: decode_cluster(bytes(outbound_cluster(mesh, node, key))))


def _said(mesh: Mesh, part: object) -> str:
    """What a part of a policy says; parts of rules live as long as their mesh."""
    return mesh.known(("said", id(part)), lambda: part.model_dump_json() if isinstance(part, Part) else repr(part))


def _weights(found: Sequence[Group]) -> Hashable:
    """What a table is made of beside the settings."""
    return tuple(
        (
            group.priority,
            group.locality,
            group.weight,
            tuple((one.weight, health_of(one.endpoint)) for one in group.candidates),
        )
        for group in found
    )


def rows_of(shape: Cluster, assignment: Assignment) -> tuple[tuple[str, Row], ...]:
    """Endpoints of an assignment that is nobody else's, by address and port."""
    places = [one.address for one in cluster_of(shape, assignment).endpoints]
    return tuple((places[at], row) for at, row in _rows(shape, assignment, places))


def _rows(shape: Cluster, assignment: Assignment, places: Sequence[str]) -> tuple[tuple[int, Row], ...]:
    """Endpoints, each with its place among those that were sent."""
    model = cluster_of(shape, assignment)
    if not model.endpoints:
        return ()
    explanation = explain(compile_model(model))
    loads = {one.priority: one.arithmetic for one in explanation.priorities}
    found = []
    at = 0
    for endpoint, share in zip(model.endpoints, explanation.endpoints, strict=True):
        at = places.index(endpoint.address, at)
        why = share.reason or "; ".join(loads.get(endpoint.priority, ()))
        row = Row(endpoint.priority, str(endpoint.locality), endpoint.weight, endpoint.health, share.share or 0.0, why)
        found.append((at, row))
        at += 1
    return tuple(found)
