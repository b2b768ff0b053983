"""A mesh as data: clusters, services, workloads, gateways and the Istio resources applied to them. Frozen.

mesh_file.py reads it, a scenario changes it, control_plane.py says what each node gets of it. No YAML, no xDS.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from eastgate.xds.resources import Locality

from .istio import MeshConfig
from .part import Part
from .split_horizon import NetworkGateway

NETWORK_LABEL = "topology.istio.io/network"
CLUSTER_LABEL = "topology.istio.io/cluster"
REGION_LABEL = "topology.kubernetes.io/region"
ZONE_LABEL = "topology.kubernetes.io/zone"
SUB_ZONE_LABEL = "topology.istio.io/subzone"
HOSTNAME_LABEL = "kubernetes.io/hostname"
TLS_MODE_LABEL = "security.istio.io/tlsMode"

DOMAIN = "cluster.local"
"""Kubernetes' DNS domain, as in service.namespace.svc.cluster.local."""


@dataclass(frozen=True, slots=True)
class Options:
    """How istiod is set up. Each is an environment variable of istiod, or the mesh's own default.

    ``send_unhealthy_endpoints``: unready workloads are sent as UNHEALTHY (Istio 1.31) instead of being left out.
    ``min_health_percent``: for rules with outlier detection that do not say it themselves. ``metadata_exchange``: the
    filter and the ALPN by which Istio's Envoy builds tell each other about workloads; ``metadata_exchange_alpn``: the
    ALPN alone. ``alpn_filter``: the HTTP filter of Istio's Envoy builds that chooses the ALPN of mesh mTLS.
    ``resolve_hostname_gateways``: names of gateways become addresses, instead of being left out.
    """

    send_unhealthy_endpoints: bool = True
    min_health_percent: int = 0
    metadata_exchange: bool = True
    metadata_exchange_alpn: bool = True
    alpn_filter: bool = True
    resolve_hostname_gateways: bool = True


@dataclass(frozen=True, slots=True)
class Workload:
    """A pod. ``named_ports``: container ports that services may name. ``listens``: real port by target port, where
    something else than the target port was bound. ``role`` and ``answer`` say what a trial starts for it.
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

    @property
    def identity(self) -> tuple[str, str, str]:
        """Cluster, namespace and name: unique in the mesh."""
        return self.cluster, self.namespace, self.name

    @property
    def mtls(self) -> bool:
        """Whether it was injected, so that it expects mesh mTLS."""
        return self.labels.get(TLS_MODE_LABEL) == "istio"

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
        """Name in its certificate."""
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
    """A Kubernetes Service, the same in all of its clusters. ``addresses``: virtual IP by cluster.

    ``endpoints``: addresses of workloads by cluster, where no selector says who they are. ``export_to`` empty: all see
    it. ``hostname``: where it is not the one that Kubernetes would give it.

    Of a ServiceEntry: ``external``: outside of the mesh; ``resolution``: its own word; ``own``: its endpoints, beside
    workloads that it selects; ``accounts``: names that its endpoints may have in certificates.
    """

    name: str
    namespace: str
    ports: tuple[ServicePort, ...]
    selector: Mapping[str, str]
    clusters: frozenset[str]
    addresses: Mapping[str, str] = field(default_factory=dict)
    traffic_distribution: str = ""
    headless: bool = False
    export_to: frozenset[str] = frozenset()
    endpoints: Mapping[str, frozenset[str]] = field(default_factory=dict)
    hostname: str = ""
    external: bool = False
    resolution: str = ""
    own: tuple[Workload, ...] = ()
    accounts: tuple[str, ...] = ()

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
        if self.own:
            return workload in self.own
        if workload.cluster in self.endpoints:
            return bool(workload.address) and workload.address in self.endpoints[workload.cluster]
        return (
            bool(self.selector)
            and workload.cluster in self.clusters
            and workload.namespace == self.namespace
            and self.selector.items() <= workload.labels.items()
        )

    def address_for(self, cluster: str) -> str:
        """Virtual IP as a proxy of a cluster knows it: of another cluster where its own has none; empty: headless."""
        own = self.addresses.get(cluster, "")
        return own or next((self.addresses[name] for name in sorted(self.addresses)), "")

    def is_visible_in(self, namespace: str) -> bool:
        """Whether proxies of a namespace see it."""
        to = {self.namespace if one == "." else one for one in self.export_to}
        return not to or "*" in to or namespace in to


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

    def behind(self, service: Service) -> list[Workload]:
        """Everything that stands behind a service."""
        return [one for one in (*self.workloads, *service.own) if service.selects(one)]

    def of_kind(self, kind: str, cluster: str) -> list[Resource]:
        """Resources of a kind that this cluster's istiod reads."""
        return [one for one in self.resources if one.kind == kind and cluster in one.clusters]

    def applied(self, resources: Iterable[Resource]) -> "Mesh":
        """With these resources added; one that exists is replaced, and keeps its age."""
        found = list(self.resources)
        for one in resources:
            changed = one
            for known in [known for known in found if known.identity == one.identity]:
                at = found.index(known)
                if known.clusters <= one.clusters:
                    found.pop(at)
                    changed = replace(one, created=known.created)
                elif rest := known.clusters - one.clusters:
                    # The same name may stand for another object in another cluster.
                    found[at] = replace(known, clusters=rest)
            found.append(changed)
        return replace(self, resources=tuple(found))

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
