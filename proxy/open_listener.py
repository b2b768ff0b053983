"""A listener with its addresses, as `listeners` keeps it and admin shows it."""

from dataclasses import field

from eastgate.fastpath.match.route_table import RouteTable
from eastgate.xds.record import record
from eastgate.xds.resources import Listener


@record(frozen=False)
class Bound:
    """One address of a listener. ``number`` None: it could not be bound, `error` says why, and it is tried again.
    ``listens``: there is a socket; without, connections are handed over by another listener.
    """

    host: str
    port: int
    number: int | None = None
    error: str = ""
    asked: tuple[str, int] = ("", 0)
    """The address that LDS asked for: port 0 was any."""
    listens: bool = False


@record(frozen=False)
class OpenListener:
    """A listener by its addresses, as it is published."""

    listener: Listener
    routes: RouteTable
    bound: dict[tuple[str, int], Bound] = field(default_factory=dict)
    skipped: str = ""
    retry_s: float = 0.0


@record(frozen=False)
class Retired:
    """One address that no longer accepts, while connections of it are open. ``left``: it has left the configuration;
    else the process drains. ``heir``: number of the one that its connections are judged by, once that is ``told``.
    """

    name: str
    number: int
    bound: Bound
    left: bool
    heir: int | None = None
    told: bool = False
