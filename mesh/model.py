"""A mesh as data: clusters, services, workloads, gateways and the Istio resources applied to them. Frozen.

mesh_file.py reads it, a scenario changes it, control_plane.py says what each node gets of it. No YAML, no xDS.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from eastgate.xds.resources import Locality

from .families import Family, family_of
from .istio import MeshConfig
from .part import Part
from .split_horizon import NetworkGateway

Known = TypeVar("Known")
ClusterAddress = tuple[str, str]
NETWORK_LABEL = "topology.istio.io/network"
CLUSTER_LABEL = "topology.istio.io/cluster"
REGION_LABEL = "topology.kubernetes.io/region"
ZONE_LABEL = "topology.kubernetes.io/zone"
SUB_ZONE_LABEL = "topology.istio.io/subzone"
HOSTNAME_LABEL = "kubernetes.io/hostname"
TLS_MODE_LABEL = "security.istio.io/tlsMode"

Identity = tuple[str, str, str]
"""Cluster, namespace and name of a workload."""
DOMAIN = "cluster.local"
"""Kubernetes' DNS domain, as in service.namespace.svc.cluster.local."""


@dataclass(frozen=True, slots=True)
class Options:
    """How istiod is set up. Each is an environment variable of istiod, or the mesh's own default.

    ``send_unhealthy_endpoints``: unready workloads are sent as UNHEALTHY (Istio 1.31) instead of being left out.
    ``min_health_percent``: for rules with outlier detection that do not say it themselves. ``metadata_exchange``: the
    filter and the ALPN by which Istio's Envoy builds tell each other about workloads; ``metadata_exchange_alpn``: the
    ALPN alone. ``alpn_filter``: the HTTP filter of Istio's Envoy builds that chooses the ALPN of mesh mTLS.
    ``resolve_hostname_gateways``: names of gateways become addresses, instead of being left out. ``istio_dual_stack``:
    proxies with addresses of both families listen and connect over both; None: as meshConfig's proxyMetadata says.
    """

    send_unhealthy_endpoints: bool = True
    min_health_percent: int = 0
    metadata_exchange: bool = True
    metadata_exchange_alpn: bool = True
    alpn_filter: bool = True
    resolve_hostname_gateways: bool = True
    istio_dual_stack: bool | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """A pod. ``further``: its addresses beside the first, of the other family. ``named_ports``: container ports that
    services may name. ``listens``: real port by target port, where something else than the target port was bound.
    ``role`` and ``answer`` say what a trial starts for it.

    ``service_account`` empty: it shows no name, and without an entry that names it it is an address alone.
    ``watched``: somebody says whether it is ready. ``ready_since``: since when it is, a text that sorts.
    ``invented_name``: it stands for a pod that Kubernetes will name otherwise. ``locality_text``: the locality as a
    label or an entry says it, empty: as a node does. To istiod "r/z" is another one than a node's "r/z/".
    """

    name: str
    namespace: str
    cluster: str
    network: str
    address: str
    labels: Mapping[str, str]
    locality: Locality = field(default_factory=Locality)
    node: str = ""
    service_account: str = "default"
    ready: bool = True
    named_ports: Mapping[str, int] = field(default_factory=dict)
    listens: Mapping[int, int] = field(default_factory=dict)
    role: str = ""
    answer: str = ""
    weight: int = 1
    watched: bool = True
    ready_since: str = ""
    invented_name: bool = False
    locality_text: str = ""
    further: tuple[str, ...] = ()

    @property
    def all_addresses(self) -> tuple[str, ...]:
        """Every address that it has, the first one first."""
        return (self.address, *self.further) if self.address else ()

    @property
    def locality_key(self) -> str:
        """By which istiod takes endpoints as one locality."""
        return self.locality_text or "/".join(self.locality)

    @property
    def identity(self) -> Identity:
        """Cluster, namespace and name: unique in the mesh."""
        return self.cluster, self.namespace, self.name

    @property
    def cluster_address(self) -> ClusterAddress:
        """Its cluster and its address, or its name while it has none: two networks may have one address."""
        return self.cluster, self.address or self.name

    @property
    def mtls(self) -> bool:
        """Whether it was injected, so that it expects mesh mTLS."""
        return self.labels.get(TLS_MODE_LABEL) == "istio"

    @property
    def is_bare(self) -> bool:
        """Whether nothing but its address is known."""
        return self.watched and not self.service_account

    @property
    def canonical_name(self) -> str:
        """Name under which telemetry groups workloads."""
        own = self.labels
        return own.get("service.istio.io/canonical-name") or own.get("app") or self.name

    @property
    def canonical_revision(self) -> str:
        """Revision for telemetry; `latest`, the default, is left out as istiod does."""
        revision = self.labels.get("service.istio.io/canonical-revision") or self.labels.get("version") or "latest"
        return "" if revision == "latest" else revision

    def spiffe_id(self, trust_domain: str) -> str:
        """Name in its certificate, for one that has an account."""
        return f"spiffe://{trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    def topology_labels(self) -> dict[str, str]:
        """Own labels and what istiod adds: subsets and failoverPriority see both. A network label of its own stays."""
        added = {
            CLUSTER_LABEL: self.cluster,
            NETWORK_LABEL: self.labels.get(NETWORK_LABEL) or self.network,
            REGION_LABEL: self.locality.region,
            ZONE_LABEL: self.locality.zone,
            SUB_ZONE_LABEL: self.locality.sub_zone,
            HOSTNAME_LABEL: self.node,
        }
        return {**self.labels, **{key: value for key, value in added.items() if value}}


@dataclass(frozen=True, slots=True)
class ServicePort:
    """``target``: number, or name of a container port; 0: the same number. ``protocol``: as port_protocol says."""

    number: int
    target: int | str
    protocol: str = "auto"
    name: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """A Kubernetes Service, the same in all of its clusters. ``addresses``: virtual IPs by cluster.

    ``families``: those of its endpoints, where no virtual IP of the cluster says it.

    ``endpoints``: addresses of workloads by cluster, where no selector says who they are. ``export_to`` empty: all see
    it. ``hostname``: where it is not the one that Kubernetes would give it.

    ``node_local``: clients see endpoints of their own node. ``publishes_unready``: unready endpoints count as ready.
    ``endpoint_ports``: where ``endpoints`` listen, by cluster, then by address and name of the service's port.
    ``endpoint_ready``: whether they are ready, by cluster and address, where that is not the workload's own word.
    ``anonymous``: what stands in the place of a workload that nobody finds by its address, by cluster and address.

    Of a ServiceEntry: ``external``: outside of the mesh; ``resolution``: its own word; ``accounts``: names that its
    endpoints may have in certificates. ``own``: endpoints that entries give the host, ``own_ports``: where these
    listen, by cluster address and name of the service's port; a service of Kubernetes may have them too.
    """

    name: str
    namespace: str
    ports: tuple[ServicePort, ...]
    selector: Mapping[str, str]
    clusters: frozenset[str]
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    traffic_distribution: str = ""
    headless: bool = False
    export_to: frozenset[str] = frozenset()
    endpoints: Mapping[str, frozenset[str]] = field(default_factory=dict)
    hostname: str = ""
    external: bool = False
    resolution: str = ""
    own: tuple[Workload, ...] = ()
    own_ports: Mapping[tuple[ClusterAddress, str], int] = field(default_factory=dict)
    accounts: tuple[str, ...] = ()
    node_local: bool = False
    publishes_unready: bool = False
    endpoint_ports: Mapping[str, Mapping[tuple[str, str], int]] = field(default_factory=dict)
    endpoint_ready: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    anonymous: Mapping[str, Mapping[str, Workload]] = field(default_factory=dict)
    families: tuple[Family, ...] = ()

    @property
    def is_entry(self) -> bool:
        """Whether a ServiceEntry says it, and not Kubernetes."""
        return bool(self.resolution)

    @property
    def by_name(self) -> bool:
        """Whether its endpoints are looked up by DNS."""
        return self.resolution.startswith("DNS")

    @property
    def dials_destination(self) -> bool:
        """Whether a sidecar goes to the address that its client has chosen."""
        return self.headless or self.resolution == "NONE"

    @property
    def host(self) -> str:
        """Full host name."""
        return self.hostname or f"{self.name}.{self.namespace}.svc.{DOMAIN}"

    def selects(self, workload: Workload) -> bool:
        """Whether the workload stands behind this service in its own cluster."""
        if workload in self.own:
            return True
        if workload.cluster in self.endpoints:
            return not self.endpoints[workload.cluster].isdisjoint(workload.all_addresses)
        return (
            bool(self.selector)
            and workload.cluster in self.clusters
            and workload.namespace == self.namespace
            and self.selector.items() <= workload.labels.items()
        )

    def default_address(self, cluster: str) -> str:
        """The first virtual IP in a cluster, of another one where it has none; empty: headless."""
        own = self.addresses.get(cluster, ())
        return next(iter(own), "") or next((self.addresses[name][0] for name in sorted(self.addresses)), "")

    def families_in(self, cluster: str) -> tuple[Family, ...]:
        """Families of its endpoints in a cluster; empty: nobody says it, and each has that of its first address."""
        return tuple(map(family_of, self.addresses.get(cluster, ()))) or self.families

    def is_dual(self, cluster: str) -> bool:
        """Whether it has virtual IPs of both families there."""
        return not self.headless and len(self.families_in(cluster)) > 1

    def reached_at(self, workload: Workload) -> tuple[str, ...]:
        """Addresses of a workload behind it that slices have: those of its own families."""
        if workload.cluster in self.endpoints:
            stated = self.endpoints[workload.cluster]
            return tuple(one for one in workload.all_addresses if one in stated)
        families = self.families_in(workload.cluster)
        return tuple(one for one in workload.all_addresses if family_of(one) in families) or (workload.address,)

    @property
    def is_public(self) -> bool:
        """Whether everybody sees it."""
        return not self.export_to or "*" in self.export_to

    def is_visible_in(self, namespace: str) -> bool:
        """Whether proxies of a namespace see it."""
        to = {self.namespace if one == "." else one for one in self.export_to}
        return self.is_public or namespace in to


@dataclass(frozen=True, slots=True)
class Resource:
    """An Istio resource that was applied to these clusters.

    ``created``: its creationTimestamp, which decides where istiod takes the oldest; a text that sorts. ``annotations``:
    those of its metadata.
    """

    kind: str
    namespace: str
    name: str
    spec: Part
    clusters: frozenset[str]
    created: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[str, str, str]:
        """Kind, namespace and name: a later resource of the same replaces this one."""
        return self.kind, self.namespace, self.name


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Kubernetes cluster with its istiod."""

    name: str
    network: str


@dataclass(frozen=True, slots=True)
class Mesh:
    """Everything that the control planes of all clusters know."""

    clusters: Mapping[str, Cluster]
    services: tuple[Service, ...]
    workloads: tuple[Workload, ...]
    gateways: tuple[NetworkGateway, ...]
    resources: tuple[Resource, ...] = ()
    config: MeshConfig = field(default_factory=MeshConfig)
    options: Options = Options()
    _known: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def dual_stack(self) -> bool:
        """Whether its istiods serve dual stack: ISTIO_DUAL_STACK, of istiod or else of its proxies."""
        said = self.options.istio_dual_stack
        return self.config.default_config.proxy_metadata.dual_stack if said is None else said

    def known(self, key: Hashable, make: Callable[[], Known]) -> Known:
        """What `make` answers, asked once: a mesh does not change, and is asked for each cluster of each node."""
        if key not in self._known:
            self._known[key] = make()
        found: Known = self._known[key]
        return found

    def behind(self, service: Service) -> list[Workload]:
        """Everything that stands behind a service, in the order of the mesh."""
        places = self.known("behind", lambda: _places(self.workloads))
        candidates: dict[int, Workload] = {}
        for cluster in {*service.clusters, *service.endpoints}:
            if cluster in service.endpoints:
                for address in service.endpoints[cluster]:
                    candidates.update(_likeliest(places.get((cluster, address), ()), service))
            elif service.selector:
                of = (cluster, service.namespace)
                candidates.update(min((places.get((*of, *item), ()) for item in service.selector.items()), key=len))
        there = [candidates[at] for at in sorted(candidates) if service.selects(candidates[at])]
        return [*(each for one in there for each in _as_found(service, one)), *service.own]

    def of_kind(self, kind: str, cluster: str) -> tuple[Resource, ...]:
        """Resources of a kind that this cluster's istiod reads."""
        return self.known(
            (kind, cluster),
            lambda: tuple(one for one in self.resources if one.kind == kind and cluster in one.clusters),
        )

    def applied(self, resources: Iterable[Resource]) -> "Mesh":
        """With these resources added; one that exists is replaced, and keeps its age."""
        found = dict(enumerate(self.resources))
        places: dict[tuple[str, str, str], list[int]] = {}
        for at, one in found.items():
            places.setdefault(one.identity, []).append(at)
        for number, one in enumerate(resources, len(found)):
            changed = one
            for at in places.get(one.identity, ()):
                known = found.get(at)
                if known is None:
                    continue
                if known.clusters <= one.clusters:
                    found.pop(at)
                    changed = replace(one, created=known.created)
                elif rest := known.clusters - one.clusters:
                    # The same name may stand for another object in another cluster.
                    found[at] = replace(known, clusters=rest)
            found[number] = changed
            places.setdefault(one.identity, []).append(number)
        return replace(self, resources=tuple(found.values()))

    def without(self, identities: Iterable[tuple[str, str, str]]) -> "Mesh":
        """With these resources deleted. Raises LookupError for one that does not exist."""
        found = list(self.resources)
        for identity in identities:
            left = [one for one in found if one.identity != identity]
            if len(left) == len(found):
                raise LookupError(f"no {identity[0]} {identity[1]}/{identity[2]} is applied")
            found = left
        return replace(self, resources=tuple(found))

    def changed(self, change: Callable[[Workload], Workload]) -> "Mesh":
        """With each workload replaced by what `change` answers."""
        return replace(self, workloads=tuple(change(workload) for workload in self.workloads))


def _places(workloads: Iterable[Workload]) -> dict[tuple[str, ...], list[tuple[int, Workload]]]:
    """Workloads, with their place in the order, by cluster and address, and by cluster, namespace and each label."""
    found: dict[tuple[str, ...], list[tuple[int, Workload]]] = {}
    for at, one in enumerate(workloads):
        for address in one.all_addresses or ("",):
            found.setdefault((one.cluster, address), []).append((at, one))
        for label in one.labels.items():
            found.setdefault((one.cluster, one.namespace, *label), []).append((at, one))
    return found


def _as_found(service: Service, workload: Workload) -> Iterator[Workload]:
    """The workload, or for addresses at which nobody finds it what stands there in its place."""
    unknown = service.anonymous.get(workload.cluster, {})
    if unknown.keys().isdisjoint(workload.all_addresses):
        yield workload
        return
    for address in service.reached_at(workload):
        yield unknown.get(address) or replace(workload, address=address, further=())


def _likeliest(there: Sequence[tuple[int, Workload]], service: Service) -> Sequence[tuple[int, Workload]]:
    """One of the workloads at an address that several share, as in a host's network: of the namespace, and ready."""
    return sorted(there, key=lambda at: (at[1].namespace != service.namespace, not at[1].ready))[:1]


def port_protocol(name: str, app_protocol: str, protocol: str) -> str:
    """What istiod takes a service port for: udp, tcp, http, http2, grpc, tls, https, or auto for an unnamed one.

    appProtocol wins; else the part of the port's name before the first dash.
    """
    if protocol == "UDP":
        return "udp"
    known = {"tcp", "http", "http2", "grpc", "tls", "https", "mongo", "redis", "mysql", "grpc-web"}
    word = app_protocol.lower() or name.lower()
    word = {"kubernetes.io/h2c": "http2", "kubernetes.io/ws": "http", "kubernetes.io/wss": "https"}.get(word, word)
    for candidate in (word, word.partition("-")[0]):
        if candidate in known:
            return candidate
    return "auto"
