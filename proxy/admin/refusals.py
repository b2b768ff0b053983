"""The latest refused connections, for `/refusals`: who asked for what, and why it was closed."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from eastgate.fastpath.loop.event_ring import ConnectionEvent
from eastgate.fastpath.reason import ENDED, LABELS, RESPONSE_FLAGS, Reason
from eastgate.proxy.disk.access_log import start_text

CAPACITY = 256


class Refusals:
    """A bounded memory of refusals; the oldest are forgotten first."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._latest: deque[ConnectionEvent] = deque(maxlen=capacity)

    def add(self, events: Iterable[ConnectionEvent]) -> None:
        self._latest.extend(event for event in events if Reason(event.reason) not in ENDED)

    def as_json(
        self, *, listener_name: Callable[[int], str], nearest: Callable[[int, str], str]
    ) -> list[dict[str, Any]]:
        """Newest first. `nearest` finds the known server name most alike to one that is not known."""
        shown = []
        for event in reversed(self._latest):
            reason = Reason(event.reason)
            entry: dict[str, Any] = {
                "time": start_text(event),
                "listener": listener_name(event.listener),
                "reason": LABELS[reason],
                "response_flags": RESPONSE_FLAGS[reason],
                "server_name": event.server_name,
                "application_protocols": list(event.alpn),
                "downstream": event.downstream,
                "cluster": event.cluster,
                "upstream": event.upstream,
            }
            if event.policy:
                entry |= {"policy": event.policy, "policy_unknown": event.policy_unknown}
            if reason is Reason.UNKNOWN_SERVER_NAME:
                entry["nearest_server_name"] = nearest(event.listener, event.server_name)
            shown.append(entry)
        return shown
