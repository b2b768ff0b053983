"""Settings of a process that stands in Envoy's place: Envoy's flags and bootstrap in the terms of `settings`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from eastgate.xds.record import record

from .bootstrap import Bootstrap, read_bootstrap
from .bootstrap_reader import BootstrapError
from .errors import SettingsError
from .given import LOG_LEVELS, MAX_WORKERS, SETTINGS, given
from .role import GATEWAY, SIDECAR
from .settings import EnvoyManners, GatewaySettings, completed
from .stats_config import Tag

# Envoy's levels, of which ours are fewer.
LEVELS = {
    "trace": "debug",
    "warn": "warning",
    "off": "critical",
    **{level: level for level in LOG_LEVELS},
}
# What neither Envoy's flags nor its bootstrap have a word for: read from the variables of `eastgate sidecar`.
VARIABLES = (
    "access_log", "access_log_format", "busy_poll", "defer_accept", "drain_changed", "fast_open", "record",
    "record_file_mb", "record_files", "silent_inbound_timeout", "state_dir", "state_max_age", "tls_resumption",
    "tls_strict_end",
)  # fmt: skip
NO_VARIABLES: Mapping[str, str] = {}
ROLES = {role.node_type: role for role in (SIDECAR, GATEWAY)}


@record(kw_only=True)
class EnvoyFlags:
    """Values of Envoy's flags that mean something here; see `commands/envoy.py`. ``concurrency`` None: not given."""

    config_path: str = ""
    config_yaml: str = ""
    drain_time_s: float = 600.0
    concurrency: int | None = None
    log_level: str = "info"
    service_cluster: str = ""
    service_node: str = ""
    admin_address_path: str = ""
    stats_tags: tuple[str, ...] = ()


def our_level(level: str) -> str:
    """Our level of Envoy's. Raises SettingsError."""
    if level not in LEVELS:
        raise SettingsError("--log-level", level, f"expected one of {', '.join(LEVELS)}")
    return LEVELS[level]


def constant_tags(entries: Sequence[str]) -> tuple[Tag, ...]:
    """Tags of repeated NAME:VALUE. Raises SettingsError."""
    tags = []
    for entry in entries:
        name, colon, value = entry.partition(":")
        if not colon or not name or not value:
            raise SettingsError("--stats-tag", entry, "expected NAME:VALUE")
        tags.append(Tag(name, value=value))
    return tuple(tags)


def envoy_settings(flags: EnvoyFlags, environment: Mapping[str, str] = NO_VARIABLES) -> GatewaySettings:
    """The settings of these flags and variables.

    Raises SettingsError or BootstrapError naming the flag, the variable, or the place in the bootstrap.
    """
    if not flags.config_path and not flags.config_yaml:
        raise SettingsError("--config-path", None, "missing: a bootstrap is needed, as a file or as --config-yaml")
    said = with_node(
        read_bootstrap(flags.config_path, flag="--config-path", more=flags.config_yaml, more_flag="--config-yaml"),
        flags,
    )
    kind = said.node_id.partition("~")[0]
    if kind not in ROLES:
        reason = f"{said.node_id!r} begins with neither of {', '.join(ROLES)}"
        raise BootstrapError(said.source, "node.id", reason)
    workers = None if flags.concurrency is None else min(max(1, flags.concurrency), MAX_WORKERS)
    values = {
        "drain_time": flags.drain_time_s,
        "log_level": our_level(flags.log_level),
        "log_format": said.log_format,
        "workers": workers,
        "max_connections": said.max_connections,
    }
    places = {"drain_time": "--drain-time-s", "workers": "--concurrency", "max_connections": f"{said.source}: limit"}
    for name in VARIABLES:
        variable = SETTINGS[name].variable
        # One that is set to nothing says nothing, as everywhere.
        if value := environment.get(variable):
            values[name], places[name] = value, variable
    told = given(values, places)
    stats = replace(said.stats, tags=(*(said.stats.tags or ()), *constant_tags(flags.stats_tags)))
    if said.stats.tags is None and not flags.stats_tags:
        stats = said.stats
    manners = EnvoyManners(said.listeners, said.document, flags.admin_address_path, stats)
    return replace(completed(told, said, ROLES[kind]), envoy=manners)


def with_node(said: Bootstrap, flags: EnvoyFlags) -> Bootstrap:
    """The bootstrap with what flags say of the node, which wins over the file."""
    return replace(
        said, node_id=flags.service_node or said.node_id, node_cluster=flags.service_cluster or said.node_cluster
    )
