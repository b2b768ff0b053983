"""Read a mesh file: the mesh, the Istio resources applied to it, and the scenario if it has one.

The file is YAML: a document of kind Mesh, then Istio resources verbatim, one document each, and at most one document of
kind Scenario. What cannot be used is a MeshError with file, line and cause; what is not honoured is a finding.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path as FilePath
from typing import Any, TypeVar

from eastgate.xds.resources import Locality
from pydantic import BaseModel, ValidationError

from .check import doubts, problems
from .documents import Document, Path, Progress, read_documents, silent
from .errors import MeshError
from .istio import GROUPS, SPECS, MeshConfig, unread
from .mesh_schema import MeshSection, OptionsSection, ScenarioSection, StepSection, WorkloadSection
from .model import TLS_MODE_LABEL, Cluster, Mesh, Options, Resource, Service, ServicePort, Workload, port_protocol
from .networks import gateways, network_of, network_problems
from .scenario import Outage, Scenario, Step, service_named, with_options, with_outages, with_readiness, workload_named

CLUSTERS_ANNOTATION = "eastgate/clusters"
"""Annotation of a resource that is applied to some clusters only, their names separated by commas."""

AUTO_ADDRESS = int(ip_address("240.240.0.1"))
"""Virtual addresses of services that have none are counted up from here, as Istio does for ServiceEntries."""

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class MeshFile:
    """What a file says. ``findings``: one line each for everything that is not honoured or looks wrong."""

    mesh: Mesh
    scenario: Scenario | None = None
    findings: tuple[str, ...] = ()

    def with_connections(self, count: int) -> "MeshFile":
        """With another number of connections for each step of the scenario."""
        return replace(self, scenario=self.scenario and replace(self.scenario, connections=count))


def load(path: str | FilePath, progress: Progress = silent) -> MeshFile:
    """Read the file. Raises MeshError, and what `progress` does."""
    return parse(read_bytes(path), str(path), progress)


def read_bytes(path: str | FilePath) -> bytes:
    """The bytes of a mesh file. Raises MeshError."""
    try:
        return FilePath(path).read_bytes()
    except OSError as error:
        raise MeshError(str(path), 0, f"cannot be read: {error.strerror}") from None


def parse(text: str | bytes, file: str, progress: Progress = silent) -> MeshFile:
    """Read the text of a mesh file; `file` is its name in errors. Raises MeshError."""
    documents = read_documents(text, file, progress)
    for document in documents:
        if not isinstance(document.content, dict) or not isinstance(document.content.get("kind"), str):
            raise document.error((), "a document must be a mapping with a kind")
    meshes = [one for one in documents if one.content["kind"] == "Mesh"]
    if len(meshes) != 1:
        raise MeshError(file, 0, f"{len(meshes)} documents of kind Mesh, and it takes one")
    scenarios = [one for one in documents if one.content["kind"] == "Scenario"]
    if len(scenarios) > 1:
        raise scenarios[1].error((), "a second Scenario, and a mesh file has at most one")
    reader = _Reader()
    mesh = reader.mesh(meshes[0])
    resources = (one for one in documents if one.content["kind"] not in ("Mesh", "Scenario"))
    mesh = reader.apply(mesh, [(document, ()) for document in resources])
    scenario = reader.scenario(scenarios[0], mesh) if scenarios else None
    return MeshFile(mesh, scenario, tuple(dict.fromkeys(reader.findings)))


def _validated(model: type[Model], document: Document, path: Path = (), content: Any = None) -> Model:
    """The part of a document as a model. Raises MeshError that names the first thing wrong with it."""
    try:
        return model.model_validate(document.content if content is None else content)
    except ValidationError as error:
        raise _mesh_error(error, document, path) from None


def _mesh_error(error: ValidationError, document: Document, path: Path) -> MeshError:
    first = error.errors(include_url=False)[0]
    where = (*path, *first["loc"])
    if first["type"] == "extra_forbidden":
        cause = f"unknown key {where[-1]!r}"
    elif first["type"] == "missing":
        cause = f"{where[-1]} is missing"
    else:
        name = ".".join(str(part) for part in where if part != "[key]") or "document"
        message = first["msg"].removeprefix("Value error, ")
        cause = f"{name}: {message[:1].lower()}{message[1:]}"
    return document.error(tuple(part for part in where if part != "[key]"), cause)


class _Reader:
    """Reads the documents of one file; collects findings on the way."""

    def __init__(self) -> None:
        self.findings: list[str] = []

    def _note(self, document: Document, path: Path, text: str) -> None:
        self.findings.append(f"{document.file}:{document.line(path)}: {text}")

    def mesh(self, document: Document) -> Mesh:
        """The mesh of a document, without resources."""
        section = _validated(MeshSection, document)
        for path in unread(section.mesh_config, ("meshConfig",)):
            self._note(document, path, f"{'.'.join(map(str, path))} is not honoured")
        for path, cause in network_problems(section):
            raise document.error(path, cause)
        workloads = [
            _workload(section, name, entry, document, ("clusters", name, "workloads", index))
            for name, cluster in section.clusters.items()
            for index, entry in enumerate(cluster.workloads)
        ]
        _refuse_twice(document, workloads)
        return Mesh(
            clusters={name: Cluster(name, one.network) for name, one in section.clusters.items()},
            services=_services(section, document),
            workloads=tuple(workload for _, workload in workloads),
            gateways=gateways(section),
            config=section.mesh_config,
            options=Options(**section.options.model_dump()),
        )

    def resource(self, document: Document, path: Path, content: Any, mesh: Mesh) -> Resource | None:
        """An Istio resource; None, and a finding, for a kind that the embedded control plane does not have."""
        if not isinstance(content, dict) or not isinstance(content.get("kind"), str):
            raise document.error(path, "a resource must be a mapping with a kind")
        kind, metadata = content["kind"], content.get("metadata")
        if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
            raise document.error(path, f"{kind}: metadata.name is missing")
        namespace, name = str(metadata.get("namespace") or "default"), metadata["name"]
        title = f"{kind} {namespace}/{name}"
        group = str(content.get("apiVersion", "")).partition("/")[0]
        if kind not in SPECS or group != GROUPS[kind]:
            self._note(document, path, f"{title} ({content.get('apiVersion', 'no apiVersion')}) is not supported")
            return None
        spec = _validated(SPECS[kind], document, (*path, "spec"), content.get("spec") or {})
        for where in unread(spec, (*path, "spec")):
            inside = ".".join(str(part) for part in where[len(path) :])
            self._note(document, where, f"{title}: {inside} is not honoured")
        annotations = metadata.get("annotations") or {}
        text = str(annotations.get(CLUSTERS_ANNOTATION, "")) if isinstance(annotations, dict) else ""
        clusters = frozenset(part.strip() for part in text.split(",") if part.strip()) or frozenset(mesh.clusters)
        for cluster in sorted(clusters - set(mesh.clusters)):
            raise document.error((*path, "metadata", "annotations"), f"{title}: unknown cluster {cluster!r}")
        return Resource(kind, namespace, name, spec, clusters)

    def apply(self, mesh: Mesh, placed: list[tuple[Document, Path]]) -> Mesh:
        """The mesh with these resources, checked when all of them are there: they may refer to each other."""
        found: list[tuple[Document, Path, Resource]] = []
        for document, path in placed:
            resource = self.resource(document, path, _at(document, path), mesh)
            if resource:
                found.append((document, path, resource))
        mesh = mesh.applied(one for _, _, one in found)
        for document, path, resource in found:
            title = f"{resource.kind} {resource.namespace}/{resource.name}"
            for where, cause in problems(mesh, resource):
                raise document.error((*path, *where), f"{title}: {cause}")
            for where, doubt in doubts(mesh, resource):
                self._note(document, (*path, *where), f"{title}: {doubt}")
        return mesh

    def scenario(self, document: Document, mesh: Mesh) -> Scenario:
        """The scenario of a document; each step holds the mesh as it is then."""
        section = _validated(ScenarioSection, document)
        client = _looked_up(document, ("client",), lambda: workload_named(mesh, section.client))
        service = _looked_up(document, ("service",), lambda: service_named(mesh, section.service))
        port = next((one for one in service.ports if one.number == section.port), None)
        if port is None:
            raise document.error(("port",), f"{service.host} has no port {section.port}")
        steps = []
        for index, entry in enumerate(section.steps):
            step = self._step(document, ("steps", index), entry, mesh)
            steps.append(step)
            mesh = step.mesh
        return Scenario(client, service, port, section.connections, tuple(steps))

    def _step(self, document: Document, path: Path, entry: StepSection, mesh: Mesh) -> Step:
        options = _options(document, (*path, "options"), entry.options)
        mesh = with_options(mesh, options)
        if entry.mesh_config is not None:
            config = _validated(MeshConfig, document, (*path, "meshConfig"), entry.mesh_config)
            for where in unread(config, (*path, "meshConfig")):
                self._note(document, where, f"{'.'.join(map(str, where))} is not honoured")
            mesh = replace(mesh, config=config)
        for index, text in enumerate(entry.delete):
            where = (*path, "delete", index)
            parts = tuple(text.split("/"))
            if len(parts) != 3:
                raise document.error(where, f"{text!r} is not of the form Kind/namespace/name")
            mesh = _looked_up(document, where, lambda parts=parts, mesh=mesh: mesh.without([parts]))
        mesh = self.apply(mesh, [(document, (*path, "apply", index)) for index in range(len(entry.apply))])
        for key, names, ready in (("drain", entry.drain, False), ("recover", entry.recover, True)):
            for index, text in enumerate(names):
                where = (*path, key, index)
                workload = _looked_up(document, where, lambda text=text, mesh=mesh: workload_named(mesh, text))
                mesh = with_readiness(mesh, {workload.identity}, ready=ready)
        failed = tuple(Outage(one.region, one.zone, one.gateway) for one in entry.fail)
        repaired = tuple(Outage(one.region, one.zone, one.gateway) for one in entry.repair)
        for key, outages in (("fail", failed), ("repair", repaired)):
            for index, outage in enumerate(outages):
                if outage.gateway and outage.gateway not in mesh.clusters:
                    raise document.error((*path, key, index), f"unknown cluster {outage.gateway!r}")
                if not outage.gateway and not any(outage.hits(one) for one in mesh.workloads):
                    raise document.error((*path, key, index), f"no echo workload is in {outage.region or outage.zone}")
        mesh = with_outages(with_outages(mesh, failed, ready=False), repaired, ready=True)
        for cluster in sorted(set(entry.expect) - set(mesh.clusters) - {"refused"}):
            raise document.error((*path, "expect", cluster), f"unknown cluster {cluster!r}")
        return Step(entry.name, " ".join(entry.why.split()), mesh, failed, repaired, dict(entry.expect))


def _looked_up(document: Document, path: Path, find: Any) -> Any:
    try:
        return find()
    except LookupError as error:
        raise document.error(path, str(error.args[0])) from None


def _at(document: Document, path: Path) -> Any:
    content = document.content
    for part in path:
        content = content[part]
    return content


def _options(document: Document, path: Path, changes: Mapping[str, Any]) -> dict[str, object]:
    """Changes of options, each checked as the whole section would be."""
    section = _validated(OptionsSection, document, path, changes)
    return {name: getattr(section, name) for name in section.model_fields_set}


def _workload(
    section: MeshSection, cluster: str, entry: WorkloadSection, document: Document, path: Path
) -> tuple[Path, Workload]:
    nodes = section.clusters[cluster].nodes
    if entry.node and entry.node not in nodes:
        raise document.error(
            (*path, "node"), f"workload {entry.name}: unknown node {entry.node!r} of cluster {cluster}"
        )
    node = nodes.get(entry.node)
    labels = dict(entry.labels)
    if entry.mtls and entry.role != "gateway":
        labels.setdefault(TLS_MODE_LABEL, "istio")
    network = network_of(section, cluster, entry.address)
    return path, Workload(
        name=entry.name,
        namespace=entry.namespace,
        cluster=cluster,
        network=network,
        address=entry.address or "",
        labels=labels,
        locality=Locality(node.region, node.zone, node.sub_zone) if node else Locality(),
        node=entry.node,
        service_account=entry.service_account,
        ready=entry.ready,
        named_ports=entry.ports,
        role=entry.role,
        answer=entry.answer,
    )


def _refuse_twice(document: Document, workloads: list[tuple[Path, Workload]]) -> None:
    """Names are unique in a cluster's namespace, addresses in a network."""
    names: dict[tuple[str, str, str], Workload] = {}
    addresses: dict[tuple[str, str], Workload] = {}
    for path, one in workloads:
        if one.identity in names:
            raise document.error(path, f"a second workload {'/'.join(one.identity)}")
        names[one.identity] = one
        other = addresses.setdefault((one.network, one.address), one)
        if one.address and other is not one:
            raise document.error(
                (*path, "address"),
                f"workload {one.name}: {other.name} of cluster {other.cluster} has {one.address} in network"
                f" {one.network or '(none)'} already",
            )


def _services(section: MeshSection, document: Document) -> tuple[Service, ...]:
    found: dict[tuple[str, str], Service] = {}
    for index, entry in enumerate(section.services):
        path: Path = ("services", index)
        if (entry.namespace, entry.name) in found:
            raise document.error(path, f"a second service {entry.name}.{entry.namespace}")
        for cluster in entry.clusters:
            if cluster not in section.clusters:
                raise document.error((*path, "clusters"), f"service {entry.name}: unknown cluster {cluster!r}")
        ports = [one.port for one in entry.ports]
        if len(set(ports)) != len(ports):
            raise document.error((*path, "ports"), f"service {entry.name}: a port stands twice")
        clusters = frozenset(entry.clusters or section.clusters)
        short = f"{entry.name}.{entry.namespace}"
        automatic = str(ip_address(AUTO_ADDRESS + index))
        found[entry.namespace, entry.name] = Service(
            name=entry.name,
            namespace=entry.namespace,
            ports=tuple(
                ServicePort(
                    number=one.port,
                    target=one.port if one.target_port is None else one.target_port,
                    protocol=port_protocol(one.name, one.app_protocol, one.protocol),
                    name=one.name,
                )
                for one in entry.ports
            ),
            selector=entry.selector,
            clusters=clusters,
            addresses={name: section.clusters[name].addresses.get(short, automatic) for name in clusters},
            traffic_distribution=entry.traffic_distribution,
        )
    for cluster_name, one_cluster in section.clusters.items():
        for short in one_cluster.addresses:
            if short not in {f"{one.name}.{one.namespace}" for one in found.values()}:
                raise document.error(("clusters", cluster_name, "addresses", short), f"unknown service {short!r}")
    return tuple(found.values())
