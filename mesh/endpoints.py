"""Which endpoints a node gets for one cluster of CDS: members, split horizon, mTLS, locality. No xDS messages yet.

The order of the steps is istiod's: subset, clusterLocal, network view, health, then by locality split horizon and the
mTLS filter of SNI-DNAT clusters, last the locality setting (pilot/pkg/xds/endpoints/endpoint_builder.go).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import cast

from . import locality as locality_rules
from .istio import Subset
from .locality import Candidate, Group
from .model import CLUSTER_LABEL, HOSTNAME_LABEL, NETWORK_LABEL, Mesh, Service, ServicePort, Workload
from .networks import is_address
from .node_view import NodeView
from .peer_authentication import DISABLE, workload_modes
from .policy import (
    effective,
    is_cluster_local,
    locality_choice,
    tls_mode,
)
from .rules import rule_of
from .split_horizon import Member, Seen, View, mtls_only, split_horizon


@dataclass(frozen=True, slots=True)
class ClusterKey:
    """A cluster of CDS as its name says it: "outbound|80|v1|host", or "outbound_.80_.v1_.host" for SNI-DNAT."""

    service: Service
    port: ServicePort
    subset: str = ""
    sni_dnat: bool = False

    @property
    def name(self) -> str:
        """Name of the cluster, of its assignment, and for SNI-DNAT the server name too."""
        parts = ("outbound", str(self.port.number), self.subset, self.service.host)
        return "_.".join(parts) if self.sni_dnat else "|".join(parts)

    @property
    def sni(self) -> str:
        """Server name that clients of this cluster send."""
        return "_.".join(("outbound", str(self.port.number), self.subset, self.service.host))


def target_port(workload: Workload, port: ServicePort) -> int:
    """Where the workload listens for a service port; 0: it has no such port."""
    named = isinstance(port.target, str)
    target = workload.named_ports.get(str(port.target), 0) if named else int(port.target) or port.number
    return workload.listens.get(target, target)


def endpoint_port(service: Service, workload: Workload, port: ServicePort) -> int:
    """Where an endpoint listens for a service port: what its entry or slice says, else its target port; 0: nowhere."""
    if workload in service.own:
        return service.own_ports.get((workload.cluster_address, port.name), 0)
    stated = service.endpoint_ports.get(workload.cluster)
    return target_port(workload, port) if stated is None else stated.get((workload.address, port.name), 0)


def accepts_mtls(mesh: Mesh, cluster: str, workload: Workload, port: int) -> bool:
    """Whether endpoints of the workload are marked for mesh mTLS, before any DestinationRule."""
    if not workload.mtls:
        return False
    return workload_modes(mesh, cluster, workload.namespace, workload.labels).of(port) != DISABLE


def as_endpoints(mesh: Mesh, service: Service) -> Iterator[tuple[Workload, Workload]]:
    """What stands behind a service, each with the endpoint that it is for istiod.

    With dual stack a pod with two addresses behind a service with two is one endpoint. Otherwise it is one for each
    of its addresses that slices of the service have (pilot/pkg/serviceregistry/kube/controller/endpointslice.go), and
    behind a ServiceEntry that selects it the one of its first address.
    """
    for one in mesh.behind(service):
        own = one in service.own
        if not one.further or (mesh.dual_stack and (own or service.is_dual(one.cluster))):
            yield one, one
        else:
            places = (one.address,) if own else service.reached_at(one)
            yield from ((one, replace(one, address=place, further=())) for place in places)


def _members(mesh: Mesh, node: NodeView, key: ClusterKey, subset: Subset | None, *, hide_unready: bool) -> list[Member]:
    """Workloads behind the cluster, with what split horizon needs to know."""
    rule = rule_of(mesh, node.cluster, key.service, node.namespace, node.labels)
    mode = tls_mode(rule, key.subset, key.port.number)
    local = is_cluster_local(key.service.host, mesh.config)
    found = []
    for one, told in as_endpoints(mesh, key.service):
        workload = _as_told(key.service, told)
        if hide_unready and not workload.ready:
            continue
        if key.service.node_local and not _shares_node(workload, node):
            continue
        if subset and not subset.labels.items() <= workload.topology_labels().items():
            continue
        if local and workload.cluster != node.cluster:
            continue
        port = endpoint_port(key.service, one if one in key.service.own else told, key.port)
        if not port:
            continue
        if workload.address and not key.service.by_name and not is_address(workload.address):
            # A name among static endpoints of a ServiceEntry.
            continue
        # A rule cannot make a pod without a sidecar speak mTLS.
        asked = mode == "ISTIO_MUTUAL" if mode else accepts_mtls(mesh, node.cluster, workload, port)
        mtls = asked and workload.mtls
        found.append(
            Member(workload.address, workload.network, workload.cluster, workload.weight, mtls, (workload, port))
        )
    return found


def _as_told(service: Service, workload: Workload) -> Workload:
    """The workload as ready as its slice says, where one does."""
    told = service.endpoint_ready.get(workload.cluster, {}).get(workload.address)
    ready = workload.ready if told is None else told
    ready |= service.publishes_unready and workload.cluster not in service.endpoints
    return workload if ready == workload.ready else replace(workload, ready=ready)


def _shares_node(workload: Workload, node: NodeView) -> bool:
    """Nodes of two clusters may have one name."""
    return workload.cluster == node.cluster and workload.node == node.labels.get(HOSTNAME_LABEL, "")


def behind(member: Member) -> tuple[Workload, int]:
    """The workload of a member, and the port where it listens."""
    return cast("tuple[Workload, int]", member.item)


def groups(mesh: Mesh, node: NodeView, key: ClusterKey) -> tuple[Group, ...]:
    """Localities of the cluster as this node gets them; each candidate's endpoint is a Seen."""
    rule = rule_of(mesh, node.cluster, key.service, node.namespace, node.labels)
    merged = effective(rule, key.subset, key.port.number)
    if key.subset and merged.subset is None:
        return ()
    outlier = merged.policy.outlier_detection
    percent = (outlier.min_health_percent or mesh.options.min_health_percent) if outlier else 0
    hide = not mesh.options.send_unhealthy_endpoints or percent > 0
    view = View(node.network, node.requested_networks, ipv4=node.ipv4, ipv6=node.ipv6)
    by_locality: dict[str, list[Member]] = {}
    for member in _members(mesh, node, key, merged.subset, hide_unready=hide):
        if view.sees(member.network):
            by_locality.setdefault(behind(member)[0].locality_key, []).append(member)
    found = []
    for _, members in sorted(by_locality.items()):
        where = behind(members[0])[0].locality
        seen = split_horizon(members, view, mesh.gateways, sidecar=node.type == "sidecar")
        if key.sni_dnat:
            seen = mtls_only(seen)
        found.append(Group.of(where, (Candidate(one.weight, _labels(one), one) for one in seen)))
    choice = locality_choice(merged.policy, key.service.traffic_distribution, mesh.config)
    return locality_rules.apply(
        found, node.locality, node.labels, choice.setting, outlier_detection=outlier is not None
    )


def _labels(seen: Seen) -> Mapping[str, str]:
    """Labels that failoverPriority compares: a gateway has those of its network and cluster only."""
    if seen.gateway:
        return {NETWORK_LABEL: seen.gateway.network, CLUSTER_LABEL: seen.gateway.cluster}
    assert seen.member is not None
    return behind(seen.member)[0].topology_labels()
