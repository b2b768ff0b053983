"""Who asks: the xDS Node as the embedded control plane understands it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from eastgate.xds.resources import Locality

from .families import family_of, is_global_unicast
from .locality import locality_label, parse_locality
from .model import (
    CLUSTER_LABEL,
    HOSTNAME_LABEL,
    NETWORK_LABEL,
    REGION_LABEL,
    SUB_ZONE_LABEL,
    ZONE_LABEL,
    Mesh,
    Service,
    Workload,
)
from .networks import is_address
from .part import seconds

TYPES = ("router", "sidecar")
OWN_PORTS = ("ENVOY_STATUS_PORT", "ENVOY_PROMETHEUS_PORT")
WILDCARDS, LOOPBACKS, SOURCES = ("0.0.0.0", "::"), ("127.0.0.1", "::1"), ("127.0.0.6", "::6")
"""Where a proxy listens and what inbound connections come from, by family (istio, core/listener_address.go)."""


class NodeRefusedError(Exception):
    """A node that istiod would refuse too; the text is one line for the client."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """A proxy: what it is, where it is, which labels it has. ``workload``: the pod of this address, None: unknown.

    ``addresses``: all of it, `address` the first; their families are those that it has. ``dual_stack``: its istiod has
    proxies with both serve both. ``interception``: REDIRECT, TPROXY or NONE. ``own_ports``: those of its probes and
    metrics, where nothing else may listen. ``unprivileged``: it cannot bind ports below 1024.
    """

    type: str
    address: str
    name: str
    namespace: str
    cluster: str
    network: str
    requested_networks: frozenset[str]
    labels: Mapping[str, str]
    locality: Locality
    workload: Workload | None = None
    domain: str = ""
    mesh_id: str = ""
    interception: str = "REDIRECT"
    own_ports: frozenset[int] = frozenset()
    unprivileged: bool = False
    idle_timeout_s: float | None = None
    addresses: tuple[str, ...] = ()
    dual_stack: bool = False

    @property
    def ipv4(self) -> bool:
        """Whether it has an IPv4 address; one that says none has."""
        return not self.addresses or any(family_of(one) == "IPv4" for one in self.addresses)

    @property
    def ipv6(self) -> bool:
        """Whether it has an IPv6 address."""
        return any(family_of(one) == "IPv6" for one in self.addresses)

    @property
    def serves_both(self) -> bool:
        """Whether it is to listen and connect over both families."""
        return self.dual_stack and self.ipv4 and self.ipv6

    @property
    def wildcards(self) -> tuple[str, ...]:
        """Where it listens for all addresses, the first one the name."""
        return self._of_families(WILDCARDS)

    @property
    def loopbacks(self) -> tuple[str, ...]:
        """Where it listens for its own machine."""
        return self._of_families(LOOPBACKS)

    @property
    def inbound_binds(self) -> tuple[str, ...]:
        """Where a Sidecar's port listens that does not say it: an address of its own, else anywhere."""
        own = next((one for one in self.addresses if is_global_unicast(one)), "")
        return (own,) if own else self.wildcards

    def sources(self, *, passthrough: bool = False) -> tuple[str, ...]:
        """What connections to the application come from. ``passthrough``: to ports of no service, where istiod does
        not ask for dual stack.
        """
        return SOURCES if passthrough and self.ipv4 and self.ipv6 else self._of_families(SOURCES)

    def addresses_of(self, service: Service) -> tuple[str, ...]:
        """Virtual IPs of a service as this proxy knows them: those of its families, with dual stack both.

        Without one of its families it gets the first there is, as istiod has it (getAllAddressesForProxy in
        pilot/pkg/model/service.go).
        """
        own = service.addresses.get(self.cluster, ())
        if not self.serves_both:
            family = family_of(own[0]) if self.ipv4 and self.ipv6 and own else "IPv4" if self.ipv4 else "IPv6"
            own = tuple(one for one in own if family_of(one) == family)
        default = service.default_address(self.cluster)
        return own or ((default,) if default else ())

    def _of_families(self, both: tuple[str, str]) -> tuple[str, ...]:
        if self.serves_both:
            return both
        return both[:1] if self.ipv4 else both[1:]


def _texts(value: Any) -> dict[str, str]:
    return {str(key): str(one) for key, one in value.items()} if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[str]:
    return [part.strip() for part in str(value or "").split(",") if part.strip()]


def _addresses(node_id: str, address: str, told: list[str]) -> list[str]:
    """Those of INSTANCE_IPS if all of them are addresses, else the one of the id, as istiod has it."""
    found = told if told and all(map(is_address, told)) else [address]
    if not is_address(found[0]):
        raise NodeRefusedError(f"node {node_id!r}: {address!r} is no address, and INSTANCE_IPS has none in its place")
    return found


def _ports(metadata: Mapping[str, Any]) -> frozenset[int]:
    found = (metadata.get(key) for key in OWN_PORTS)
    return frozenset(int(port) for port in found if isinstance(port, int | float) and 0 < port < 65536)


def _idle_timeout(metadata: Mapping[str, Any]) -> float | None:
    """IDLE_TIMEOUT; a text that is no duration is none, as istiod has it."""
    try:
        return seconds(metadata.get("IDLE_TIMEOUT"))
    except ValueError:
        return None


def node_view(node_id: str, metadata: Mapping[str, Any], locality: Locality, mesh: Mesh) -> NodeView:
    """Read a Node. Raises NodeRefusedError for an id of another form and for a cluster that the mesh does not have."""
    parts = node_id.split("~")
    if len(parts) != 4:
        raise NodeRefusedError(f"node id {node_id!r} is not of the form type~address~pod.namespace~domain")
    kind, address, pod, domain = parts
    if kind not in TYPES:
        raise NodeRefusedError(f"node {node_id!r}: type {kind!r} is none of {', '.join(TYPES)}")
    addresses = _addresses(node_id, address, _list(metadata.get("INSTANCE_IPS")))
    cluster = str(metadata.get("CLUSTER_ID") or "Kubernetes")
    if cluster not in mesh.clusters:
        known = ", ".join(sorted(mesh.clusters))
        raise NodeRefusedError(f"node {node_id!r}: CLUSTER_ID {cluster!r} is no cluster of this mesh ({known})")
    name, _, pod_namespace = pod.rpartition(".")
    namespace = str(metadata.get("NAMESPACE") or domain.partition(".")[0] or pod_namespace)
    # Several workloads of a trial share an address: the name counts first.
    there = mesh.known("workloads", lambda: _by_name_and_address(mesh.workloads))
    workload = there.get((cluster, namespace, name)) or there.get((cluster, addresses[0]))
    labels = dict(workload.labels) if workload else _texts(metadata.get("LABELS"))
    view = NodeView(
        type=kind,
        address=addresses[0],
        name=name or pod,
        namespace=namespace,
        cluster=cluster,
        network=str(metadata.get("NETWORK") or ""),
        requested_networks=frozenset(_list(metadata.get("REQUESTED_NETWORK_VIEW"))),
        labels=labels,
        locality=_locality(workload, labels, locality),
        workload=workload,
        domain=domain,
        mesh_id=str(metadata.get("MESH_ID") or ""),
        interception=str(metadata.get("INTERCEPTION_MODE") or "REDIRECT"),
        own_ports=_ports(metadata),
        unprivileged=str(metadata.get("UNPRIVILEGED_POD")) == "true",
        idle_timeout_s=_idle_timeout(metadata),
        addresses=tuple(addresses),
        dual_stack=mesh.dual_stack,
    )
    return replace(view, labels={**labels, **_topology(view, str(metadata.get("NODE_NAME") or ""))})


def _by_name_and_address(workloads: Iterable[Workload]) -> dict[tuple[str, ...], Workload]:
    """Workloads by cluster, namespace and name, and by cluster and address; of several the first."""
    found: dict[tuple[str, ...], Workload] = {}
    for one in workloads:
        found.setdefault(one.identity, one)
        for address in one.all_addresses or ("",):
            found.setdefault((one.cluster, address), one)
    return found


def _locality(workload: Workload | None, labels: Mapping[str, str], told: Locality) -> Locality:
    """The registry's word first, then the node's labels, then what the Node says."""
    if workload and any(workload.locality):
        return workload.locality
    text = locality_label(labels)
    return parse_locality(text) if text else told


def _topology(view: NodeView, node_name: str) -> dict[str, str]:
    added = {
        CLUSTER_LABEL: view.cluster,
        NETWORK_LABEL: view.network,
        REGION_LABEL: view.locality.region,
        ZONE_LABEL: view.locality.zone,
        SUB_ZONE_LABEL: view.locality.sub_zone,
        HOSTNAME_LABEL: view.workload.node if view.workload else node_name,
    }
    return {key: value for key, value in added.items() if value}
