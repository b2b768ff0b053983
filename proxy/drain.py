"""Orderly stop: go on accepting for the drain window, then stop, then wait for what is open, then cut the rest."""

from collections.abc import Callable
from enum import Enum

# How long nobody may have come before it is believed that nobody will: who balances load takes some seconds to learn
# that an address is going away.
QUIET_S = 5.0


class Activity:
    """Since when nobody has come. Told now and then how many connections there have been in all."""

    def __init__(self) -> None:
        self._total = 0
        self._changed_s = float("-inf")

    def note(self, now: float, total: int) -> None:
        """`total` only grows."""
        if total != self._total:
            self._total, self._changed_s = total, now

    def is_idle(self, now: float, total: int, open_connections: int) -> bool:
        """Whether nothing is open, and nobody has come for a while or ever."""
        self.note(now, total)
        return open_connections == 0 and now - self._changed_s >= QUIET_S


class Phase(Enum):
    """Where a drain stands. LINGERING: no longer accepting, waiting for open connections."""

    SERVING = "serving"
    DRAINING = "draining"
    LINGERING = "lingering"
    DONE = "done"


class Drain:
    """State machine without a clock of its own: the host calls ``tick`` and is told what to do through callbacks.

    ``stop_accepting``, ``open_connections``, ``cut`` act on the data side; ``finished`` is called once, at the end of
    a drain that ends the process. The window is in seconds of the host's clock.
    """

    def __init__(
        self,
        window_s: float,
        *,
        stop_accepting: Callable[[], None],
        open_connections: Callable[[], int],
        cut: Callable[[], int],
        finished: Callable[[], None],
    ) -> None:
        self.window_s = window_s
        self.phase = Phase.SERVING
        self._stop_accepting = stop_accepting
        self._open_connections = open_connections
        self._cut = cut
        self._finished = finished
        self._deadline = 0.0
        self._exits = False
        self._skip_stop = False

    @property
    def draining(self) -> bool:
        return self.phase is not Phase.SERVING

    @property
    def exits(self) -> bool:
        """Whether the process ends when this drain is over."""
        return self._exits

    def begin(self, now: float, *, exits: bool, skip_stop: bool = False, idle: bool = False) -> None:
        """Start the window. `exits`: the process ends afterwards. `skip_stop`: mark as draining, but never stop.

        `idle`: there is nobody to wait for, so a process that is to end does so at the next tick.

        A second call while draining only adds to what was asked; it does not start the window again.
        """
        self._exits = self._exits or exits
        self._skip_stop = (self._skip_stop or not self.draining) and skip_stop
        if not self.draining:
            self.phase = Phase.DRAINING
            self._deadline = now if idle and exits else now + self.window_s
        elif self.phase is Phase.DONE and self._exits:
            self._finish()

    def stop_now(self, now: float) -> None:
        """Skip the rest of the window: stop accepting at once. Open connections go on."""
        if self.phase in (Phase.SERVING, Phase.DRAINING):
            self._stop_accepting()
            self.phase = Phase.LINGERING
            self._deadline = now + self.window_s

    def tick(self, now: float) -> None:
        """Move on when it is time to. Call it about ten times a second while draining."""
        if self.phase is Phase.DRAINING and now >= self._deadline and not (self._skip_stop and not self._exits):
            self._stop_accepting()
            self.phase = Phase.LINGERING
            self._deadline = now + self.window_s
        if self.phase is Phase.LINGERING:
            if self._open_connections() == 0:
                self._finish()
            elif now >= self._deadline and self._exits:
                self._cut()
                self._finish()

    def _finish(self) -> None:
        self.phase = Phase.DONE
        if self._exits:
            self._finished()
