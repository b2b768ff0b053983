"""Sheds new connections before the memory of the cgroup ends, and says so."""

from collections.abc import Callable

from .limits import Memory, Overload
from .log import Log

# How often the memory that the cgroup grants is looked at.
LOOK_S = 0.25


class Shedding:
    """``look`` as often as there is time; `shed` is told when new connections are to be refused, and when no longer."""

    def __init__(self, memory: Memory, shed: Callable[[bool], None], log: Log) -> None:
        self._overload = Overload(memory)
        self._shed = shed
        self._log = log
        self._look_again_s = 0.0

    @property
    def pressure(self) -> float | None:
        """Part of the memory limit that was in use at the last look; None without a limit."""
        return self._overload.pressure if self._overload.memory.limit_bytes is not None else None

    @property
    def active(self) -> bool:
        return self._overload.active

    def look(self, now_s: float) -> None:
        """Look at the memory, unless that was done just now."""
        limit = self._overload.memory.limit_bytes
        if limit is None or now_s < self._look_again_s:
            return
        self._look_again_s = now_s + LOOK_S
        if self._overload.update():
            self._shed(self.active)
            event = "memory ends, new connections are shed" if self.active else "connections are taken again"
            self._log.warning(event, used=f"{self._overload.pressure:.0%}", limit=limit)
