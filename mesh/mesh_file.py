"""Read a mesh file or a folder: the mesh, the resources applied to it, and the scenario if it has one.

A document of kind Mesh says which clusters there are; Istio's resources and Kubernetes objects stand beside it
verbatim, one document each or in lists; at most one document is a Scenario. What cannot be used is a MeshError with
file, line and cause; what is not honoured is a finding, one for each kind of thing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from . import assemble
from .check import doubts, problems
from .documents import Document, Path, Progress, silent
from .errors import MeshError
from .findings import HTTP, Findings
from .gather import Found, Gathered, Place, gather
from .istio import MeshConfig
from .kubernetes import KINDS, KubernetesService
from .mesh_schema import FailSection, MeshSection, OptionsSection, ScenarioSection, StepSection
from .model import Cluster, Identity, Mesh, Options, Resource
from .networks import Resolve, gateways, is_address, look_up, network_problems, resolved, unread_of_networks
from .no_effect import meaning
from .part import object_name, unread
from .placed import CLUSTERS_ANNOTATION, Placed, files_of, read_bytes, read_placed
from .routes import is_served
from .scenario import (
    REFUSED,
    Outage,
    Scenario,
    Step,
    is_meant,
    service_named,
    some_of,
    with_options,
    with_outages,
    with_readiness,
    workload_named,
)
from .service_entry import WorkloadEntrySpec, is_healthy
from .specs import GROUPS, SPECS
from .split_horizon import NetworkGateway
from .virtual_service import GatewaySpec, VirtualServiceSpec

Model = TypeVar("Model", bound=BaseModel)
OURS = ("Mesh", "Scenario")
UNHEALTHY = "its health is checked, and its status does not say Healthy: istiod takes it for deleted"
KNOWN_ELSEWHERE = frozenset({"gateway.networking.k8s.io"})


@dataclass(frozen=True, slots=True)
class MeshFile:
    """What a file says. ``findings``: one line each for everything that is not honoured or looks wrong."""

    mesh: Mesh
    scenario: Scenario | None = None
    findings: tuple[str, ...] = ()

    def with_connections(self, count: int) -> "MeshFile":
        """With another number of connections for each step of the scenario."""
        return replace(self, scenario=self.scenario and replace(self.scenario, connections=count))


def load(path: str | FilePath, progress: Progress = silent, *, resolve: Resolve = look_up) -> MeshFile:
    """Read a file, or all YAML files below a folder. Raises MeshError, and what `progress` does.

    ``resolve``: addresses of a gateway that is a host name.
    """
    found: list[Placed] = []
    mixed = FilePath(path).is_dir()
    for file, folders in files_of(FilePath(path)):
        found += read_placed(read_bytes(file), str(file), folders, progress, mixed=mixed)
    return read_objects(found, str(path), resolve)


def parse(text: str | bytes, file: str, progress: Progress = silent, *, resolve: Resolve = look_up) -> MeshFile:
    """Read the text of a mesh file; `file` is its name in errors. Raises MeshError, and what `progress` does."""
    return read_objects(read_placed(text, file, progress=progress), file, resolve)


def read_objects(objects: Iterable[Placed], file: str, resolve: Resolve) -> MeshFile:
    """Read objects wherever they come from. Raises MeshError."""
    everything = list(objects)
    found = [one for one in everything if one.kind]
    meshes = [one for one in found if one.is_ours("Mesh")]
    if len(meshes) != 1:
        raise MeshError(file, 0, f"{len(meshes)} documents of kind Mesh, and it takes one")
    scenarios = [one for one in found if one.is_ours("Scenario")]
    if len(scenarios) > 1:
        raise scenarios[1].place.document.error((), "a second Scenario, and a mesh file has at most one")
    reader = _Reader(resolve)
    for one in everything:
        if not one.kind:
            reader.findings.left_out(one.place, "a document without a kind", "no object, left out")
    mesh = reader.mesh(meshes[0], [one for one in found if not any(map(one.is_ours, OURS))])
    scenario = reader.scenario(scenarios[0].place.document, mesh) if scenarios else None
    return MeshFile(mesh, scenario, reader.findings.lines())


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

    def __init__(self, resolve: Resolve) -> None:
        self.findings = Findings()
        self._resolve = resolve
        self._step = 0
        self._external: frozenset[str] = frozenset()

    def mesh(self, placed: Placed, objects: list[Placed]) -> Mesh:
        """The mesh of its document and of all other objects."""
        document = placed.place.document
        section = _validated(MeshSection, document, placed.place.path, placed.content)
        for path in unread(section.mesh_config, ("meshConfig",)):
            self.findings.unread(Place(document, path), "", path)
        for path in unread_of_networks(section, document):
            self.findings.unread(Place(document, path), "", path)
        found = [read for one in objects if (read := self._kubernetes(one, section))]
        gathered = gather(found, section.mesh_config.root_namespace, self.findings.note)
        section = assemble.with_gathered(section, gathered)
        for path, cause in network_problems(section):
            raise document.error(path, cause)
        place = Place(document, ())
        mesh = Mesh(
            clusters={name: _cluster(section, name) for name in section.clusters},
            services=assemble.services(section, place, gathered),
            workloads=assemble.workloads(section, place, gathered),
            gateways=self._gateways(section, gathered, found, document),
            config=section.mesh_config,
            options=Options(**section.options.model_dump()),
        )
        self._external = frozenset(_external_hosts(objects))
        resources = [one for one in objects if (one.group, one.kind) not in KINDS]
        for content, clusters, where in gathered.passthrough:
            content["metadata"]["annotations"] = {CLUSTERS_ANNOTATION: ",".join(sorted(clusters))}
            resources.append(Placed(where, content))
        return self.apply(mesh, resources)

    def _kubernetes(self, placed: Placed, section: MeshSection) -> Found | None:
        model = KINDS.get((placed.group, placed.kind))
        if model is None:
            return None
        value = _validated(model, placed.place.document, placed.place.path, placed.content)
        return Found(placed.place, placed.clusters(section.clusters), value)

    def _gateways(
        self, section: MeshSection, gathered: Gathered, objects: list[Found], document: Document
    ) -> tuple[NetworkGateway, ...]:
        outside = {
            (f"{one.value.metadata.name}.{one.value.metadata.namespace}.svc.cluster.local", cluster): addresses
            for one in objects
            if isinstance(one.value, KubernetesService) and (addresses := one.value.outside_addresses)
            for cluster in one.clusters
        }
        found = list(gateways(section, outside))
        # A repository's Service has no address: the Mesh document may say it.
        told = {one.network for one in found}
        for way_into, place, cause in gathered.dead_ends:
            if way_into not in told:
                self.findings.note(place, cause)
        found += [
            NetworkGateway(network, way.address, way.port, cluster)
            for cluster, ways in gathered.gateways.items()
            for way, network, _ in ways
        ]
        places = {way.address: place for ways in gathered.gateways.values() for way, _, place in ways}
        for name, network in section.mesh_networks.networks.items():
            for index, entry in enumerate(network.gateways):
                service = entry.registry_service_name
                if service and not any(host == service for host, _ in outside):
                    path: Path = ("meshNetworks", "networks", name, "gateways", index)
                    text = f"network {name}: no service {service} with an address outside: nobody goes through it"
                    self.findings.note(Place(document, path), text)
        if not section.options.resolve_hostname_gateways:
            for one in found:
                if not is_address(one.address):
                    text = f"gateway {one.address} is a name, and left out: istiod does not resolve it"
                    self.findings.note(places.get(one.address, Place(document, ("clusters", one.cluster))), text)
            found = [one for one in found if is_address(one.address)]
        try:
            return resolved(found, self._resolve)
        except LookupError as error:
            name = str(error.args[0])
            where = places.get(name) or Place(document, _path_of_gateway(section, name))
            cause = f"gateway {name} cannot be resolved: name an address that clients reach"
            raise where.document.error(where.path, cause) from None

    def resource(self, placed: Placed, mesh: Mesh) -> Resource | None:
        """An Istio resource; None, and a finding, for a kind that the embedded control plane does not have."""
        document, path, content, kind = placed.place.document, placed.place.path, placed.content, placed.kind
        if kind not in SPECS or placed.group != GROUPS[kind]:
            why = meaning(placed.group, kind, content)
            if kind in SPECS and placed.group not in KNOWN_ELSEWHERE:
                why = f"not applied: its apiVersion is not of {GROUPS[kind]}"
            self.findings.left_out(placed.place, kind, why)
            return None
        metadata = content.get("metadata")
        if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
            raise document.error(path, f"{kind}: metadata.name is missing")
        namespace, name = placed.namespace, metadata["name"]
        for field, text in (("name", name), ("namespace", namespace)):
            try:
                object_name(text)
            except ValueError as error:
                raise document.error((*path, "metadata", field), f"{kind}: metadata.{field}: {error}") from None
        title = f"{kind} {namespace}/{name}"
        spec = _validated(SPECS[kind], document, (*path, "spec"), content.get("spec") or {})
        for where in unread(spec, ("spec",)):
            self.findings.unread(Place(document, (*path, *where)), title, where)
        said = _texts(metadata.get("annotations"))
        if isinstance(spec, WorkloadEntrySpec):
            if not is_healthy(said, content.get("status")):
                self.findings.left_out(placed.place, kind, UNHEALTHY)
                return None
            spec = spec.with_labels(_texts(metadata.get("labels")))
        if isinstance(spec, VirtualServiceSpec):
            # What is read of them chooses a destination, and nothing for TCP.
            for index, entry in enumerate(spec.http):
                if entry.model_fields_set - {"name", "route"}:
                    where = (*HTTP, index)
                    self.findings.unread(Place(document, (*path, *where)), title, where)
        if isinstance(spec, GatewaySpec):
            for index, server in enumerate(spec.servers):
                if not is_served(server):
                    where = (*path, "spec", "servers", index)
                    self.findings.left_out(
                        Place(document, where), "Gateway", "servers of HTTP or with TLS of their own are not served"
                    )
        # Without a timestamp it is about to be applied: after everything that has one.
        created = str(metadata.get("creationTimestamp") or f"~{self._step:04}")
        return Resource(kind, namespace, name, spec, placed.clusters(mesh.clusters), created, said)

    def apply(self, mesh: Mesh, objects: Iterable[Placed]) -> Mesh:
        """The mesh with these resources, checked when all of them are there: they may refer to each other."""
        found: list[tuple[Placed, Resource]] = []
        for one in objects:
            resource = self.resource(one, mesh)
            if resource:
                found.append((one, resource))
        mesh = mesh.applied(one for _, one in found)
        for placed, resource in found:
            title = f"{resource.kind} {resource.namespace}/{resource.name}"
            for where, cause in problems(mesh, resource):
                raise placed.place.document.error((*placed.place.path, *where), f"{title}: {cause}")
            for where, doubt in doubts(mesh, resource, self._external):
                self.findings.note(Place(placed.place.document, (*placed.place.path, *where)), f"{title}: {doubt}")
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
            step = self._one_step(document, ("steps", index), entry, mesh)
            steps.append(step)
            mesh = step.mesh
        return Scenario(client, service, port, section.connections, tuple(steps), section.sidecars)

    def _one_step(self, document: Document, path: Path, entry: StepSection, mesh: Mesh) -> Step:
        options = _options(document, (*path, "options"), entry.options)
        mesh = with_options(mesh, options)
        if entry.mesh_config is not None:
            config = _validated(MeshConfig, document, (*path, "meshConfig"), entry.mesh_config)
            for where in unread(config, ("meshConfig",)):
                self.findings.unread(Place(document, (*path, *where)), "", where)
            mesh = replace(mesh, config=config)
        for index, text in enumerate(entry.delete):
            where = (*path, "delete", index)
            parts = tuple(text.split("/"))
            if len(parts) != 3:
                raise document.error(where, f"{text!r} is not of the form Kind/namespace/name")
            mesh = _looked_up(document, where, lambda parts=parts, mesh=mesh: mesh.without([parts]))
        self._step += 1
        mesh = self.apply(mesh, _applied(document, path, entry))
        for key, names, ready in (("drain", entry.drain, False), ("recover", entry.recover, True)):
            for index, text in enumerate(names):
                where = (*path, key, index)
                workload = _looked_up(document, where, lambda text=text, mesh=mesh: workload_named(mesh, text))
                mesh = with_readiness(mesh, {workload.identity}, ready=ready)
        failed, repaired = (
            _outages(document, (*path, key), some, mesh)
            for key, some in (("fail", entry.fail), ("repair", entry.repair))
        )
        mesh = with_outages(with_outages(mesh, failed, ready=False), repaired, ready=True)
        for name in sorted(set(entry.expect) - set(mesh.clusters) - {REFUSED}):
            if not any(is_meant(name, one) for one in mesh.workloads):
                cause = f"{name!r} is no cluster, locality (region/zone) or workload (cluster/name)"
                raise document.error((*path, "expect", name), cause)
        through = _through(document, (*path, "through"), entry, mesh)
        why = " ".join(entry.why.split())
        return Step(entry.name, why, mesh, failed, repaired, dict(entry.expect), through)


def _outages(document: Document, path: Path, entries: Sequence[FailSection], mesh: Mesh) -> tuple[Outage, ...]:
    """What breaks or comes back; each hits somebody."""
    found = tuple(Outage(one.region, one.zone, one.gateway, one.after) for one in entries)
    for index, outage in enumerate(found):
        if not any(outage.hits(one) for one in mesh.workloads):
            cause = f"no echo workload is in {outage.region or outage.zone}"
            if outage.gateway:
                cause = f"{outage.gateway!r} is no cluster with gateways, and no gateway; known are {_gateways(mesh)}"
            raise document.error((*path, index), cause)
    return found


def _through(document: Document, path: Path, entry: StepSection, mesh: Mesh) -> dict[Identity, float]:
    """Expected shares of connections by gateway."""
    found = {}
    for name, share in entry.through.items():
        workload = _looked_up(document, (*path, name), lambda name=name: workload_named(mesh, name))
        if workload.role != "gateway":
            raise document.error((*path, name), f"{name!r} is no gateway; known are {_gateways(mesh)}")
        found[workload.identity] = share
    return found


def _gateways(mesh: Mesh) -> str:
    """Those that there are, for an error."""
    return some_of(["/".join(one.identity) for one in mesh.workloads if one.role == "gateway"]) or "none"


def _texts(found: object) -> dict[str, str]:
    """Labels or annotations."""
    return {str(key): str(one) for key, one in found.items()} if isinstance(found, dict) else {}


def _looked_up(document: Document, path: Path, find: Any) -> Any:
    try:
        return find()
    except LookupError as error:
        raise document.error(path, str(error.args[0])) from None


def _applied(document: Document, path: Path, entry: StepSection) -> list[Placed]:
    found = []
    for index, content in enumerate(entry.apply):
        where = (*path, "apply", index)
        if not isinstance(content.get("kind"), str):
            raise document.error(where, "a resource must be a mapping with a kind")
        found.append(Placed(Place(document, where), content))
    return found


def _cluster(section: MeshSection, name: str) -> Cluster:
    return Cluster(name, section.clusters[name].network)


def _path_of_gateway(section: MeshSection, address: str) -> Path:
    for name, cluster in section.clusters.items():
        for index, one in enumerate(cluster.gateways):
            if one.address == address:
                return "clusters", name, "gateways", index
    return ("meshNetworks",)


def _external_hosts(objects: Iterable[Placed]) -> Iterable[str]:
    """Hosts of ServiceEntries."""
    for one in objects:
        spec = one.content.get("spec")
        hosts = spec.get("hosts") if one.kind == "ServiceEntry" and isinstance(spec, dict) else None
        yield from (str(host) for host in hosts or ())


def _options(document: Document, path: Path, changes: Mapping[str, Any]) -> dict[str, object]:
    """Changes of options, each checked as the whole section would be."""
    section = _validated(OptionsSection, document, path, changes)
    return {name: getattr(section, name) for name in section.model_fields_set}
