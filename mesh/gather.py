"""The part of a mesh that stands in Kubernetes objects: nodes, networks, workloads, services, gateways."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .documents import Document, Path
from .kubernetes import (
    DISABLE_INJECTION,
    EXPORT_TO,
    INJECT_LABEL,
    NETWORK,
    ApiGateway,
    Deployment,
    Endpoints,
    EndpointSlice,
    KubernetesService,
    Namespace,
    NodeObject,
    Pod,
    Read,
    SliceEndpoint,
    traffic_distribution,
)
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
    """

    nodes: dict[str, dict[str, NodeSection]] = field(default_factory=dict)
    networks: dict[str, str] = field(default_factory=dict)
    gateways: dict[str, list[tuple[GatewaySection, str, Place]]] = field(default_factory=dict)
    workloads: list[tuple[str, WorkloadSection, Place]] = field(default_factory=list)
    services: list[tuple[ServiceSection, dict[str, str], Place]] = field(default_factory=list)
    passthrough: list[tuple[dict[str, Any], frozenset[str], Place]] = field(default_factory=list)


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
    slices = [(one, part) for one, part in _each(by_kind, EndpointSlice)]
    slices += [(one, old.as_slice()) for one, old in _each(by_kind, Endpoints)]
    _pods(gathered, by_kind)
    _deployments(gathered, by_kind, injected)
    _services(gathered, by_kind, slices, note)
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
            address=pod.status.pod_ip,
            node=pod.spec.node_name,
            labels=labels,
            service_account=pod.spec.service_account_name,
            ready=pod.is_ready,
            mtls=labels.get(TLS_MODE_LABEL) == "istio",
            ports=pod.spec.named_ports,
        )
        gathered.workloads += [(cluster, section, one.place) for cluster in sorted(one.clusters)]


def _deployments(
    gathered: Gathered, by_kind: Mapping[type[Read], list[Found]], injected: Mapping[tuple[str, str], bool]
) -> None:
    """Pods that a Deployment will have, where no pod of it is in the file."""
    there = [(cluster, one.namespace, one.labels) for cluster, one, _ in gathered.workloads]
    for one, deployment in _each(by_kind, Deployment):
        namespace = deployment.metadata.namespace or "default"
        spec, template = deployment.spec, deployment.spec.template
        labels = template.metadata.labels
        selected = spec.selector.match_labels or labels
        for cluster in sorted(one.clusters):
            if any(
                (cluster, namespace) == (where, place) and selected.items() <= has.items()
                for where, place, has in there
            ):
                continue
            asked = labels.get(INJECT_LABEL, "")
            section = WorkloadSection.model_construct(
                namespace=namespace,
                labels=labels,
                node=_node_for(gathered, cluster, template.spec.node_selector),
                service_account=template.spec.service_account_name,
                # Without its Namespace in the file: as in a mesh where every namespace is injected.
                mtls=asked == "true" or (asked != "false" and injected.get((cluster, namespace), True)),
                ports=template.spec.named_ports,
            )
            gathered.workloads += [
                (cluster, section.model_copy(update={"name": f"{deployment.metadata.name}-{index}"}), one.place)
                for index in range(spec.replicas)
            ]


def _node_for(gathered: Gathered, cluster: str, selector: Mapping[str, str]) -> str:
    """The node whose region and zone a nodeSelector names, or the only locality that there is."""
    wanted = NodeObject.model_validate({"metadata": {"name": "-", "labels": dict(selector)}}).locality()
    nodes = gathered.nodes.get(cluster, {})
    fitting = [
        name for name, node in nodes.items() if all(getattr(node, part) == value for part, value in wanted.items())
    ]
    localities = {(nodes[name].region, nodes[name].zone, nodes[name].sub_zone) for name in fitting}
    return fitting[0] if len(localities) == 1 else ""


def _services(
    gathered: Gathered,
    by_kind: Mapping[type[Read], list[Found]],
    slices: list[tuple[Found, EndpointSlice]],
    note: Note,
) -> None:
    merged: dict[tuple[str, str], tuple[ServiceSection, dict[str, str], Place]] = {}
    for one, service in _each(by_kind, KubernetesService):
        meta = service.metadata
        title = f"Service {meta.namespace or 'default'}/{meta.name}"
        for cluster in sorted(one.clusters):
            _labelled_gateways(gathered, cluster, service, one.place, note)
        if service.spec.type == "ExternalName" or not service.spec.ports:
            note(one.place, f"{title}: {'ExternalName' if service.spec.ports else 'without ports'}, left out")
            continue
        section = _section(service, one.clusters)
        addresses = {} if service.is_headless else dict.fromkeys(sorted(one.clusters), service.spec.cluster_ip)
        key = (section.namespace, section.name)
        known = merged.get(key)
        if known is None:
            merged[key] = (section, addresses, one.place)
            continue
        if (known[0].ports, known[0].selector) != (section.ports, section.selector):
            note(one.place, f"{title}: not as in {', '.join(known[0].clusters)}, whose ports and selector are taken")
        clusters = [*known[0].clusters, *(name for name in section.clusters if name not in known[0].clusters)]
        merged[key] = (known[0].model_copy(update={"clusters": clusters}), {**known[1], **addresses}, known[2])
    for section, addresses, place in merged.values():
        members = _members(gathered, section, slices, note)
        gathered.services.append((section.model_copy(update={"endpoints": members}), addresses, place))


def _section(service: KubernetesService, clusters: frozenset[str]) -> ServiceSection:
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
        traffic_distribution=traffic_distribution(service),
        headless=service.is_headless,
        export_to=[word.strip() for word in meta.annotations.get(EXPORT_TO, "").split(",") if word.strip()],
    )


def _members(
    gathered: Gathered, section: ServiceSection, slices: list[tuple[Found, EndpointSlice]], note: Note
) -> dict[str, list[str]]:
    """Addresses of the service's slices by cluster, where its selector does not say who its endpoints are.

    An address that no pod of the file has becomes a workload of its own.
    """
    found: dict[str, list[str]] = {}
    for one, part in slices:
        if (part.service, part.metadata.namespace or "default") != (section.name, section.namespace):
            continue
        for cluster in sorted(one.clusters):
            pods = {work.address for where, work, _ in gathered.workloads if where == cluster}
            selected = any(
                where == cluster
                and work.namespace == section.namespace
                and section.selector.items() <= work.labels.items()
                for where, work, _ in gathered.workloads
            )
            if section.selector and selected:
                continue
            for endpoint in part.endpoints:
                if endpoint.conditions.terminating:
                    continue
                found.setdefault(cluster, []).extend(endpoint.addresses)
                missing = [address for address in endpoint.addresses if address not in pods]
                if missing and endpoint.target_ref.kind == "Pod":
                    title = f"{section.name}.{section.namespace}"
                    note(one.place, f"{title}: its pods are not in the file, taken as injected")
                gathered.workloads += [
                    (cluster, _bare(address, section.namespace, endpoint), one.place) for address in missing
                ]
    return found


def _bare(address: str, namespace: str, endpoint: SliceEndpoint) -> WorkloadSection:
    return WorkloadSection.model_construct(
        # A name may not hold the colons of IPv6.
        name=endpoint.target_ref.name or address.replace(":", "-"),
        namespace=namespace,
        address=address,
        node=endpoint.node_name,
        ready=endpoint.conditions.ready,
        mtls=endpoint.target_ref.kind == "Pod",
    )


def _labelled_gateways(gathered: Gathered, cluster: str, service: KubernetesService, place: Place, note: Note) -> None:
    """A Service that is labelled with a network, and has an address outside, is a way into it."""
    network = service.metadata.labels.get(NETWORK)
    if not network:
        return
    port = service.gateway_port()
    title = f"Service {service.metadata.namespace}/{service.metadata.name}"
    if port is None:
        note(place, f"{title}: labelled as gateway of {network}, and has no port for it: nobody goes through it")
    elif not service.outside_addresses:
        note(place, f"{title}: labelled as gateway of {network}, and has no address outside: nobody goes through it")
    else:
        found = gathered.gateways.setdefault(cluster, [])
        for address in service.outside_addresses:
            found.append((GatewaySection(address=address, port=port), network, place))


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
