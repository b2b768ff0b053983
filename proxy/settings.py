"""Settings of `eastgate gateway`, validated before any port opens. Knows nothing of the command line's library."""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Literal

from eastgate.xds.credentials import UNIX_PREFIX, Credentials
from eastgate.xds.errors import XdsError
from eastgate.xds.resources import Locality

from .bootstrap import Bootstrap, BootstrapError, read_bootstrap
from .cpus import granted_cpus
from .errors import SettingsError

MAX_DRAIN_TIME_S = 86_400.0
MAX_WORKERS = 256
MAX_BUSY_POLL_US = 1000
UNKNOWN_LOCALITY = Locality()
NO_CREDENTIALS = Credentials()
NO_BOOTSTRAP = Bootstrap("", (), "sotw")
FLAG_KEYS = {"CLUSTER_ID", "NETWORK", "REQUESTED_NETWORK_VIEW", "LABELS"}
# What istiod calls pilot-agent's SDS in every transport socket.
SDS_CLUSTER = "sds-grpc"
CREDENTIAL_FLAGS = {
    "root_cert": "--discovery-root-cert",
    "token": "--token-file",
    "client_cert": "--client-cert",
    "client_key": "--client-key",
}


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Everything that `eastgate gateway` was told. ``discovery``: HOST:PORT or unix:PATH each;
    ``admin``, ``status`` and ``metrics`` are (host, port); times are seconds.
    """

    discovery: tuple[str, ...]
    node_ip: str
    pod_name: str
    namespace: str
    dns_domain: str
    cluster_id: str
    network: str
    network_view: tuple[str, ...]
    locality: Locality = UNKNOWN_LOCALITY
    local_cluster: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    admin: tuple[str, int] = ("127.0.0.1", 15000)
    status: tuple[str, int] | None = None
    metrics: tuple[str, int] | None = None
    workers: int = 0
    drain_time_s: float = 45.0
    access_log: str = ""
    access_log_format: str = "text"
    max_connections: int = 1_000_000
    defer_accept: bool = False
    fast_open: bool = False
    busy_poll_us: int = 0
    log_level: str = "info"
    seed: int = 0
    xds_protocol: Literal["sotw", "delta"] = "sotw"
    credentials: Credentials = NO_CREDENTIALS
    state_dir: str = ""
    state_max_age_s: float = 86_400.0
    record: str = ""
    record_file_bytes: int = 64 << 20
    record_files: int = 8
    secret_sockets: Mapping[str, str] = field(default_factory=dict)
    """unix:PATH by the name of the bootstrap's cluster that secrets are asked through"""

    @property
    def node_id(self) -> str:
        return f"router~{self.node_ip}~{self.pod_name}.{self.namespace}~{self.dns_domain}"


def parse_host_port(flag: str, text: str, *, allow_port_zero: bool = False) -> tuple[str, int]:
    """(host, port) of HOST:PORT or [IPV6]:PORT. Raises SettingsError."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise SettingsError(flag, text, "an IPv6 address needs brackets: [::1]:15010")
    if not colon or not host:
        raise SettingsError(flag, text, "expected HOST:PORT")
    if not port.isascii() or not port.isdigit() or not (0 if allow_port_zero else 1) <= int(port) <= 65535:
        raise SettingsError(flag, text, f"port {port!r} is not a number from 1 to 65535")
    return host, int(port)


def parse_discovery(text: str) -> str:
    """HOST:PORT or unix:PATH as gRPC takes it. Raises SettingsError."""
    if text.startswith(UNIX_PREFIX):
        if len(text) == len(UNIX_PREFIX):
            raise SettingsError("--discovery", text, "expected unix:PATH")
        return text
    host, port = parse_host_port("--discovery", text)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_sds_socket(text: str) -> dict[str, str]:
    """The socket of pilot-agent's cluster, of PATH or unix:PATH; nothing for no text. Raises SettingsError."""
    path = text.removeprefix(UNIX_PREFIX)
    if text and not path:
        raise SettingsError("--sds-socket", text, "expected a path")
    return {SDS_CLUSTER: UNIX_PREFIX + path} if path else {}


def checked(credentials: Credentials) -> Credentials:
    """The same. Raises SettingsError naming the flag whose file cannot be used."""
    try:
        credentials.check()
    except XdsError as error:
        raise SettingsError(CREDENTIAL_FLAGS[error.kind], error.resource, error.reason) from None
    return credentials


def parse_pairs(flag: str, entries: Sequence[str]) -> dict[str, str]:
    """Mapping of repeated K=V. Raises SettingsError for an entry without = or an empty or repeated key."""
    pairs: dict[str, str] = {}
    for entry in entries:
        key, equals, value = entry.partition("=")
        if not equals or not key:
            raise SettingsError(flag, entry, "expected KEY=VALUE")
        if key in pairs:
            raise SettingsError(flag, entry, f"{key} is given twice")
        pairs[key] = value
    return pairs


def parse_locality(flag: str, text: str) -> Locality:
    """Locality of REGION[/ZONE[/SUBZONE]]. Raises SettingsError."""
    parts = text.split("/") if text else []
    if len(parts) > 3 or (parts and not parts[0]):
        raise SettingsError(flag, text, "expected REGION, REGION/ZONE or REGION/ZONE/SUBZONE")
    return Locality(*[*parts, "", "", ""][:3])


def parse_node_id(text: str) -> tuple[str, str, str, str]:
    """(ip, pod, namespace, DNS domain) of router~IP~POD.NAMESPACE~DOMAIN. Raises SettingsError."""
    parts = text.split("~")
    if len(parts) != 4:
        raise SettingsError("--node-id", text, "expected router~IP~POD.NAMESPACE~DNSDOMAIN (four fields)")
    kind, ip, workload, domain = parts
    if kind != "router":
        raise SettingsError("--node-id", text, f"a gateway's node type is router, not {kind!r}")
    try:
        ip_address(ip)
    except ValueError:
        raise SettingsError("--node-id", text, f"{ip!r} is not an IP address") from None
    pod, dot, namespace = workload.rpartition(".")
    if not dot or not pod or not namespace or not domain:
        raise SettingsError("--node-id", text, "the third field must be POD.NAMESPACE and the fourth a DNS domain")
    return ip, pod, namespace, domain


def parse_admin(text: str) -> tuple[str, int]:
    """Loopback (host, port); port 0 takes a free one. Raises SettingsError."""
    host, port = parse_host_port("--admin", text, allow_port_zero=True)
    if host == "localhost":
        return "127.0.0.1", port
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise SettingsError(
            "--admin", text, "admin serves on loopback only (127.0.0.1 or [::1]): it drains listeners for whoever asks"
        )
    return host, port


def local_ip(discovery: str) -> str:
    """The address that this machine would use towards istiod; sends nothing. Loopback when there is no route."""
    if discovery.startswith(UNIX_PREFIX):
        # Nobody's address: that of the default route then. TEST-NET-1, nothing is sent there.
        discovery = "192.0.2.1:1"
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            *parse_host_port("--discovery", discovery), type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"


def check_log_path(path: str) -> None:
    """Raises SettingsError unless the access log can be appended to."""
    if path in ("", "-"):
        return
    try:
        with open(path, "ab"):
            pass
    except OSError as error:
        raise SettingsError("--access-log", path, f"cannot be written: {error.strerror}") from None


def check_directory(flag: str, path: str) -> None:
    """Make the directory for its owner alone if it is missing. Raises SettingsError unless it can be written to."""
    if not path:
        return
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        raise SettingsError(flag, path, f"cannot be made: {error.strerror}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise SettingsError(flag, path, "cannot be written to")


def in_range(flag: str, value: float, low: float, high: float) -> None:
    """Raises SettingsError unless low <= value <= high."""
    if not low <= value <= high:
        raise SettingsError(flag, value, f"must be between {low:g} and {high:g}")


def gateway_settings(
    *,
    discovery: Sequence[str],
    node_id: str = "",
    cluster_id: str = "",
    network: str = "",
    network_view: str | None = None,
    namespace: str = "",
    label: Sequence[str] = (),
    locality: str = "",
    local_cluster: str = "",
    meta: Sequence[str] = (),
    admin: str = "",
    status: str = "",
    metrics: str = "",
    workers: int | None = None,
    drain_time: float = 45.0,
    access_log: str = "",
    access_log_format: str = "text",
    max_connections: int = 1_000_000,
    defer_accept: bool = False,
    fast_open: bool = False,
    busy_poll: int = 0,
    log_level: str = "info",
    seed: int | None = None,
    xds_protocol: Literal["sotw", "delta"] | None = None,
    bootstrap: str = "",
    sds_socket: str = "",
    state_dir: str = "",
    state_max_age: float = 86_400.0,
    record: str = "",
    record_file_mb: float = 64.0,
    record_files: int = 8,
    discovery_root_cert: str = "",
    discovery_server_name: str = "",
    token_file: str = "",
    client_cert: str = "",
    client_key: str = "",
) -> GatewaySettings:
    """Validate what the command line gave. Raises SettingsError naming the flag."""
    said = read_bootstrap(bootstrap) if bootstrap else NO_BOOTSTRAP
    # An address of a flag has the credentials of the flags; those of the file are for the addresses of the file.
    file_credentials = said.credentials if not discovery else NO_CREDENTIALS
    discovery = discovery or said.discovery
    node_id = node_id or said.node_id
    if network_view is None:
        network_view = network or str(said.metadata.get("REQUESTED_NETWORK_VIEW", ""))
    cluster_id = cluster_id or str(said.metadata.get("CLUSTER_ID", "Kubernetes"))
    network = network or str(said.metadata.get("NETWORK", ""))
    # Flags have been merged into these; the rest of the file's metadata goes to istiod as it is.
    metadata = {key: value for key, value in said.metadata.items() if key not in FLAG_KEYS}
    metadata.update(parse_pairs("--meta", meta))
    labels = {**said.metadata.get("LABELS", {}), **parse_pairs("--label", label)}
    if not discovery:
        raise SettingsError("--discovery", None, "istiod's address is missing, for example istiod.istio-system:15010")
    addresses = tuple(parse_discovery(entry) for entry in discovery)
    if workers is None:
        workers = min(granted_cpus(), MAX_WORKERS)
    in_range("--workers", workers, 0, MAX_WORKERS)
    in_range("--busy-poll", busy_poll, 0, MAX_BUSY_POLL_US)
    if busy_poll and not workers:
        raise SettingsError("--busy-poll", busy_poll, "needs --workers 1 or more: without, it is uvloop that sleeps")
    in_range("--drain-time", drain_time, 0, MAX_DRAIN_TIME_S)
    in_range("--max-connections", max_connections, 1, 100_000_000)
    check_log_path(access_log)
    in_range("--state-max-age", state_max_age, 1, 366 * 86_400.0)
    check_directory("--state-dir", state_dir)
    in_range("--record-file-mb", record_file_mb, 0.01, 65_536)
    in_range("--record-files", record_files, 2, 100_000)
    check_directory("--record", record)
    if node_id:
        try:
            ip, pod, id_namespace, domain = parse_node_id(node_id)
        except SettingsError as error:
            if node_id != said.node_id:
                raise
            raise BootstrapError(bootstrap, "node.id", error.reason) from None
        if namespace and namespace != id_namespace:
            raise SettingsError("--namespace", namespace, f"--node-id says {id_namespace}")
        namespace = id_namespace
    else:
        namespace = namespace or "istio-system"
        ip, pod, domain = local_ip(addresses[0]), socket.gethostname() or "eastgate", f"{namespace}.svc.cluster.local"
    return GatewaySettings(
        discovery=addresses,
        node_ip=ip,
        pod_name=pod,
        namespace=namespace,
        dns_domain=domain,
        cluster_id=cluster_id,
        network=network,
        network_view=tuple(part for part in network_view.split(",") if part),
        locality=parse_locality("--locality", locality) if locality else said.locality,
        local_cluster=local_cluster or said.local_cluster,
        labels=labels,
        meta=metadata,
        admin=parse_admin(admin or said.admin or "127.0.0.1:15000"),
        status=parse_host_port("--status", status, allow_port_zero=True) if status else None,
        metrics=parse_host_port("--metrics", metrics, allow_port_zero=True) if metrics else None,
        workers=workers,
        drain_time_s=drain_time,
        access_log=access_log,
        access_log_format=access_log_format,
        max_connections=max_connections,
        defer_accept=defer_accept,
        fast_open=fast_open,
        busy_poll_us=busy_poll,
        log_level=log_level,
        seed=int.from_bytes(os.urandom(8), "little") if seed is None else seed,
        state_dir=state_dir,
        state_max_age_s=state_max_age,
        record=record,
        record_file_bytes=int(record_file_mb * (1 << 20)),
        record_files=record_files,
        xds_protocol=xds_protocol or said.protocol,
        secret_sockets={**said.sockets, **parse_sds_socket(sds_socket)},
        credentials=checked(
            Credentials(
                root_cert=discovery_root_cert or file_credentials.root_cert,
                token=token_file,
                client_cert=client_cert or file_credentials.client_cert,
                client_key=client_key or file_credentials.client_key,
                cluster_id=cluster_id,
                server_name=discovery_server_name or file_credentials.server_name,
            )
        ),
    )
