"""What a check is given and what it answers, whatever its kind."""

import errno
import os
from typing import Protocol

from eastgate.xds.bind_config import NO_BIND, Bind
from eastgate.xds.record import record

# What this process or machine lacks when it cannot begin to connect.
LOCAL_ERRORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}

# Applications tell checks from traffic by it.
USER_AGENT = "Envoy/HC"


@record
class Outcome:
    """What one check said. ``network``: no answer came; ``at_once``: the threshold does not matter; ``local``: it could
    not be made for want of something of our own, which says nothing of the endpoint.
    """

    passed: bool = False
    degraded: bool = False
    at_once: bool = False
    timed_out: bool = False
    network: bool = False
    withdrawn: bool = False
    verified: bool = False
    local: bool = False
    reason: str = ""


@record
class Target:
    """Where a check goes: an address, or the path of a Unix socket with port 0. ``hostname`` is for HTTP; ``bind``:
    what its connections come from.
    """

    host: str
    port: int
    hostname: str = ""
    bind: Bind = NO_BIND


def lacks_descriptors() -> bool:
    """Whether this process cannot open a descriptor now: for libraries that do not say why they failed."""
    try:
        os.close(os.dup(0))
    except OSError as error:
        # Without a stdin there is nothing to copy, and no want of descriptors.
        return error.errno in LOCAL_ERRORS
    return False


class Probe(Protocol):
    """Checks one endpoint, one check at a time."""

    async def check(self) -> Outcome:
        """Check once, within the timeout."""

    async def wait(self, wait_s: float) -> Outcome | None:
        """Wait for so long; earlier only with an outcome that came by itself."""

    def close(self) -> None:
        """Give up what is open."""
