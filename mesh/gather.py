"""The part of a mesh that stands in Kubernetes objects: nodes, networks, workloads, services, gateways."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .documents import Document, Path
from .families import family_of
from .kubernetes import (
    DISABLE_INJECTION,
    EXPORT_TO,
    NETWORK,
    ApiGateway,
    Endpoints,
    EndpointSlice,
    KubernetesService,
    Namespace,
    SliceEndpoint,
    traffic_distribution,
)
from .kubernetes_part import Read
from .kubernetes_pods import DaemonSet, Deployment, NodeObject, Pod, PodSpec, StatefulSet, Template
from .mesh_schema import GatewaySection, NodeSection, PortSection, ServiceSection, WorkloadSection
from .model import TLS_MODE_LABEL


class Place(NamedTuple):
    """Where something stands in a file."""

    document: Document
    path: Path


@dataclass(frozen=True, slots=True)
class Found:
    """One Kubernetes object, and the clusters that it is applied to."""

    place: Place
    clusters: frozenset[str]
    value: Read


@dataclass(slots=True)
class Gathered:
    """What the objects say, as sections of a mesh file. ``workloads``: cluster, workload, where it stands.

    ``gateways``, ``nodes``, ``networks``: by cluster. ``passthrough``: Istio Gateways that Gateway API ones stand for.
    ``dead_ends``: network and place of each Service that is labelled as a gateway and cannot be one, and why.
    """

    nodes: dict[str, dict[str, NodeSection]] = field(default_factory=dict)
    networks: dict[str, str] = field(default_factory=dict)
    gateways: dict[str, list[tuple[GatewaySection, str, Place]]] = field(default_factory=dict)
    workloads: list[tuple[str, WorkloadSection, Place]] = field(default_factory=list)
    services: list[tuple[ServiceSection, dict[str, list[str]], Place]] = field(default_factory=list)
    passthrough: list[tuple[dict[str, Any], frozenset[str], Place]] = field(default_factory=list)
    dead_ends: list[tuple[str, Place, str]] = field(default_factory=list)


Note = Callable[[Place, str], None]


def gather(objects: Iterable[Found], root_namespace: str, note: Note) -> Gathered:
    """Sections of all objects. ``note``: told of what is not taken as it stands."""
    by_kind: dict[type[Read], list[Found]] = {}
    for one in objects:
        by_kind.setdefault(type(one.value), []).append(one)
    gathered = Gathered()
    for one, node in _each(by_kind, NodeObject):
        for cluster in one.clusters:
            gathered.nodes.setdefault(cluster, {})[node.metadata.name] = NodeSection(**node.locality())
    injected: dict[tuple[str, str], bool] = {}
    for one, namespace in _each(by_kind, Namespace):
        labels = namespace.metadata.labels
        for cluster in one.clusters:
            if namespace.metadata.name == root_namespace and labels.get(NETWORK):
                gathered.networks[cluster] = labels[NETWORK]
            asked = labels.get("istio-injection") == "enabled" or "istio.io/rev" in labels
            injected[cluster, namespace.metadata.name] = asked and DISABLE_INJECTION not in labels.items()
    _pods(gathered, by_kind)
    _deployments(gathered, by_kind, injected, note)
    _services(gathered, by_kind, note)
    _api_gateways(gathered, by_kind)
    return gathered


def _each(by_kind: Mapping[type[Read], list[Found]], kind: type[Any]) -> list[tuple[Found, Any]]:
    return [(one, one.value) for one in by_kind.get(kind, ())]


def _pods(gathered: Gathered, by_kind: Mapping[type[Read], list[Found]]) -> None:
    for one, pod in _each(by_kind, Pod):
        if not pod.is_member:
            continue
        labels = pod.metadata.labels
        section = WorkloadSection.model_construct(
            name=pod.metadata.name,
            namespace=pod.metadata.namespace or "default",
            address=pod.status.addresses[0],
            additional_addresses=pod.status.addresses[1:],
            node=pod.spec.node_name,
            labels=labels,
            service_account=pod.spec.account,
            ready=pod.is_ready,
            ready_since=pod.ready_since,
            mtls=labels.get(TLS_MODE_LABEL) == "istio",
            ports=pod.spec.named_ports,
        )
        gathered.workloads += [(cluster, section, one.place) for cluster in sorted(one.clusters)]


def _deployments(
    gathered: Gathered, by_kind: Mapping[type[Read], list[Found]], injected: Mapping[tuple[str, str], bool], note: Note
) -> None:
    """Pods that Deployments and DaemonSets will have, where no pod of them is in the file."""
    there: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for cluster, work, _ in gathered.workloads:
        there.setdefault((cluster, work.namespace), []).append(work.labels)
    for one, deployment in (pair for kind in (Deployment, StatefulSet, DaemonSet) for pair in _each(by_kind, kind)):
        namespace = deployment.metadata.namespace or "default"
        spec, template = deployment.spec, deployment.spec.template
        selected = spec.selector.match_labels or template.metadata.labels
        for cluster in sorted(one.clusters):
            if any(selected.items() <= has.items() for has in there.get((cluster, namespace), ())):
                continue
            # Without its Namespace in the file: as in a mesh where every namespace is injected.
            mtls = template.is_injected(by_namespace=injected.get((cluster, namespace), True))
            section = _of_template(template, namespace, mtls=mtls, named=isinstance(deployment, StatefulSet))
            nodes = _nodes_of(by_kind, cluster)
            if isinstance(deployment, Deployment):
                node = _node_for(nodes, template.spec)
                places = [(str(index), node) for index in range(deployment.spec.replicas)]
            else:
                places = [(node.metadata.name, node.metadata.name) for node in nodes if deployment.is_on(node)]
                if not nodes:
                    title = f"DaemonSet {namespace}/{deployment.metadata.name}"
                    note(one.place, f"{title}: no Node of {cluster} is in the files: its pods are not known")
            for suffix, node in places:
                pod = section.model_copy(update={"name": f"{deployment.metadata.name}-{suffix}", "node": node})
                gathered.workloads.append((cluster, pod, one.place))


def _of_template(template: Template, namespace: str, *, mtls: bool, named: bool) -> WorkloadSection:
    """A pod as its template says it, without a name and a place. ``named``: it will have the name that it gets."""
    return WorkloadSection.model_construct(
        namespace=namespace,
        labels=template.metadata.labels,
        service_account=template.spec.account,
        mtls=mtls,
        ports=template.spec.named_ports,
        invented_name=not named,
    )


def _node_for(nodes: Iterable[NodeObject], asked: PodSpec) -> str:
    """A node that takes a pod, where all that do are in one locality."""
    fitting = [one for one in nodes if one.takes(asked)]
    localities = {tuple(one.locality().items()) for one in fitting}
    return fitting[0].metadata.name if len(localities) == 1 else ""


def _nodes_of(by_kind: Mapping[type[Read], list[Found]], cluster: str) -> list[NodeObject]:
    return [node for one, node in _each(by_kind, NodeObject) if cluster in one.clusters]


def _services(
    gathered: Gathered,
    by_kind: Mapping[type[Read], list[Found]],
    note: Note,
) -> None:
    namespaces = {namespace.metadata.name: namespace.metadata.annotations for _, namespace in _each(by_kind, Namespace)}
    merged: dict[tuple[str, str], tuple[ServiceSection, dict[str, list[str]], Place]] = {}
    for one, service in _each(by_kind, KubernetesService):
        meta = service.metadata
        title = f"Service {meta.namespace or 'default'}/{meta.name}"
        for cluster in sorted(one.clusters):
            _labelled_gateways(gathered, by_kind, cluster, service, one.place)
        if service.spec.type == "ExternalName" or not service.spec.ports:
            note(one.place, f"{title}: {'ExternalName' if service.spec.ports else 'without ports'}, left out")
            continue
        section = _section(service, one.clusters, namespaces.get(meta.namespace or "default", {}))
        addresses = {} if service.is_headless else dict.fromkeys(sorted(one.clusters), service.spec.addresses)
        key = (section.namespace, section.name)
        known = merged.get(key)
        if known is None:
            merged[key] = (section, addresses, one.place)
            continue
        if (known[0].ports, known[0].selector) != (section.ports, section.selector):
            note(one.place, f"{title}: not as in {', '.join(known[0].clusters)}, whose ports and selector are taken")
        clusters = [*known[0].clusters, *(name for name in section.clusters if name not in known[0].clusters)]
        merged[key] = (known[0].model_copy(update={"clusters": clusters}), {**known[1], **addresses}, known[2])
    slices = _Slices(gathered, by_kind, note)
    gathered.services += [(slices.members(section), addresses, place) for section, addresses, place in merged.values()]


def _section(service: KubernetesService, clusters: frozenset[str], namespace: Mapping[str, str]) -> ServiceSection:
    meta = service.metadata
    ports = [
        PortSection.model_construct(
            port=one.port,
            name=one.name,
            target_port=one.target_port or None,
            protocol="TCP" if one.protocol == "TCP" else "UDP",
            app_protocol=one.app_protocol,
        )
        for one in service.spec.ports
    ]
    numbers = {one.port for one in ports if one.protocol == "TCP"}
    return ServiceSection.model_construct(
        name=meta.name,
        namespace=meta.namespace or "default",
        # A number may stand once for TCP and once for UDP.
        ports=[one for one in ports if one.protocol == "TCP" or one.port not in numbers],
        selector=service.spec.selector,
        clusters=sorted(clusters),
        traffic_distribution=traffic_distribution(service, namespace),
        headless=service.is_headless,
        families=list(service.spec.families),
        node_local=service.spec.internal_traffic_policy == "Local",
        publishes_unready=service.spec.publish_not_ready_addresses,
        export_to=[word.strip() for word in meta.annotations.get(EXPORT_TO, "").split(",") if word.strip()],
    )


class _Slices:
    """Slices by service, and what of the workloads is known already."""

    def __init__(self, gathered: Gathered, by_kind: Mapping[type[Read], list[Found]], note: Note) -> None:
        self._gathered, self._note = gathered, note
        self._of: dict[tuple[str, str], list[tuple[Found, EndpointSlice]]] = {}
        found = [(one, part) for one, part in _each(by_kind, EndpointSlice) if part.address_type != "FQDN"]
        found += [(one, part) for one, old in _each(by_kind, Endpoints) for part in old.as_slices()]
        for one, part in found:
            self._of.setdefault((part.service, part.metadata.namespace or "default"), []).append((one, part))
        self._labels: dict[tuple[str, str], list[Mapping[str, str]]] = {}
        # Whether the workload at an address is ready, by cluster.
        self._ready: dict[str, dict[str, bool]] = {}
        # Namespaces of ready pods, by cluster and address: as istiod finds who is there.
        self._found: dict[tuple[str, str], set[str]] = {}
        self._names: set[tuple[str, str, str]] = set()
        # Pods that only slices name, by cluster, namespace and name: their place among the workloads.
        self._only_named: dict[tuple[str, str, str], int] = {}
        for cluster, work, _ in gathered.workloads:
            self._labels.setdefault((cluster, work.namespace), []).append(work.labels)
            for address in (work.address or "", *work.additional_addresses):
                self._ready.setdefault(cluster, {})[address] = work.ready
                self._found.setdefault((cluster, address), set()).update([work.namespace] if work.ready else [])
            self._names.add((cluster, work.namespace, work.name))

    def members(self, section: ServiceSection) -> ServiceSection:
        """The service with addresses and ports of its slices, where its selector does not say who its endpoints are.

        An address that no pod of the file has becomes a workload of its own.
        """
        endpoints: dict[str, list[str]] = {}
        ports: dict[str, dict[str, dict[str, int]]] = {}
        ready: dict[str, dict[str, bool]] = {}
        anonymous: dict[str, list[str]] = {}
        first = section.families[0] if section.families else "IPv4"
        # A pod's first address is of the service's first family.
        found = self._of.get((section.name, section.namespace), ())
        for one, part in sorted(found, key=lambda placed: placed[1].address_type != first):
            for cluster in sorted(one.clusters - self._selected_in(section, one.clusters)):
                taken = [endpoint for endpoint in part.endpoints if self._is_member(section, one, endpoint)]
                for endpoint in taken:
                    self._add(cluster, section, endpoint, one.place)
                told = {address: endpoint.conditions.ready for endpoint in taken for address in endpoint.addresses}
                addresses = list(told)
                endpoints.setdefault(cluster, []).extend(addresses)
                unlike = {address: word for address, word in told.items() if self._ready[cluster][address] != word}
                ready.setdefault(cluster, {}).update(unlike)
                if lost := list(self._not_found(cluster, section, taken)):
                    anonymous.setdefault(cluster, []).extend(lost)
                stated = ports.setdefault(cluster, {})
                for address in addresses:
                    numbers = {port.name: port.port for port in part.ports if port.port}
                    stated[address] = {**stated.get(address, {}), **numbers}
        told_otherwise = {cluster: words for cluster, words in ready.items() if words}
        changes = {
            "endpoints": endpoints,
            "endpoint_ports": ports,
            "endpoint_ready": told_otherwise,
            "anonymous": anonymous,
        }
        return section.model_copy(update=changes)

    def _not_found(self, cluster: str, section: ServiceSection, taken: Iterable[SliceEndpoint]) -> Iterator[str]:
        """Addresses of pods that no targetRef names, and that are not ready or of another namespace."""
        for address in (each for one in taken if one.target_ref.kind != "Pod" for each in one.addresses):
            if section.namespace not in self._found.get((cluster, address), {section.namespace}):
                yield address

    def _selected_in(self, section: ServiceSection, clusters: frozenset[str]) -> set[str]:
        if not section.selector:
            return set()
        wanted = section.selector.items()
        return {
            name
            for name in clusters
            if any(wanted <= labels.items() for labels in self._labels.get((name, section.namespace), ()))
        }

    @staticmethod
    def _is_member(section: ServiceSection, one: Found, endpoint: SliceEndpoint) -> bool:
        if section.selector and isinstance(one.value, Endpoints):
            # Not copied into a slice: the one that Kubernetes makes of the selector says that it does not end.
            return True
        return endpoint.conditions.is_member

    def _add(self, cluster: str, section: ServiceSection, endpoint: SliceEndpoint, place: Place) -> None:
        known = self._ready.setdefault(cluster, {})
        missing = [address for address in endpoint.addresses if address not in known]
        if missing and endpoint.target_ref.kind == "Pod":
            title = f"{section.name}.{section.namespace}"
            self._note(place, f"{title}: its pods are not in the file, taken as injected, their labels are not known")
        for address in missing:
            known[address] = endpoint.conditions.ready
            work = _bare(address, section.namespace, endpoint)
            name = (cluster, work.namespace, work.name)
            if name in self._only_named and self._joined(self._only_named[name], address):
                continue
            if name in self._names:
                work = work.model_copy(update={"name": f"{work.name}-{_as_name(address)}"})
            elif endpoint.target_ref.kind == "Pod":
                self._only_named[name] = len(self._gathered.workloads)
            self._names.add((cluster, work.namespace, work.name))
            self._gathered.workloads.append((cluster, work, place))

    def _joined(self, at: int, address: str) -> bool:
        """The pod with an address of its other family; False: it has one of this family already."""
        cluster, work, place = self._gathered.workloads[at]
        there = [work.address or "", *work.additional_addresses]
        if family_of(address) in map(family_of, there):
            return False
        joined = work.model_copy(update={"additional_addresses": [*work.additional_addresses, address]})
        self._gathered.workloads[at] = (cluster, joined, place)
        return True


def _as_name(address: str) -> str:
    """A name may not hold the colons of IPv6."""
    return address.replace(":", "-")


def _bare(address: str, namespace: str, endpoint: SliceEndpoint) -> WorkloadSection:
    """A pod that is not in the file, or an address that is no pod's: of that one its node says nothing."""
    is_pod = endpoint.target_ref.kind == "Pod"
    return WorkloadSection.model_construct(
        name=endpoint.target_ref.name or _as_name(address),
        namespace=namespace,
        address=address,
        node=endpoint.node_name if is_pod else "",
        service_account="default" if is_pod else "",
        ready=endpoint.conditions.ready,
        mtls=is_pod,
    )


def _labelled_gateways(
    gathered: Gathered,
    by_kind: Mapping[type[Read], list[Found]],
    cluster: str,
    service: KubernetesService,
    place: Place,
) -> None:
    """A Service that is labelled with a network, and has an address outside, is a way into it."""
    network = service.metadata.labels.get(NETWORK)
    if not network:
        return
    port = service.gateway_port()
    title = f"Service {service.metadata.namespace}/{service.metadata.name}: labelled as gateway of {network}, and"
    addresses = service.outside_addresses
    if not addresses and service.is_on_nodes:
        wanted = service.nodes_wanted().items()
        chosen = [node for node in _nodes_of(by_kind, cluster) if wanted <= node.metadata.labels.items()]
        addresses = [node.external_ip for node in chosen if node.external_ip]
    if port is None:
        missing = "has no port for it"
    elif not addresses:
        missing = "no chosen node has an ExternalIP" if service.is_on_nodes else "has no address outside"
    elif not (outside := service.outside_port(port)):
        missing = f"has no nodePort for port {port} in the file"
    else:
        found = gathered.gateways.setdefault(cluster, [])
        for address in addresses:
            found.append((GatewaySection(address=address, port=outside), network, place))
        return
    gathered.dead_ends.append((network, place, f"{title} {missing}: nobody goes through it"))


def _api_gateways(gathered: Gathered, by_kind: Mapping[type[Read], list[Found]]) -> None:
    for one, gateway in _each(by_kind, ApiGateway):
        network = gateway.metadata.labels.get(NETWORK, "")
        for cluster in sorted(one.clusters):
            known = gathered.gateways.setdefault(cluster, [])
            there = {(way.address, way.port) for way, _, _ in known}
            for address, port in gateway.ways():
                if (address, port) not in there:
                    known.append((GatewaySection(address=address, port=port), network, one.place))
        servers = [
            {
                "port": {"number": listener.port, "name": listener.name, "protocol": "TLS"},
                "hosts": [listener.hostname or "*"],
                "tls": {"mode": "AUTO_PASSTHROUGH"},
            }
            for listener in gateway.passthrough()
        ]
        if servers:
            name, generated = gateway.metadata.name, f"{gateway.metadata.name}-istio-autogenerated-k8s-gateway"
            content = {
                "apiVersion": "networking.istio.io/v1",
                "kind": "Gateway",
                "metadata": {"name": generated, "namespace": gateway.metadata.namespace},
                "spec": {"selector": {"gateway.networking.k8s.io/gateway-name": name}, "servers": servers},
            }
            gathered.passthrough.append((content, one.clusters, one.place))
