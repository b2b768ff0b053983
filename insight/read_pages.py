"""Admin pages of eastgate that stand beside a dump: /listeners and the ledger. Opens no files.

Envoy's /listeners has the same shape and says nothing of sockets that failed; its rejections stand in its config_dump.
"""

from collections.abc import Mapping
from typing import Any

from .cluster_model import ProxyModel, RejectedResource, SilentListener

# How /listeners begins what it says of a listener that is left out as a whole. A notice in the config_dump tells it.
SKIPPED = "skipped: "


def read_listeners(document: Mapping[str, Any], source: str) -> ProxyModel:
    """admin.v3.Listeners. Raises KeyError, TypeError or AttributeError for another shape."""
    silent = []
    for status in document.get("listener_statuses", document.get("listenerStatuses", ())):
        reason = str(status.get("eastgate_error", ""))
        if reason and not reason.startswith(SKIPPED):
            silent.append(SilentListener(str(status["name"]), bound_address(status), reason))
    return ProxyModel(source, {}, silent_listeners=tuple(silent))


def bound_address(status: Mapping[str, Any]) -> str:
    """host:port of a listener status; empty where it has none."""
    socket = status.get("local_address", {}).get("socket_address", {})
    host = str(socket.get("address", ""))
    return f"{f'[{host}]' if ':' in host else host}:{socket.get('port_value', 0)}" if host else ""


def read_ledger(document: Mapping[str, Any], source: str) -> ProxyModel:
    """/debug/xds, of which what is rejected now is taken, and why there is no stream. Raises KeyError or TypeError for
    another shape.
    """
    rejected = tuple(
        RejectedResource(
            str(one["type"]),
            str(one["name"]),
            str((one["rejected"] or {}).get("reason", "no reason given")),
            first=one["accepted"] is None,
        )
        for one in document["resources"]
        if one["state"] == "NACKED"
    )
    stream = document["stream"]
    no_stream = "" if stream.get("connected", True) else str(stream.get("last_error", "")) or "no answer yet"
    return ProxyModel(source, {}, rejected=rejected, no_stream=no_stream)
