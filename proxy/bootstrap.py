"""Read the bootstrap that pilot-agent renders: who we are, where the ADS is, how to talk to it, the admin address.

Everything else in the file is Envoy's business and left alone. YAML is read too, which also takes the trailing comma
that one branch of Istio's template writes. Field names may be snake_case or lowerCamelCase.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from eastgate.xds.credentials import Credentials
from eastgate.xds.errors import XdsError
from eastgate.xds.resources import Locality

from .errors import EastgateError

API_TYPES: dict[str, Literal["sotw", "delta"]] = {"GRPC": "sotw", "DELTA_GRPC": "delta"}


class BootstrapError(EastgateError):
    """A bootstrap file that cannot be used: which file, which JSON path, why."""

    def __init__(self, file: str, path: str, reason: str) -> None:
        super().__init__(f"--bootstrap {file}: {path + ': ' if path else ''}{reason}")


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What a bootstrap says. ``discovery``: HOST:PORT or unix:PATH each; ``admin``: HOST:PORT, empty where unset;
    ``sockets``: unix:PATH of the static clusters that are Unix sockets, where pilot-agent serves secrets.
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


class _Reader:
    """Values by path, with errors that name it."""

    def __init__(self, file: str) -> None:
        self.file = file

    def fail(self, path: str, reason: str) -> BootstrapError:
        return BootstrapError(self.file, path, reason)

    def get(self, parent: Mapping[str, Any], name: str) -> Any:
        camel = re.sub(r"_(\w)", lambda match: match[1].upper(), name)
        return parent.get(name, parent.get(camel))

    def mapping(self, parent: Mapping[str, Any], path: str, name: str) -> dict[str, Any]:
        """The object `name`; missing is an error."""
        value = self.get(parent, name)
        where = f"{path}.{name}" if path else name
        if not isinstance(value, dict):
            raise self.fail(where, "is missing" if value is None else f"must be an object, not {value!r}")
        return value

    def optional(self, parent: Mapping[str, Any], path: str, name: str) -> dict[str, Any]:
        return {} if self.get(parent, name) is None else self.mapping(parent, path, name)

    def items(self, parent: Mapping[str, Any], path: str, name: str) -> list[tuple[str, dict[str, Any]]]:
        """(path, object) of each item of the list `name`; a missing list is empty."""
        value = self.get(parent, name)
        where = f"{path}.{name}" if path else name
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.fail(where, "must be a list of objects")
        return [(f"{where}[{index}]", item) for index, item in enumerate(value)]

    def text(self, parent: Mapping[str, Any], path: str, name: str, *, required: bool = False) -> str:
        value = self.get(parent, name)
        if value is None and not required:
            return ""
        if not isinstance(value, str) or (required and not value):
            raise self.fail(f"{path}.{name}", "is missing" if not value else f"must be a string, not {value!r}")
        return value

    def address(self, parent: Mapping[str, Any], path: str, *, pipes: bool) -> str:
        """HOST:PORT or unix:PATH of the Address message `address`."""
        address, where = self.mapping(parent, path, "address"), f"{path}.address"
        pipe = self.optional(address, where, "pipe")
        if pipe and pipes:
            return "unix:" + self.text(pipe, f"{where}.pipe", "path", required=True)
        socket = self.mapping(address, where, "socket_address")
        where += ".socket_address"
        host = self.text(socket, where, "address", required=True)
        port = self.get(socket, "port_value")
        if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
            raise self.fail(f"{where}.port_value", f"must be a port number, not {port!r}")
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def read_bootstrap(file: str) -> Bootstrap:
    """Read a bootstrap file. Raises BootstrapError naming file, JSON path and cause."""
    try:
        with open(file, encoding="utf-8") as opened:
            text = opened.read()
    except OSError as error:
        raise BootstrapError(file, "", f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise BootstrapError(file, "", "is not text in UTF-8") from None
    try:
        value = json.loads(text)
    except ValueError:
        value = _yaml(file, text)
    if not isinstance(value, dict):
        raise BootstrapError(file, "", "holds no object")
    return _bootstrap(_Reader(file), value)


def _yaml(file: str, text: str) -> Any:
    # Rarely needed, and 15 ms to import.
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise BootstrapError(file, "", f"is neither JSON nor YAML{where}") from None


def _bootstrap(reader: _Reader, value: Mapping[str, Any]) -> Bootstrap:
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
    return Bootstrap(
        node_id=reader.text(node, "node", "id", required=True),
        discovery=discovery,
        protocol=API_TYPES[api_type],
        admin=reader.address(admin, "admin", pipes=False) if admin else "",
        metadata=metadata,
        locality=Locality(*[reader.text(locality, "node.locality", part) for part in Locality._fields]),
        local_cluster=reader.text(
            reader.optional(value, "", "cluster_manager"), "cluster_manager", "local_cluster_name"
        ),
        credentials=credentials,
        sockets={cluster: path for cluster, path in _sockets(reader, value).items() if cluster != name},
    )


def _sockets(reader: _Reader, value: Mapping[str, Any]) -> dict[str, str]:
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


def _ads_cluster(reader: _Reader, ads: Mapping[str, Any], path: str) -> tuple[str, str]:
    """Name of the cluster that the ADS is asked through, and the path where it stands."""
    services = reader.items(ads, path, "grpc_services")
    if not services:
        raise reader.fail(f"{path}.grpc_services", "is missing")
    where, service = services[0]
    grpc = reader.mapping(service, where, "envoy_grpc")
    return reader.text(grpc, f"{where}.envoy_grpc", "cluster_name", required=True), f"{where}.envoy_grpc.cluster_name"


def _cluster(
    reader: _Reader, value: Mapping[str, Any], name: str, name_path: str, cluster_id: str
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


def _tls(reader: _Reader, socket: Mapping[str, Any], path: str, cluster_id: str) -> Credentials:
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


def _filename(reader: _Reader, parent: Mapping[str, Any], path: str, name: str) -> str:
    return reader.text(reader.mapping(parent, path, name), f"{path}.{name}", "filename", required=True)
