"""Who the process is: the node that istiod hears of, and what /server_info and the bootstrap section of a dump say."""

import sys
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from eastgate.xds.errors import XdsError
from eastgate.xds.node import NodeIdentity

from .admin import stats
from .bootstrap_dump import shown
from .errors import SettingsError
from .limits import Limits
from .settings import GatewaySettings


def node_identity(settings: GatewaySettings, environment: Mapping[str, str]) -> NodeIdentity:
    """The xDS node of these settings. Raises SettingsError for what istiod would refuse."""
    try:
        node = NodeIdentity(
            type=settings.role.node_type,
            ips=(settings.node_ip,),
            pod_name=settings.pod_name,
            namespace=settings.namespace,
            dns_domain=settings.dns_domain,
            cluster_id=settings.cluster_id,
            network=settings.network,
            network_view=settings.network_view,
            labels=settings.labels,
            locality=settings.locality,
            meta=settings.meta,
            cluster=settings.node_cluster,
            service_account=settings.given.service_account,
        )
        # pilot-agent has read the environment already.
        return node if settings.envoy is not None else node.with_environment(environment)
    except XdsError as error:
        raise SettingsError("node", error.resource, error.reason) from None


@cache
def version() -> str:
    """Our version. Asked for late: what reads it costs 2 MB of modules, and nothing needs it before admin is asked."""
    from importlib.metadata import version as installed_version

    return installed_version("eastgate")


class About:
    """What a running process says of itself. Made when it starts: it counts the time from then on."""

    def __init__(self, settings: GatewaySettings, node: NodeIdentity, limits: Limits) -> None:
        self._settings = settings
        self._node = node
        self._limits = limits
        self._started = time.monotonic()

    @property
    def uptime_s(self) -> int:
        return int(time.monotonic() - self._started)

    def node(self) -> dict[str, Any]:
        """The node as JSON."""
        message = dict(self._node.message)
        message["user_agent_version"] = version()
        return message

    def bootstrap(self) -> dict[str, Any]:
        """The bootstrap as JSON."""
        if self._settings.envoy is not None:
            return {**shown(self._settings.envoy.document), "node": self.node()}
        local = self._settings.local_cluster
        return {
            "node": self.node(),
            **({"cluster_manager": {"local_cluster_name": local}} if local else {}),
        }

    def server_info(self, state: int, configuration: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """/server_info: `state` as in server.state, `configuration`: what is known of the last good one."""
        uptime = f"{self.uptime_s}s"
        settings = self._settings
        return {
            "version": f"eastgate/{version()}/Clean/RELEASE/Python-{sys.version.split()[0]}",
            "state": stats.STATE_NAMES[state],
            "uptime_current_epoch": uptime,
            "uptime_all_epochs": uptime,
            "hot_restart_version": "disabled",
            "hot_restart_initializing": False,
            "command_line_options": {
                "concurrency": settings.workers,
                "drain_time": f"{settings.given.drain_time:g}s",
                "log_level": settings.given.log_level,
                "discovery": list(settings.discovery),
            },
            "node": self.node(),
            "eastgate": {"configuration": configuration(), "limits": self._limits.as_json()},
        }
