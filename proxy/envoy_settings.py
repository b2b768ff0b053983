"""Settings of a process that stands in Envoy's place: Envoy's flags and bootstrap in the terms of `settings`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .bootstrap import Bootstrap, read_bootstrap
from .bootstrap_reader import BootstrapError
from .errors import SettingsError
from .given import LOG_LEVELS, MAX_WORKERS, given
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
ROLES = {role.node_type: role for role in (SIDECAR, GATEWAY)}


@dataclass(frozen=True, slots=True, kw_only=True)
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


def envoy_settings(flags: EnvoyFlags) -> GatewaySettings:
    """The settings of these flags. Raises SettingsError or BootstrapError naming the flag, or the place in the
    bootstrap.
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
