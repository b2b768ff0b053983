"""Read the bootstrap that pilot-agent renders: who we are, where the ADS is, how to talk to it, the admin address.

Everything else in the file is Envoy's business and left alone. What kind of text it is: `bootstrap_file`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Literal

from eastgate.xds.bind_config import Bind
from eastgate.xds.credentials import Credentials
from eastgate.xds.errors import XdsError
from eastgate.xds.record import record
from eastgate.xds.resources import Locality

from .bootstrap_bind import upstream_bind
from .bootstrap_file import merged, parse_document, read_document
from .bootstrap_listeners import StaticListener, static_listeners
from .bootstrap_reader import BootstrapError, Reader
from .stats_config import StatsConfig, stats_config

CONNECTIONS_MONITOR = "envoy.resource_monitors.global_downstream_max_connections"
CONNECTIONS_RUNTIME = "overload.global_downstream_max_connections"
NO_LIMIT = (1 << 31) - 1
API_TYPES: dict[str, Literal["sotw", "delta"]] = {"GRPC": "sotw", "DELTA_GRPC": "delta"}


@record
class Bootstrap:
    """What a bootstrap says. ``discovery``: HOST:PORT or unix:PATH each; ``admin``: HOST:PORT, empty where unset;
    ``sockets``: unix:PATH of the static clusters that are Unix sockets, where pilot-agent serves secrets;
    ``max_connections``: None for no limit; ``log_format``: of the process's own log; ``upstream_bind``: what
    connections come from where their cluster does not say it; ``unread``: what of it would change connections in Envoy
    and does not here, in words; ``document``: all of it, as it was read; ``source``: what
    an error about it names.
    """

    node_id: str
    discovery: tuple[str, ...]
    protocol: Literal["sotw", "delta"]
    admin: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    locality: Locality = field(default_factory=Locality)
    local_cluster: str = ""
    credentials: Credentials = field(default_factory=Credentials)
    sockets: Mapping[str, str] = field(default_factory=dict)
    node_cluster: str = ""
    source: str = ""
    listeners: tuple[StaticListener, ...] = ()
    stats: StatsConfig = field(default_factory=StatsConfig)
    max_connections: int | None = None
    log_format: Literal["text", "json"] = "text"
    upstream_bind: Bind | None = None
    unread: tuple[str, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)


def read_bootstrap(file: str, *, flag: str = "--bootstrap", more: str = "", more_flag: str = "") -> Bootstrap:
    """Read a bootstrap file, the value of `flag`. ``more``: JSON or YAML of `more_flag` that is merged into it, or
    stands in its place. Raises BootstrapError naming flag, file, JSON path and cause.
    """
    source = f"{flag} {file}" if file else more_flag
    value = read_document(source, file) if file else {}
    if more:
        value = merged(value, parse_document(more_flag, more))
    return _bootstrap(Reader(source), value)


def _bootstrap(reader: Reader, value: Mapping[str, Any]) -> Bootstrap:
    node = reader.mapping(value, "", "node")
    locality = reader.optional(node, "node", "locality")
    metadata = reader.optional(node, "node", "metadata")
    reader.optional(metadata, "node.metadata", "LABELS")
    ads = reader.mapping(reader.mapping(value, "", "dynamic_resources"), "dynamic_resources", "ads_config")
    path = "dynamic_resources.ads_config"
    api_type = reader.text(ads, path, "api_type", required=True)
    if api_type not in API_TYPES:
        raise reader.fail(f"{path}.api_type", f"{api_type!r} is none of {', '.join(API_TYPES)}")
    name, name_path = _ads_cluster(reader, ads, path)
    discovery, credentials = _cluster(reader, value, name, name_path, str(metadata.get("CLUSTER_ID", "")))
    admin = reader.optional(value, "", "admin")
    manager = reader.optional(value, "", "cluster_manager")
    bind, unread = upstream_bind(reader, manager)
    return Bootstrap(
        node_id=reader.text(node, "node", "id", required=True),
        discovery=discovery,
        protocol=API_TYPES[api_type],
        admin=reader.address(admin, "admin", pipes=False) if admin else "",
        metadata=metadata,
        locality=Locality(*[reader.text(locality, "node.locality", part) for part in Locality._fields]),
        local_cluster=reader.text(manager, "cluster_manager", "local_cluster_name"),
        credentials=credentials,
        sockets={cluster: path for cluster, path in _sockets(reader, value).items() if cluster != name},
        node_cluster=reader.text(node, "node", "cluster"),
        listeners=static_listeners(reader, value),
        stats=stats_config(reader, value),
        max_connections=_max_connections(reader, value),
        log_format=_log_format(reader, value),
        upstream_bind=bind,
        unread=unread,
        document=value,
        source=reader.source,
    )


def _max_connections(reader: Reader, value: Mapping[str, Any]) -> int | None:
    """The limit of the overload manager, or of the runtime that older agents write; None where there is none."""
    found: list[int] = []
    manager = reader.optional(value, "", "overload_manager")
    for path, monitor in reader.items(manager, "overload_manager", "resource_monitors"):
        if monitor.get("name") == CONNECTIONS_MONITOR:
            config = reader.optional(monitor, path, "typed_config")
            found.append(reader.number(config, f"{path}.typed_config", "max_active_downstream_connections"))
    runtime = reader.optional(value, "", "layered_runtime")
    for path, layer in reader.items(runtime, "layered_runtime", "layers"):
        static = reader.optional(layer, path, "static_layer")
        if CONNECTIONS_RUNTIME in static:
            found.append(reader.number(static, f"{path}.static_layer", CONNECTIONS_RUNTIME))
    # What Istio writes where nobody asked for a limit.
    limits = [limit for limit in found if 0 < limit < NO_LIMIT]
    return min(limits, default=None)


def _log_format(reader: Reader, value: Mapping[str, Any]) -> Literal["text", "json"]:
    """The form of our log lines that is nearest to what application_log_config says."""
    config = reader.optional(value, "", "application_log_config")
    form = reader.optional(config, "application_log_config", "log_format")
    return "json" if reader.get(form, "json_format") is not None else "text"


def _sockets(reader: Reader, value: Mapping[str, Any]) -> dict[str, str]:
    """Paths of the static clusters with one endpoint that is a pipe. Whatever has another shape is none of them."""
    found = {}
    static = reader.optional(value, "", "static_resources")
    for path, cluster in reader.items(static, "static_resources", "clusters"):
        try:
            load = reader.optional(cluster, path, "load_assignment")
            groups = reader.items(load, path, "endpoints")
            endpoints = [one for at, group in groups for _, one in reader.items(group, at, "lb_endpoints")]
            (pipe,) = [
                reader.mapping(reader.mapping(reader.mapping(one, path, "endpoint"), path, "address"), path, "pipe")
                for one in endpoints
            ]
            found[reader.text(cluster, path, "name", required=True)] = "unix:" + reader.text(
                pipe, path, "path", required=True
            )
        except (BootstrapError, ValueError):
            continue
    return found


def _ads_cluster(reader: Reader, ads: Mapping[str, Any], path: str) -> tuple[str, str]:
    """Name of the cluster that the ADS is asked through, and the path where it stands."""
    services = reader.items(ads, path, "grpc_services")
    if not services:
        raise reader.fail(f"{path}.grpc_services", "is missing")
    where, service = services[0]
    grpc = reader.mapping(service, where, "envoy_grpc")
    return reader.text(grpc, f"{where}.envoy_grpc", "cluster_name", required=True), f"{where}.envoy_grpc.cluster_name"


def _cluster(
    reader: Reader, value: Mapping[str, Any], name: str, name_path: str, cluster_id: str
) -> tuple[tuple[str, ...], Credentials]:
    static = reader.optional(value, "", "static_resources")
    for path, cluster in reader.items(static, "static_resources", "clusters"):
        if cluster.get("name") != name:
            continue
        load, load_path = reader.mapping(cluster, path, "load_assignment"), f"{path}.load_assignment"
        found = [
            reader.address(reader.mapping(one, one_path, "endpoint"), f"{one_path}.endpoint", pipes=True)
            for group_path, group in reader.items(load, load_path, "endpoints")
            for one_path, one in reader.items(group, group_path, "lb_endpoints")
        ]
        if not found:
            raise reader.fail(f"{load_path}.endpoints", "holds no endpoint")
        socket = reader.optional(cluster, path, "transport_socket")
        credentials = _tls(reader, socket, f"{path}.transport_socket", cluster_id) if socket else Credentials()
        return tuple(found), credentials
    raise reader.fail(name_path, f"{name!r} is no cluster of static_resources.clusters")


def _tls(reader: Reader, socket: Mapping[str, Any], path: str, cluster_id: str) -> Credentials:
    """Credentials of an UpstreamTlsContext with files. Certificates that come by SDS are pilot-agent's business."""
    config, path = reader.mapping(socket, path, "typed_config"), f"{path}.typed_config"
    context, common_path = reader.mapping(config, path, "common_tls_context"), f"{path}.common_tls_context"
    if reader.items(context, common_path, "tls_certificate_sds_secret_configs"):
        reason = "secrets by SDS are not read; use files, or the socket of pilot-agent"
        raise reader.fail(f"{common_path}.tls_certificate_sds_secret_configs", reason)
    validation = reader.mapping(context, common_path, "validation_context")
    root_path = f"{common_path}.validation_context.trusted_ca"
    root = reader.mapping(validation, f"{common_path}.validation_context", "trusted_ca")
    certificates: Sequence[tuple[str, dict[str, Any]]] = reader.items(context, common_path, "tls_certificates")
    chain = key = certificate_path = ""
    for certificate_path, certificate in certificates[:1]:
        chain = _filename(reader, certificate, certificate_path, "certificate_chain")
        key = _filename(reader, certificate, certificate_path, "private_key")
    credentials = Credentials(
        root_cert=reader.text(root, root_path, "filename", required=True),
        client_cert=chain,
        client_key=key,
        cluster_id=cluster_id,
        server_name=reader.text(config, path, "sni"),
    )
    try:
        credentials.check()
    except XdsError as error:
        where = {
            "root_cert": root_path,
            "client_cert": f"{certificate_path}.certificate_chain",
            "client_key": f"{certificate_path}.private_key",
        }[error.kind]
        raise reader.fail(f"{where}.filename", f"{error.resource!r}: {error.reason}") from None
    return credentials


def _filename(reader: Reader, parent: Mapping[str, Any], path: str, name: str) -> str:
    return reader.text(reader.mapping(parent, path, name), f"{path}.{name}", "filename", required=True)
