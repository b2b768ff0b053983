"""Who may ask the admin, and what is asked for.

Loopback alone does not keep a browser's page out, so requests whose Host is no loopback name, or that carry an Origin
or a Sec-Fetch-Site of another site, are refused.
"""

from collections.abc import Mapping
from dataclasses import field
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

from eastgate.proxy.patterns import Pattern
from eastgate.proxy.stats_config import StatsMatcher
from eastgate.xds.record import record

from .http_server import Request
from .stat import TYPES, Choice


def is_loopback_name(host: str) -> bool:
    """Whether a Host header names this machine by a loopback address."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def foreign(request: Request) -> str:
    """Why a request is none of this machine's: what a page of another site could send through a browser. Else empty."""
    host, origin = request.headers.get("host", ""), request.headers.get("origin", "")
    if not is_loopback_name(host):
        return f"admin answers to loopback names only, not to Host {host}"
    if origin and not is_loopback_name(urlsplit(origin).netloc):
        return f"admin does not answer pages of {origin}"
    # What a page loads without saying its origin: images, scripts, forms. "none": typed by a person.
    if (site := request.headers.get("sec-fetch-site", "none")) not in ("same-origin", "none"):
        return f"admin does not answer pages of another site (Sec-Fetch-Site: {site})"
    return ""


def query_of(request: Request) -> dict[str, str]:
    """Query parameters, undecoded but for %XX: pilot-agent sends regular expressions raw, and + is no blank there."""
    pairs = (part.partition("=") for part in request.query.split("&") if part)
    return {unquote(key): unquote(value) for key, _, value in pairs}


@record
class Wanted:
    """Which counters are asked for. Equal ones ask for the same."""

    filter: str = ""
    used_only: bool = False
    type: str = "All"
    pattern: Pattern | None = field(default=None, compare=False)

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> "Wanted":
        """Raises PatternError."""
        text = query.get("filter", "")
        return cls(text, "usedonly" in query, query.get("type", "All"), Pattern(text) if text else None)

    def named(self, name: str) -> bool:
        return self.pattern is None or self.pattern.found_in(name)

    def choice(self, matcher: StatsMatcher) -> Choice:
        """The counters that are asked for, of those that the matcher shows. Raises KeyError for a type that is none."""
        kinds = TYPES[self.type]
        shows = None if matcher.shows_all else matcher.shows
        if self.pattern is None:
            return Choice(shows, None, self.used_only, kinds)
        matches = self.named if shows is None else lambda name: matcher.shows(name) and self.named(name)
        return Choice(matches, self.pattern.may_be_found_in, self.used_only, kinds)
