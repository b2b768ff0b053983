"""HTTP listeners of a bootstrap: addresses that forward a few paths, for kubelet's probes and Prometheus.

pilot-agent renders two: 15021 hands /healthz/ready to the agent, 15090 hands /stats/prometheus to the admin. Nothing
but such paths may be reached through them: whoever asks would look local to the agent and to the admin.
"""

from collections.abc import Mapping
from typing import Any

from eastgate.xds.record import record

from .bootstrap_reader import Reader

_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


@record
class StaticRoute:
    """Requests whose path begins with ``prefix`` (or is ``path``) go to ``target``, HOST:PORT."""

    target: str
    prefix: str = ""
    path: str = ""

    def matches(self, path: str) -> bool:
        """Whether a request for this path, without its query, goes this way."""
        return path == self.path if self.path else path.startswith(self.prefix)


@record
class StaticListener:
    """``addresses``: HOST:PORT each. ``unread``: what of it cannot be served, in words; it is served without that."""

    name: str
    addresses: tuple[str, ...]
    routes: tuple[StaticRoute, ...] = ()
    unread: tuple[str, ...] = ()


def static_listeners(reader: Reader, value: Mapping[str, Any]) -> tuple[StaticListener, ...]:
    """The listeners of static_resources. Raises BootstrapError for an address that is none."""
    static = reader.optional(value, "", "static_resources")
    targets = _targets(reader, static)
    return tuple(
        _listener(reader, one, path, targets) for path, one in reader.items(static, "static_resources", "listeners")
    )


def _targets(reader: Reader, static: Mapping[str, Any]) -> dict[str, str]:
    """HOST:PORT of the static clusters with one endpoint that is a TCP address."""
    found = {}
    for path, cluster in reader.items(static, "static_resources", "clusters"):
        load = reader.optional(cluster, path, "load_assignment")
        groups = reader.items(load, f"{path}.load_assignment", "endpoints")
        endpoints = [
            (where, reader.optional(one, where, "endpoint"))
            for at, group in groups
            for where, one in reader.items(group, at, "lb_endpoints")
        ]
        if len(endpoints) == 1:
            where, endpoint = endpoints[0]
            address = reader.optional(endpoint, f"{where}.endpoint", "address")
            if reader.get(address, "socket_address") is not None:
                name = reader.text(cluster, path, "name")
                found[name] = reader.address(endpoint, f"{where}.endpoint", pipes=False)
    return found


def _listener(reader: Reader, one: Mapping[str, Any], path: str, targets: Mapping[str, str]) -> StaticListener:
    addresses = [reader.address(one, path, pipes=False)]
    addresses += [reader.address(more, at, pipes=False) for at, more in reader.items(one, path, "additional_addresses")]
    name = reader.text(one, path, "name") or addresses[0]
    routes: list[StaticRoute] = []
    unread: list[str] = []
    for at, chain in reader.items(one, path, "filter_chains"):
        if reader.get(chain, "transport_socket") is not None:
            unread.append(f"{at}.transport_socket: TLS is not served here")
            continue
        for where, listed in reader.items(chain, at, "filters"):
            config = reader.optional(listed, where, "typed_config")
            if str(config.get("@type", "")).rpartition("/")[2] == _MANAGER:
                _read_routes(reader, config, f"{where}.typed_config", targets, routes, unread)
            else:
                unread.append(f"{where}: only an HTTP connection manager is served here")
    return StaticListener(name, tuple(addresses), tuple(routes), tuple(unread))


def _read_routes(
    reader: Reader,
    config: Mapping[str, Any],
    path: str,
    targets: Mapping[str, str],
    routes: list[StaticRoute],
    unread: list[str],
) -> None:
    table = reader.optional(config, path, "route_config")
    for at, host in reader.items(table, f"{path}.route_config", "virtual_hosts"):
        for where, route in reader.items(host, at, "routes"):
            match = reader.optional(route, where, "match")
            action = reader.optional(route, where, "route")
            prefix = reader.text(match, f"{where}.match", "prefix")
            exact = reader.text(match, f"{where}.match", "path")
            target = targets.get(reader.text(action, f"{where}.route", "cluster"), "")
            if len(match) != 1 or not (prefix or exact) or not target:
                unread.append(f"{where}: only a prefix or path to a static cluster with one address is served")
            else:
                routes.append(StaticRoute(target, prefix, exact))
