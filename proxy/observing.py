"""What is kept of what happens: connections, pushes, secrets, published clusters. Each is told by whom it happens to.

Changes nothing; whoever shows it is elsewhere.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from eastgate.fastpath.reason import Reason
from eastgate.proxy.admin.certs import own_principal
from eastgate.proxy.admin.istio_traffic import IstioTraffic
from eastgate.proxy.admin.memberships import Memberships
from eastgate.proxy.admin.panics import Panics
from eastgate.proxy.admin.refusals import Refusals
from eastgate.proxy.admin.spill import Spill
from eastgate.proxy.disk.access_log import AccessLog
from eastgate.proxy.history.cluster_events import ClusterEvents
from eastgate.proxy.history.event_log import EventLog
from eastgate.proxy.history.resource_events import ResourceEvents
from eastgate.xds.node import NodeIdentity
from eastgate.xds.resources import Snapshot
from eastgate.xds.secret_store import SecretSnapshot, SecretStore

from .control_errors import ControlErrors, Part
from .serving import Serving
from .settings import GatewaySettings

# Events of the engine taken in one go: half a millisecond with the access log on.
EVENTS_AT_ONCE = 64


class Observing:
    """Everything that remembers. Control thread only; closed before the engine is."""

    def __init__(
        self,
        settings: GatewaySettings,
        node: NodeIdentity,
        serving: Serving,
        secrets: SecretStore,
        errors: ControlErrors,
    ) -> None:
        self._errors = errors
        self._serving = serving
        self._secrets = secrets
        self._closed = False
        self.memberships = serving.observed(Part.ADMIN, Memberships())
        self.panics = serving.observed(Part.ADMIN, Panics())
        self.spill = serving.observed(Part.ADMIN, Spill())
        self.istio = serving.observed(
            Part.ADMIN, IstioTraffic(serving.slots, node.metadata, lambda: own_principal(secrets.snapshot))
        )
        self.refusals = Refusals()
        self.events = EventLog()
        clusters = serving.observed(Part.EVENTS, ClusterEvents(self.events))
        serving.ejections.observers.append(errors.guarded(Part.EVENTS, clusters.judged))
        self._resources = ResourceEvents(self.events)
        self.access_log = open_access_log(settings, serving.listeners.name_of, errors)
        if self.access_log is not None:
            serving.engine.record_events(True)

    def take(self) -> bool:
        """Hand on some of what the engine has recorded; return whether there may be more."""
        if self._closed:
            return False
        events = self._serving.engine.take_events(EVENTS_AT_ONCE)
        if events:
            # Health checks of load balancers are counted. Told as well, they would be most of what is told.
            told = [event for event in events if event.reason != Reason.IDLE_PROBE]
            with self._errors.guard(Part.EVENTS):
                self.refusals.add(told)
            if self.access_log is not None:
                with self._errors.guard(Part.DISK):
                    self.access_log.write(told)
            with self._errors.guard(Part.DISK):
                self._serving.configured_logs.write(events)
        return len(events) == EVENTS_AT_ONCE

    def take_burst(self) -> None:
        """Take events until there are none, and let others run in between."""
        if self.take():
            asyncio.get_running_loop().call_soon(self.take_burst)

    def take_last(self) -> None:
        """Take all that there is; from now on nothing is asked of the engine."""
        while self.take():
            pass
        self._closed = True

    def pushed(self, snapshot: Snapshot) -> None:
        """A response of istiod was taken."""
        with self._errors.guard(Part.EVENTS):
            self._resources.accepted(snapshot)

    def secrets_changed(self, snapshot: SecretSnapshot) -> None:
        with self._errors.guard(Part.EVENTS):
            self._resources.secrets(snapshot)

    def look_at_certificates(self) -> None:
        """Note which of them end soon."""
        with self._errors.guard(Part.EVENTS):
            self._resources.look_at_certificates(self._secrets.snapshot, datetime.now(UTC))

    def reopen_logs(self) -> None:
        """Log files may have been moved away."""
        if self.access_log is not None:
            self.access_log.reopen()
        self._serving.configured_logs.reopen()

    def close_logs(self) -> None:
        if self.access_log is not None:
            self.access_log.close()
        self._serving.configured_logs.close()


def open_access_log(
    settings: GatewaySettings, listener_name: Callable[[int], str], errors: ControlErrors
) -> AccessLog | None:
    """None unless it is wanted."""
    if not settings.given.access_log:
        return None
    return AccessLog(
        settings.given.access_log,
        line_format=settings.given.access_log_format,
        listener_name=listener_name,
        errors=errors,
    )
