"""What connections began with where a PROXY header is looked for. Filters of several listeners may share one."""

from typing import NamedTuple, final

class Proxied(NamedTuple):
    """What connections of listeners that take PROXY headers began with: no header, or one of these versions.

    `disallowed`: of a version that the listener does not take; `error`: one that is none.
    """

    not_found_allowed: int
    not_found_disallowed: int
    v1_found: int
    v1_disallowed: int
    v1_error: int
    v2_found: int
    v2_disallowed: int
    v2_error: int

@final
class ProxyCounts:
    """The counters of one stat_prefix. Whoever opens listeners keeps one object for each prefix."""

    def counters(self) -> Proxied:
        """Proxied, as it is now."""
