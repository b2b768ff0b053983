"""How far the process is: what /ready, server.state and istiod's probes are told."""

from collections.abc import Callable

from eastgate.proxy.admin import stats

from .configuration import Configuration
from .serving import Serving


class Readiness:
    """Before the first configuration serves, and from then on. ``draining``: whether the process is about to end."""

    def __init__(self, serving: Serving, configuration: Configuration, *, draining: Callable[[], bool]) -> None:
        self._serving = serving
        self._configuration = configuration
        self._draining = draining
        self.initialized = False
        """Whether it has been LIVE, as far as `state` has been asked"""

    def state(self) -> int:
        """server.state, as `stats` has it."""
        if self._draining():
            return stats.DRAINING
        if not self.initialized:
            if not self._configuration.answered:
                return stats.PRE_INITIALIZING
            if self.warming() or self._configuration.waits_for_secrets or not self._serving.listeners.started:
                return stats.INITIALIZING
            # From here on a new cluster that warms does not make the process unready again.
            self.initialized = True
        return stats.LIVE

    def warming(self) -> frozenset[str]:
        """Names of clusters that wait for their endpoints, addresses or first health checks.

        Endpoints that are accepted and not compiled yet serve nobody: they are waited for too.
        """
        serving = self._serving
        return self._configuration.published.warming | serving.dns.warming | serving.health.warming
