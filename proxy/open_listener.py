"""A listener with its sockets, as `listeners` keeps it and admin shows it."""

from dataclasses import dataclass, field

from eastgate.fastpath.match.route_table import RouteTable
from eastgate.xds.resources import Listener


@dataclass(slots=True)
class Bound:
    """One listening socket. ``number`` None: it could not be bound, `error` says why, and it is tried again."""

    host: str
    port: int
    number: int | None = None
    error: str = ""
    asked: tuple[str, int] = ("", 0)
    """The address that LDS asked for: port 0 was any."""


@dataclass(slots=True)
class OpenListener:
    """A listener's sockets, by address. ``draining``: it left LDS, or the process drains; open connections go on."""

    listener: Listener
    routes: RouteTable
    bound: dict[tuple[str, int], Bound] = field(default_factory=dict)
    skipped: str = ""
    retry_s: float = 0.0
