"""Settings of a running gateway: what it was told, checked as a whole and completed, before any port opens."""

import os
import socket
from collections.abc import Mapping
from dataclasses import field
from ipaddress import ip_address
from typing import Any, Literal

from eastgate.xds.bind_config import Bind
from eastgate.xds.credentials import UNIX_PREFIX, Credentials
from eastgate.xds.errors import XdsError
from eastgate.xds.file_secrets import SecretFiles
from eastgate.xds.record import record
from eastgate.xds.resources import Locality

from .bootstrap import Bootstrap, read_bootstrap
from .bootstrap_listeners import StaticListener
from .bootstrap_reader import BootstrapError
from .cpus import granted_cpus
from .disk.state_file import why_foreign
from .errors import SettingsError
from .given import MAX_WORKERS, Given, given
from .role import GATEWAY, SIDECAR, Role
from .setting import join_host_port, parse_host_port, parse_pairs
from .stats_config import StatsConfig

NO_CREDENTIALS = Credentials()
NO_BOOTSTRAP = Bootstrap("", (), "sotw")
FLAG_KEYS = {"CLUSTER_ID", "NETWORK", "REQUESTED_NETWORK_VIEW", "LABELS"}
# What istiod calls pilot-agent's SDS in every transport socket.
SDS_CLUSTER = "sds-grpc"
DEFAULT_ADMIN = "127.0.0.1:15000"
# The setting that a field of the credentials comes from.
CREDENTIAL_SETTINGS = {
    "root_cert": "discovery_root_cert",
    "token": "token_file",
    "client_cert": "client_cert",
    "client_key": "client_key",
}


@record
class EnvoyManners:
    """What a process does only where it stands in Envoy's place: it takes the node of the bootstrap to the letter,
    serves the static listeners of it, and ends at the first signal. ``admin_address_path``: a file for the admin's
    address, empty for none; ``document``: the bootstrap.
    """

    listeners: tuple[StaticListener, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)
    admin_address_path: str = ""
    stats: StatsConfig = field(default_factory=StatsConfig)

    def write_admin_address(self, url: str) -> None:
        """HOST:PORT of the admin's URL into the file, if there is to be one. Raises EastgateError."""
        if not self.admin_address_path:
            return
        try:
            with open(self.admin_address_path, "w", encoding="utf-8") as file:
                file.write(url.removeprefix("http://"))
        except OSError as error:
            reason = f"cannot be written: {error.strerror}"
            raise SettingsError("--admin-address-path", self.admin_address_path, reason) from None


@record
class Workload:
    """Where the keys of the workload come from, where that is no socket. ``name``: its SPIFFE name; ``files``: the
    certificate, its key and roots; ``authorities``: HOST:PORT of a CA each, empty for none.
    """

    name: str = ""
    files: SecretFiles = field(default_factory=SecretFiles)
    authorities: tuple[str, ...] = ()


@record
class GatewaySettings:
    """What was `given`, and what follows from it and from the bootstrap. ``discovery``: HOST:PORT or unix:PATH each;
    ``admin``, ``status`` and ``metrics`` are (host, port).
    """

    given: Given
    discovery: tuple[str, ...]
    node_ip: str
    pod_name: str
    namespace: str
    dns_domain: str
    cluster_id: str
    network: str
    network_view: tuple[str, ...]
    locality: Locality
    local_cluster: str
    labels: Mapping[str, str]
    meta: Mapping[str, Any]
    admin: tuple[str, int]
    status: tuple[str, int] | None
    metrics: tuple[str, int] | None
    workers: int
    seed: int
    xds_protocol: Literal["sotw", "delta"]
    credentials: Credentials
    secret_sockets: Mapping[str, str]
    """unix:PATH by the name of the bootstrap's cluster that secrets are asked through"""
    workload: Workload
    role: Role = GATEWAY
    node_cluster: str = ""
    """empty for one that is made up"""
    envoy: EnvoyManners | None = None
    """how it behaves where it stands in Envoy's place; None elsewhere"""
    upstream_bind: Bind | None = None
    """what connections of clusters come from that do not say it themselves"""
    unread: tuple[str, ...] = ()
    """what of the bootstrap would change connections in Envoy and does not here, in words"""

    @property
    def node_id(self) -> str:
        return f"{self.role.node_type}~{self.node_ip}~{self.pod_name}.{self.namespace}~{self.dns_domain}"

    @property
    def admin_target(self) -> str:
        """HOST:PORT of the admin, as static listeners name it."""
        return join_host_port(*self.admin)

    @property
    def record_file_bytes(self) -> int:
        return int(self.given.record_file_mb * (1 << 20))


def parse_discovery(said_by: str, text: str) -> str:
    """HOST:PORT or unix:PATH as gRPC takes it. Raises SettingsError."""
    if text.startswith(UNIX_PREFIX):
        if len(text) == len(UNIX_PREFIX):
            raise SettingsError(said_by, text, "expected unix:PATH")
        return text
    return join_host_port(*parse_host_port(said_by, text))


def parse_sds_socket(said_by: str, text: str) -> dict[str, str]:
    """The socket of pilot-agent's cluster, of PATH or unix:PATH; nothing for no text. Raises SettingsError."""
    path = text.removeprefix(UNIX_PREFIX)
    if text and not path:
        raise SettingsError(said_by, text, "expected a path")
    return {SDS_CLUSTER: UNIX_PREFIX + path} if path else {}


def checked(credentials: Credentials, told: Given) -> Credentials:
    """The same. Raises SettingsError naming the setting whose file cannot be used."""
    try:
        credentials.check()
    except XdsError as error:
        raise SettingsError(told.source(CREDENTIAL_SETTINGS[error.kind]), error.resource, error.reason) from None
    return credentials


def parse_locality(said_by: str, text: str) -> Locality:
    """Locality of REGION[/ZONE[/SUBZONE]]. Raises SettingsError."""
    parts = text.split("/") if text else []
    if len(parts) > 3 or (parts and not parts[0]):
        raise SettingsError(said_by, text, "expected REGION, REGION/ZONE or REGION/ZONE/SUBZONE")
    return Locality(*[*parts, "", "", ""][:3])


@record
class NodeId:
    """The parts of TYPE~IP~POD.NAMESPACE~DOMAIN."""

    ip: str
    pod: str
    namespace: str
    domain: str


def parse_node_id(said_by: str, text: str, role: Role = GATEWAY) -> NodeId:
    """Raises SettingsError."""
    parts = text.split("~")
    if len(parts) != 4:
        raise SettingsError(said_by, text, f"expected {role.node_type}~IP~POD.NAMESPACE~DNSDOMAIN (four fields)")
    kind, ip, workload, domain = parts
    if kind != role.node_type:
        raise SettingsError(said_by, text, f"a {role.command}'s node type is {role.node_type}, not {kind!r}")
    try:
        ip_address(ip)
    except ValueError:
        raise SettingsError(said_by, text, f"{ip!r} is not an IP address") from None
    pod, dot, namespace = workload.rpartition(".")
    if not dot or not pod or not namespace or not domain:
        raise SettingsError(said_by, text, "the third field must be POD.NAMESPACE and the fourth a DNS domain")
    return NodeId(ip, pod, namespace, domain)


def parse_admin(said_by: str, text: str) -> tuple[str, int]:
    """Loopback (host, port) of HOST:PORT, or of http://HOST:PORT, which is what the commands that ask it are told.

    Port 0 takes a free one. Raises SettingsError.
    """
    bare = text.removeprefix("http://").removesuffix("/")
    if "://" in bare:
        raise SettingsError(said_by, text, "admin speaks plain HTTP: expected HOST:PORT")
    host, port = parse_host_port(said_by, bare, allow_port_zero=True)
    if host == "localhost":
        return "127.0.0.1", port
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise SettingsError(
            said_by, text, "admin serves on loopback only (127.0.0.1 or [::1]): it drains listeners for whoever asks"
        )
    return host, port


def port_of(told: Given, name: str) -> tuple[str, int] | None:
    """(host, port) of a setting that is off when empty. Raises SettingsError."""
    text = getattr(told, name)
    return parse_host_port(told.source(name), text, allow_port_zero=True) if text else None


def local_ip(discovery: str) -> str:
    """The address that this machine would use towards istiod; sends nothing. Loopback when there is no route."""
    if discovery.startswith(UNIX_PREFIX):
        # Nobody's address: that of the default route then. TEST-NET-1, nothing is sent there.
        discovery = "192.0.2.1:1"
    try:
        host, port = parse_host_port("--discovery", discovery)
        # As bytes, since a text is asked for by way of the tables of IDNA, which are large.
        asked = host.encode() if host.isascii() else host
        family, kind, _, _, address = socket.getaddrinfo(asked, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"


def check_log_path(said_by: str, path: str) -> None:
    """Raises SettingsError unless the access log can be appended to."""
    if path in ("", "-"):
        return
    try:
        with open(path, "ab"):
            pass
    except OSError as error:
        raise SettingsError(said_by, path, f"cannot be written: {error.strerror}") from None


def check_directory(said_by: str, path: str) -> None:
    """Make the directory for its owner alone if it is missing. Raises SettingsError unless it can be written to."""
    if not path:
        return
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        raise SettingsError(said_by, path, f"cannot be made: {error.strerror}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise SettingsError(said_by, path, "cannot be written to")
    if reason := why_foreign(os.stat(path)):
        raise SettingsError(said_by, path, f"{reason}, or name a directory below it, which is then made")


def check_places(told: Given) -> None:
    """Raises SettingsError for a file or directory that cannot be written to."""
    check_log_path(told.source("access_log"), told.access_log)
    check_directory(told.source("state_dir"), told.state_dir)
    check_directory(told.source("record"), told.record)


def workers_of(told: Given) -> int:
    """Native threads; the CPUs that the cgroup grants unless told. Raises SettingsError."""
    workers = min(granted_cpus(), MAX_WORKERS) if told.workers is None else told.workers
    if told.busy_poll and not workers:
        reason = "needs --workers 1 or more: without, it is uvloop that sleeps"
        raise SettingsError(told.source("busy_poll"), told.busy_poll, reason)
    return workers


def node_of(told: Given, said: Bootstrap, discovery: str, role: Role = GATEWAY) -> NodeId:
    """Who this node is: the given id, the bootstrap's, or one made up. Raises SettingsError or BootstrapError."""
    if not told.node_id and not said.node_id:
        namespace = told.namespace or role.namespace
        pod = socket.gethostname() or "eastgate"
        return NodeId(local_ip(discovery), pod, namespace, f"{namespace}.svc.cluster.local")
    try:
        node = parse_node_id(told.source("node_id"), told.node_id or said.node_id, role)
    except SettingsError as error:
        if told.node_id:
            raise
        raise BootstrapError(said.source, "node.id", error.reason) from None
    if told.namespace and told.namespace != node.namespace:
        raise SettingsError(told.source("namespace"), told.namespace, f"--node-id says {node.namespace}")
    return node


def credentials_of(told: Given, said: Bootstrap, cluster_id: str) -> Credentials:
    """Raises SettingsError naming the file that cannot be used."""
    # An address of a flag has the credentials of the flags; those of the file are for the addresses of the file.
    file = said.credentials if not told.discovery else NO_CREDENTIALS
    credentials = Credentials(
        root_cert=told.discovery_root_cert or file.root_cert,
        token=told.token_file,
        client_cert=told.client_cert or file.client_cert,
        client_key=told.client_key or file.client_key,
        cluster_id=cluster_id,
        server_name=told.discovery_server_name or file.server_name,
    )
    return checked(credentials, told)


def workload_of(told: Given, discovery: tuple[str, ...], namespace: str, role: Role) -> Workload:
    """Where the workload's keys come from but for a socket. Raises SettingsError."""
    files = SecretFiles(told.workload_cert, told.workload_key, told.workload_roots)
    if bool(files.certificate) != bool(files.key):
        name, other = ("workload_cert", "--workload-key") if files.certificate else ("workload_key", "--workload-cert")
        raise SettingsError(told.source(name), getattr(told, name), f"{other} is missing: they go together")
    authorities: tuple[str, ...] = ()
    if told.ca_address:
        authorities = (parse_discovery(told.source("ca_address"), told.ca_address),)
    elif role is SIDECAR and not files.certificate:
        authorities = tuple(address for address in discovery if not address.startswith(UNIX_PREFIX))
    name = f"spiffe://{told.trust_domain}/ns/{namespace}/sa/{told.service_account or 'default'}"
    return Workload(name, files, authorities)


def resolve(told: Given, role: Role = GATEWAY) -> GatewaySettings:
    """What was told, completed. Flags and variables win over the bootstrap. Raises SettingsError or BootstrapError."""
    return completed(told, read_bootstrap(told.bootstrap) if told.bootstrap else NO_BOOTSTRAP, role)


def completed(told: Given, said: Bootstrap, role: Role = GATEWAY) -> GatewaySettings:
    """The same with a bootstrap that has been read. Raises SettingsError or BootstrapError."""
    metadata = said.metadata
    network = told.network or str(metadata.get("NETWORK", ""))
    network_view = told.network_view
    if network_view is None:
        own = told.network if role.own_network_only else ""
        network_view = own or str(metadata.get("REQUESTED_NETWORK_VIEW", ""))
    cluster_id = told.cluster_id or str(metadata.get("CLUSTER_ID", "Kubernetes"))
    entries = told.discovery or said.discovery
    if not entries:
        reason = "istiod's address is missing, for example istiod.istio-system:15010"
        raise SettingsError(told.source("discovery"), None, reason)
    discovery = tuple(parse_discovery(told.source("discovery"), entry) for entry in entries)
    node = node_of(told, said, discovery[0], role)
    locality = parse_locality(told.source("locality"), told.locality) if told.locality else said.locality
    settings = GatewaySettings(
        given=told,
        discovery=discovery,
        node_ip=node.ip,
        pod_name=node.pod,
        namespace=node.namespace,
        dns_domain=node.domain,
        cluster_id=cluster_id,
        network=network,
        network_view=tuple(part for part in network_view.split(",") if part),
        locality=locality,
        local_cluster=told.local_cluster or said.local_cluster,
        labels={**metadata.get("LABELS", {}), **parse_pairs(told.source("label"), told.label)},
        # Flags have been merged into these; the rest of the file's metadata goes to istiod as it is.
        meta={key: value for key, value in metadata.items() if key not in FLAG_KEYS}
        | parse_pairs(told.source("meta"), told.meta),
        admin=parse_admin(told.source("admin"), told.admin or said.admin or DEFAULT_ADMIN),
        status=port_of(told, "status"),
        metrics=port_of(told, "metrics"),
        workers=workers_of(told),
        seed=int.from_bytes(os.urandom(8), "little") if told.seed is None else told.seed,
        xds_protocol="delta" if (told.xds_protocol or said.protocol) == "delta" else "sotw",
        credentials=credentials_of(told, said, cluster_id),
        secret_sockets={**said.sockets, **parse_sds_socket(told.source("sds_socket"), told.sds_socket)},
        workload=workload_of(told, discovery, node.namespace, role),
        role=role,
        node_cluster=said.node_cluster,
        upstream_bind=said.upstream_bind,
        unread=said.unread,
    )
    # Last: it makes directories.
    check_places(told)
    return settings


def gateway_settings(**values: Any) -> GatewaySettings:
    """Settings of values by name, as flags have them. Raises SettingsError or BootstrapError."""
    return resolve(given(values))
