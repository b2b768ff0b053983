"""What decides a cluster's shares, frozen, whatever it was read from. Reads no files and draws no conclusions.

A model is compiled into the ClusterTable that picks; every number shown to an operator is read off that table.
"""

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import field, replace
from socket import AF_INET, AF_INET6, inet_pton
from typing import NamedTuple

from eastgate.fastpath.tables.cluster_table import ClusterTable
from eastgate.fastpath.tables.endpoint_rows import first_occurrences
from eastgate.fastpath.tables.zones import ZONED, Census
from eastgate.xds.columns import Columns, EndpointRow, Family, Health, columns_of
from eastgate.xds.record import record
from eastgate.xds.resources import Hashing, Locality, LocalityEntry, ZoneAware
from eastgate.xds.whole_number import PORT, whole_number

# EDS HealthStatus by number.
HEALTH_NAMES = tuple(one.name for one in Health)
GOOD_HEALTH = (0, 1)
UNHEALTHY = HEALTH_NAMES.index("UNHEALTHY")
# Where east-west gateways take connections for other clusters.
GATEWAY_PORT = 15443
# Between an address and its priority, where one address is kept at several.
MERGED = " at P"


class Endpoint(NamedTuple):
    """One address of a cluster.

    ``health`` is the EDS name; ``failed`` says what else keeps it out: "outlier", "active check", or nothing.
    ``tls_mode`` and ``workload`` come from its metadata, None when the dump has none to read. ``stated_share`` is what
    the proxy itself said, None when it says nothing. ``removed``: discovery has removed it, and its passing checks keep
    it in use. ``hash_key``: what hashing policies know it by; empty for its address. ``weight_factor``: what slow start
    leaves of its weight at this moment. ``connects`` and ``connect_failures``: counted by the proxy so far, ``active``:
    open connections; 0 where the dump has no counters. ``further``: its addresses beside the first.
    """

    address: str
    priority: int = 0
    locality: Locality = Locality()
    weight: int = 1
    health: str = "UNKNOWN"
    failed: str = ""
    tls_mode: bool | None = None
    workload: str | None = None
    stated_share: float | None = None
    removed: bool = False
    hash_key: str = ""
    weight_factor: float = 1.0
    connects: int = 0
    connect_failures: int = 0
    active: int = 0
    further: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """Health as operators say it: the EDS name, or what overrides it."""
        if self.failed:
            return "EJECTED" if self.failed == "outlier" else "FAILED_CHECK"
        return self.health

    @property
    def plain_address(self) -> str:
        """The address without what merging duplicates adds to tell its priorities apart."""
        return self.address.partition(MERGED)[0]

    @property
    def host(self) -> str:
        return self.plain_address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return whole_number(self.plain_address.rpartition(":")[2], PORT) or 0

    @property
    def cluster_id(self) -> str:
        """Kubernetes cluster that it runs in or leads to; empty when the dump does not say."""
        return self.workload.rpartition(";")[2] if self.workload else ""

    @property
    def is_address(self) -> bool:
        """Whether the host is an IP address or a Unix socket rather than a name."""
        return "/" in self.address or packed_address(self.host) is not None


@record
class Ejection:
    """How far outlier detection may go; Envoy's defaults."""

    max_ejection_percent: int = 10
    always_eject_one_host: bool = False

    def limit(self, endpoints: int) -> int:
        """How many of so many endpoints can be out at once."""
        # Envoy admits the next one while 100 * (ejected + 1) / endpoints <= max_ejection_percent.
        allowed = min(100, self.max_ejection_percent) * endpoints // 100
        return max(allowed, 1) if self.always_eject_one_host else allowed


@record
class ClusterModel:
    """A cluster with its endpoints in message order.

    ``localities`` are the entries of the assignment, also those without endpoints. ``configured`` is False when the
    dump does not hold the cluster's configuration: the settings are then Envoy's defaults, not this cluster's.
    ``health_checked``: the proxy itself takes out endpoints that fail its checks.
    ``hashing``: settings of RING_HASH and MAGLEV, None for other policies or Envoy's defaults; ``own_locality``: where
    the proxy runs, where that is known and has a say.
    ``slow_start_ms``: window of slow start, 0 without. ``census``: of the local cluster, None where there is none or
    where zones are not looked at.
    ``subset_fallback``: with lb_subset_config, what a connection gets that asks for no subset (Envoy's enum name).
    ``server_name``: what is said to endpoints that take mTLS; empty where the dump does not say.
    """

    name: str
    type: str = "EDS"
    policy: str = "ROUND_ROBIN"
    overprovisioning_factor: int = 140
    panic_threshold: int = 50
    locality_weighted: bool = False
    weighted_priority_health: bool = False
    choice_count: int = 2
    hashing: Hashing | None = None
    own_locality: Locality | None = None
    fail_on_panic: bool = False
    slow_start_ms: int = 0
    zone_aware: ZoneAware = field(default_factory=ZoneAware)
    census: Census | None = field(default=None, repr=False)
    ejection: Ejection | None = None
    endpoints: tuple[Endpoint, ...] = ()
    localities: tuple[LocalityEntry, ...] = ()
    configured: bool = True
    warming: bool = False
    subset_fallback: str = ""
    health_checked: bool = False
    server_name: str = ""

    @property
    def sni_dnat(self) -> bool:
        """Whether it is what a gateway forwards to by server name."""
        return self.name.startswith("outbound_.")

    @property
    def hashes(self) -> bool:
        """Whether connections find their endpoint by a hash."""
        return self.policy in ("RING_HASH", "MAGLEV")

    @property
    def resolves_names(self) -> bool:
        """Whether what the configuration calls endpoints are names that the proxy resolves."""
        return self.type in ("STRICT_DNS", "LOGICAL_DNS")

    @property
    def service(self) -> tuple[str, str, str]:
        """(port, subset, host) of an Istio cluster name; empty strings for others."""
        parts = self.name.split("_." if self.sni_dnat else "|", 3)
        if len(parts) != 4 or parts[0] not in ("outbound", "inbound"):
            return "", "", ""
        return parts[1], parts[2], parts[3]

    @property
    def priorities(self) -> tuple[int, ...]:
        """Priorities that have endpoints, ascending."""
        return tuple(sorted({endpoint.priority for endpoint in self.endpoints}))

    def is_gateway(self, endpoint: Endpoint) -> bool:
        """Whether the endpoint stands for the pods of another network.

        Istio names no workload in such an endpoint's metadata and marks it for mTLS, which an address without a pod is
        not; without metadata the port has to tell.
        """
        if endpoint.workload is not None and endpoint.workload.partition(";")[0]:
            return False
        if endpoint.workload and endpoint.workload.startswith(";;;;") and endpoint.tls_mode:
            return True
        return endpoint.port == GATEWAY_PORT and self.service[0] != str(GATEWAY_PORT)

    def gateways(self) -> Iterator[Endpoint]:
        return (endpoint for endpoint in self.endpoints if self.is_gateway(endpoint))


def sni_dnat_name(model: ClusterModel) -> str:
    """Name under which a gateway has the same service; empty for clusters that are no service."""
    port, subset, host = model.service
    return f"outbound_.{port}_.{subset}_.{host}" if host else ""


@record
class NodeModel:
    """Who the proxy said it is. ``type``: sidecar or router. ``id``: as Istio writes it, type~address~pod~domain."""

    id: str
    type: str
    cluster_id: str
    network: str
    network_view: str
    locality: Locality

    @property
    def host(self) -> str:
        """Address of the pod; empty for an id that is not Istio's."""
        parts = self.id.split("~")
        return parts[1] if len(parts) == 4 else ""


@record
class ChainModel:
    """A filter chain: where it leads. ``match``: what it matches, as a text that compares; empty: everything."""

    listener: str
    name: str
    clusters: tuple[str, ...]
    match: str = field(default="", compare=False)
    server_names: tuple[str, ...] = field(default=(), compare=False)


@record
class RejectedResource:
    """A version that the proxy did not accept. ``first``: there is no earlier one that serves."""

    kind: str
    name: str
    reason: str
    first: bool = False


@record
class SilentListener:
    """A listener that is accepted and does not listen. ``address`` is empty where it is not about one."""

    name: str
    address: str
    reason: str


@record
class NoticeModel:
    """What the proxy says of a resource that it accepted. ``sort``: `not_honoured` or `refused`."""

    kind: str
    name: str
    sort: str
    text: str


@record
class ProxyModel:
    """Everything that one proxy's dumps say. ``has_*``: which sections there were to read. ``local_cluster``: name of
    the cluster of the proxies like this one, empty without. ``http_clusters``: those that HTTP routes lead to.
    ``no_stream``: why there is no stream to the control plane; empty where there is one, or nothing says it."""

    source: str
    clusters: Mapping[str, ClusterModel]
    node: NodeModel | None = None
    chains: tuple[ChainModel, ...] = ()
    rejected: tuple[RejectedResource, ...] = ()
    has_configuration: bool = False
    has_endpoints: bool = False
    local_cluster: str = ""
    notices: tuple[NoticeModel, ...] = ()
    http_clusters: frozenset[str] = frozenset()
    silent_listeners: tuple[SilentListener, ...] = ()
    no_stream: str = ""


def packed_address(host: str) -> bytes | None:
    """Network-order bytes of an IP address; None for anything else."""
    try:
        return inet_pton(AF_INET6 if ":" in host else AF_INET, host)
    except (OSError, ValueError):
        return None


@record
class CompiledModel:
    """A model with the table that it compiles into. ``first_of`` is, by row, the row whose address it repeats."""

    model: ClusterModel
    columns: Columns
    failed: bytes
    table: ClusterTable
    first_of: tuple[int, ...] = field(repr=False)

    def with_down(self, rows: Iterable[int]) -> "CompiledModel":
        """The same cluster with these endpoints unhealthy, compiled anew."""
        health = bytearray(self.columns.health)
        for row in rows:
            health[row] = UNHEALTHY
        columns = replace(self.columns, health=bytes(health))
        return replace(self, columns=columns, table=build_table(self.model, columns, self.failed))

    def loads(self) -> tuple[int, ...]:
        """Percent of picks by priority; all 0 when connections are refused."""
        table = self.table.priorities()
        if not self.picks():
            return (0,) * len(table)
        loads = tuple(row[4] + row[5] for row in table)
        # Where every load is cut to 0, picks end at the healthy endpoints of P0.
        return loads if any(loads) else (100, *loads[1:])

    def picks(self) -> bool:
        """Whether a pick finds an endpoint at all."""
        return self.table.finds_endpoints()


def build_table(model: ClusterModel, columns: Columns, failed: bytes) -> ClusterTable:
    """Raises ValueError for a policy without shares, or for endpoints that cannot be."""
    return ClusterTable.compile(
        columns,
        policy=model.policy,
        overprovisioning_factor=model.overprovisioning_factor,
        panic_threshold=model.panic_threshold,
        locality_weighted=model.locality_weighted,
        weighted_priority_health=model.weighted_priority_health,
        choice_count=model.choice_count,
        hashing=model.hashing,
        hash_keys=[(one.hash_key or one.plain_address).encode() for one in model.endpoints] if model.hashes else None,
        own_locality=model.own_locality,
        fail_on_panic=model.fail_on_panic,
        factors=weight_factors(model, columns),
        zone_aware=model.zone_aware,
        local=model.census,
        failed=failed,
    )


def with_zones(proxy: ProxyModel) -> ProxyModel:
    """The proxy with what its clusters have to know of the local cluster. As it is where there is none."""
    local = proxy.clusters.get(proxy.local_cluster)
    if local is None:
        return proxy
    try:
        census = compile_model(replace(local, census=None)).table.census()
    except ValueError:
        return proxy
    clusters = {
        name: replace(model, census=census)
        if name != proxy.local_cluster and model.policy in ZONED and not model.locality_weighted
        else model
        for name, model in proxy.clusters.items()
    }
    return replace(proxy, clusters=clusters)


def weight_factors(model: ClusterModel, columns: Columns) -> bytes:
    """By row, for ClusterTable.compile; empty when every endpoint has its full weight, as those have that are down."""
    if all(endpoint.weight_factor == 1.0 for endpoint in model.endpoints):
        return b""
    both = zip(model.endpoints, columns.health, strict=True)
    return array("d", [one.weight_factor if health in GOOD_HEALTH else 1.0 for one, health in both]).tobytes()


def compile_model(model: ClusterModel) -> CompiledModel:
    """Compile the cluster as a proxy does. Raises ValueError for a policy without shares, or too large numbers."""
    if model.subset_fallback not in ("", "ANY_ENDPOINT"):
        raise ValueError(
            f"lb_subset_config with fallback {model.subset_fallback}: which endpoints a connection gets depends on the"
            " metadata_match of its route"
        )
    try:
        columns = build_columns(model)
    except OverflowError as error:
        raise ValueError(f"a weight, or the number of localities, is too large: {error}") from None
    failed = bytes(bool(endpoint.failed) for endpoint in model.endpoints)
    table = build_table(model, columns, failed)
    return CompiledModel(model, columns, failed, table, tuple(first_occurrences(columns)))


def build_columns(model: ClusterModel) -> Columns:
    """The endpoints as the buffers that xds hands to fastpath."""
    return columns_of(map(_row, model.endpoints), model.localities)


def _row(endpoint: Endpoint) -> EndpointRow:
    host, _, digits = endpoint.address.rpartition(":")
    packed, port = packed_address(host.strip("[]")), whole_number(digits, PORT)
    if packed is None or port is None:
        family, packed, port = Family.UNIX, endpoint.address.encode(), 0
    else:
        family = Family.IPV4 if len(packed) == 4 else Family.IPV6
    return EndpointRow(
        family,
        packed,
        port,
        # EDS has no weight 0; whoever wrote one into a dump is told so by a finding.
        weight=max(1, endpoint.weight),
        health=HEALTH_NAMES.index(endpoint.health),
        priority=endpoint.priority,
        locality=endpoint.locality,
    )


def shares_by_priority(compiled: CompiledModel) -> dict[int, float]:
    """Part of all picks by priority, summed over the table's shares."""
    sums: dict[int, float] = dict.fromkeys(compiled.model.priorities, 0.0)
    for endpoint, share in zip(compiled.model.endpoints, compiled.table.shares(), strict=True):
        sums[endpoint.priority] += share
    return sums


def describe_localities(localities: Collection[Locality]) -> str:
    """Names in order of appearance, at most three."""
    names = [str(locality) or "no locality" for locality in dict.fromkeys(localities)]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
