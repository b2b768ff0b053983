"""What a check is given and what it answers, whatever its kind."""

from dataclasses import dataclass
from typing import Protocol

# Applications tell checks from traffic by it.
USER_AGENT = "Envoy/HC"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one check said. ``network``: no answer came; ``at_once``: the threshold does not matter."""

    passed: bool = False
    degraded: bool = False
    at_once: bool = False
    timed_out: bool = False
    network: bool = False
    withdrawn: bool = False
    verified: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a check goes: an address, or the path of a Unix socket with port 0. ``hostname`` is for HTTP."""

    host: str
    port: int
    hostname: str = ""


class Probe(Protocol):
    """Checks one endpoint, one check at a time."""

    async def check(self) -> Outcome:
        """Check once, within the timeout."""

    async def wait(self, wait_s: float) -> Outcome | None:
        """Wait for so long; earlier only with an outcome that came by itself."""

    def close(self) -> None:
        """Give up what is open."""
